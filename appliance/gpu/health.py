"""What two looks at the cards say of their health. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from appliance.gpu.types import Device, Fault, FaultKind, Inventory
from appliance.gpu.xids import REBOOT, RESET, SERVICE

RECOVERY = {
    1: f"the driver wants it reset: {RESET}",
    2: f"the driver wants a restart of the machine: {REBOOT}",
    3: "the driver wants what other cards share with it ended: stop what uses several cards",
    4: f"the driver wants it drained and reset: {RESET}",
    5: "the driver wants the fabric's memory service (IMEX) restarted",
    6: f"the driver wants its bus reset: {REBOOT}",
    7: f"the driver wants a restart of the machine: {REBOOT}",
}
"""By NVML's number of the recovery action."""
TOLD = ("recovery", "remap_failed", "remap_pending", "ecc_uncorrected")


def faults(known: Mapping[str, Device], after: Inventory) -> tuple[Fault, ...]:
    """What is new to whoever knew the cards so; of a card that was not known, all that is wrong with it."""
    return tuple(
        Fault(after.at, device.uuid, kind, words)
        for device in after.devices
        for kind, words in _new(known.get(device.uuid) or Device(device.uuid, device.index), device)
    )


def remember(known: Mapping[str, Device], after: Inventory) -> dict[str, Device]:
    """What was not told this time is as it was: a card that comes back has nothing new to tell by that."""
    return {**known, **{device.uuid: _over(known.get(device.uuid), device) for device in after.devices}}


def _over(before: Device | None, after: Device) -> Device:
    if before is None:
        return after
    kept = {name: getattr(before, name) for name in TOLD if getattr(after, name) is None}
    return replace(after, **kept)


def _new(before: Device, after: Device) -> list[tuple[FaultKind, str]]:
    found: list[tuple[FaultKind, str]] = []
    if after.lost:
        return [("card", f"it {after.lost}")] if not before.lost else []
    if after.recovery and after.recovery != before.recovery:
        words = RECOVERY.get(after.recovery, f"the driver wants something done for it (action {after.recovery})")
        found.append(("card", words))
    if after.remap_failed and not before.remap_failed:
        found.append(("card", f"bad memory could not be replaced; {SERVICE}"))
    if after.remap_pending and not before.remap_pending:
        found.append(("note", "bad memory is replaced at its next reset; reset it when convenient"))
    if more := _more(before.ecc_uncorrected, after.ecc_uncorrected):
        errors = "error" if more == 1 else "errors"
        found.append(("note", f"{more} uncorrectable memory {errors}; watch whether they go on"))
    return found


def _more(before: int | None, after: int | None) -> int:
    """A counter that is smaller than before has begun anew."""
    if after is None:
        return 0
    return after - before if before is not None and after >= before else after
