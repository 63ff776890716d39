"""One card, as the driver tells it now: what changes at each look, what changes seldom each few looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from appliance.gpu.nvml import Handle, Lost, count, text
from appliance.gpu.types import Device, Mig, Process

TEMPERATURE, SM_CLOCK, MEMORY_CLOCK = 0, 1, 2
CORRECTED, UNCORRECTED, SINCE_LOADED = 0, 1, 0
ENERGY_FIELD, RECOVERY_FIELD = 83, 230
MEMORY_V2 = 0x02000028
ENOUGH_UNKNOWN = 5
"""So many unknown errors in one look, and no memory told: the card is dead, whatever the codes say."""
FRACTIONS = 100
"""No share is above this many percent."""


@dataclass(slots=True)
class Reader:
    """Of one card. Raises Lost, Down from `read`."""

    handle: Handle
    fixed: Device
    """What does not change as long as the driver is loaded."""
    seldom: Device | None = None
    """With what changes seldom."""
    since: int = 0
    """The newest sample of its processes, in the driver's microseconds."""

    @classmethod
    def of(cls, index: int, uuid: str, raw: Any) -> Reader:
        handle = Handle(raw)
        pci = handle.ask("nvmlDeviceGetPciInfo_v3")
        fixed = Device(
            uuid=uuid,
            index=index,
            name=text(handle.ask("nvmlDeviceGetName")) or "",
            minor=count(handle.ask("nvmlDeviceGetMinorNumber")),
            bus=(text(pci.busId) or "").lower() if pci else "",
            serial=text(handle.ask("nvmlDeviceGetSerial")),
        )
        return cls(handle, fixed)

    def read(self, *, seldom: bool) -> Device:
        handle = self.handle
        handle.unknown = 0
        if seldom or self.seldom is None:
            self.seldom = _seldom(handle, self.fixed)
        total, used = memory(handle)
        rates = handle.ask("nvmlDeviceGetUtilizationRates")
        milliwatts = count(handle.ask("nvmlDeviceGetPowerUsage"))
        millijoules = count(handle.ask("nvmlDeviceGetTotalEnergyConsumption"))
        if millijoules is None:
            millijoules = count(handle.field(ENERGY_FIELD))
        modes = handle.ask("nvmlDeviceGetMigMode")
        split = bool(modes and modes[0])
        device = replace(
            self.seldom,
            memory=total,
            used=used,
            mig=split,
            migs=instances(handle) if split else (),
            processes=self._processes(),
            utilisation=count(rates.gpu, FRACTIONS + 1) if rates else None,
            memory_utilisation=count(rates.memory, FRACTIONS + 1) if rates else None,
            power_w=None if milliwatts is None else milliwatts / 1000,
            energy_j=None if millijoules is None else millijoules / 1000,
            temperature=_temperature(handle),
            sm_mhz=count(handle.ask("nvmlDeviceGetClockInfo", SM_CLOCK)),
            memory_mhz=count(handle.ask("nvmlDeviceGetClockInfo", MEMORY_CLOCK)),
            reasons=count(
                handle.first(("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"))
            ),
        )
        if total is None and handle.unknown >= ENOUGH_UNKNOWN:
            raise Lost("answers every question with an unknown error")
        return device

    def _processes(self) -> tuple[Process, ...] | None:
        found = processes(self.handle)
        if not found:
            return found
        samples = self.handle.busy(self.since)
        if samples is None:
            return found
        self.since = max([self.since, *(int(one.timeStamp) for one in samples)])
        newest: dict[int, Any] = {}
        for one in samples:
            if one.pid not in newest or one.timeStamp >= newest[one.pid].timeStamp:
                newest[one.pid] = one
        # who has no sample has done nothing
        return tuple(replace(one, sm=_sm(newest.get(one.pid))) for one in found)


def memory(handle: Handle) -> tuple[int | None, int | None]:
    """Bytes there are, and in use. Newer drivers count what they keep for themselves apart."""
    info = handle.ask("nvmlDeviceGetMemoryInfo", MEMORY_V2) or handle.ask("nvmlDeviceGetMemoryInfo")
    return (count(info.total), count(info.used)) if info else (None, None)


def processes(handle: Handle) -> tuple[Process, ...] | None:
    """Each program once; one that computes and draws, computes. None: they cannot be seen."""
    found: dict[int, Process] = {}
    told = False
    for kind in ("MPSCompute", "Compute", "Graphics"):
        name = f"nvmlDeviceGet{kind}RunningProcesses"
        raw = handle.first((f"{name}_v3", f"{name}_v2"))
        told |= raw is not None and kind != "MPSCompute"
        for one in raw or ():
            if one.pid not in found:
                found[one.pid] = Process(one.pid, count(one.usedGpuMemory), graphics=kind == "Graphics")
    return tuple(found[pid] for pid in sorted(found)) if told else None


def instances(handle: Handle) -> tuple[Mig, ...]:
    """Of a card that is split. The numbers of instances have holes."""
    found = []
    for number in range(count(handle.ask("nvmlDeviceGetMaxMigDeviceCount"), 64) or 0):
        raw = handle.ask("nvmlDeviceGetMigDeviceHandleByIndex", number)
        mig = Handle(raw) if raw is not None else None
        uuid = text(mig.ask("nvmlDeviceGetUUID")) if mig else None
        if mig is None or not uuid:
            continue
        total, used = memory(mig)
        found.append(
            Mig(
                uuid=uuid,
                profile=_profile(text(mig.ask("nvmlDeviceGetName")) or "", mig, total),
                gi=count(mig.ask("nvmlDeviceGetGpuInstanceId")),
                ci=count(mig.ask("nvmlDeviceGetComputeInstanceId")),
                memory=total,
                used=used,
                processes=processes(mig),
            )
        )
    return tuple(found)


def _profile(name: str, mig: Handle, total: int | None) -> str:
    """From `NVIDIA A100-SXM4-40GB MIG 1g.5gb`, else from its slices and memory."""
    _, found, profile = name.rpartition(" MIG ")
    if found and profile:
        return profile.strip()
    attributes = mig.ask("nvmlDeviceGetAttributes_v2")
    slices = count(attributes.gpuInstanceSliceCount, 64) if attributes else None
    return f"{slices}g.{round(total / 2**30)}gb" if slices and total else ""


def _seldom(handle: Handle, fixed: Device) -> Device:
    limit = count(handle.ask("nvmlDeviceGetEnforcedPowerLimit"))
    remapped = handle.ask("nvmlDeviceGetRemappedRows")
    persistence = handle.ask("nvmlDeviceGetPersistenceMode")
    return replace(
        fixed,
        limit_w=None if limit is None else limit / 1000,
        ecc_corrected=count(handle.ask("nvmlDeviceGetTotalEccErrors", CORRECTED, SINCE_LOADED)),
        ecc_uncorrected=count(handle.ask("nvmlDeviceGetTotalEccErrors", UNCORRECTED, SINCE_LOADED)),
        remap_pending=bool(remapped[2]) if remapped else None,
        remap_failed=bool(remapped[3]) if remapped else None,
        recovery=count(handle.field(RECOVERY_FIELD)),
        pcie=_link(handle, "Curr"),
        pcie_most=_link(handle, "Max"),
        fan=count(handle.ask("nvmlDeviceGetFanSpeed"), 1000),
        persistence=None if persistence is None else bool(persistence),
    )


def _link(handle: Handle, which: str) -> str | None:
    generation = count(handle.ask(f"nvmlDeviceGet{which}PcieLinkGeneration"), 100)
    width = count(handle.ask(f"nvmlDeviceGet{which}PcieLinkWidth"), 1000)
    return f"gen{generation} x{width}" if generation and width else None


def _temperature(handle: Handle) -> int | None:
    """Below zero is as good as any; the newer name of the question comes first, for the older one is to go."""
    found = handle.ask("nvmlDeviceGetTemperatureV", TEMPERATURE)
    if found is None:
        found = handle.ask("nvmlDeviceGetTemperature", TEMPERATURE)
    return found if isinstance(found, int) and -100 < found < 1000 else None


def _sm(sample: Any) -> int | None:
    return 0 if sample is None else count(sample.smUtil, FRACTIONS + 1)
