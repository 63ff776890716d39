"""To whom what a card did between two looks at it is counted. Pure.

Energy is split so that the shares of a card add up to what the card used. The part of the time in which no kernel ran
is counted to whoever holds the card (to nobody, where none does), the other part by the time each one's kernels ran.
A card says nothing of energy for each program, so every figure of one is an estimate, the better the fewer share it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.gpu.types import Device, Inventory, Process
from appliance.scheduler.types import Held

IDLE = "idle"
"""In place of a lease: nobody held it."""
UNATTRIBUTED = "unattributed"
"""In place of a lease: programs that hold no lease of it, or that cannot be told apart."""
GB = 1e9
LONGEST_S = 10.0
"""Looks that lie further apart say nothing of what was between: counters go on, percentages do not."""
SLICES = 7
"""Compute slices of a card that can be split."""

_SLICES = re.compile(r"(\d+)g\.")


@dataclass(frozen=True, slots=True)
class Share:
    lease: str
    """Id of its request, or IDLE or UNATTRIBUTED."""
    card: str
    """UUID of what is leased: the GPU, or the instance of one."""
    parent: str
    """UUID of the GPU."""
    used_s: float | None
    """Seconds in which its kernels ran on the whole of the card; None: it cannot be seen."""
    memory_gb_s: float | None
    """Gigabytes (10^9 bytes) times seconds."""
    energy_j: float | None
    measured: bool
    """The energy is what the card's counter said, and was this lease's alone."""


def shares(before: Inventory, after: Inventory, held: Sequence[Held], leases: Mapping[int, str]) -> tuple[Share, ...]:
    """`leases`: pid -> id of the lease of the container that it runs in."""
    seconds = after.at - before.at
    earlier = {device.uuid: device for device in before.devices}
    found: list[Share] = []
    for device in after.devices:
        previous = earlier.get(device.uuid)
        if previous is None or previous.lost or device.lost or seconds <= 0:
            continue
        energy, counted = _energy(previous, device, seconds)
        if device.mig:
            found += _split(device, energy, seconds, held, leases)
        else:
            found += _whole(device, energy, counted, seconds, held, leases)
    return tuple(found)


def _energy(before: Device, after: Device, seconds: float) -> tuple[float | None, bool]:
    """Joules, and whether a counter said so; that begins anew with the driver."""
    if before.energy_j is not None and after.energy_j is not None and after.energy_j >= before.energy_j:
        return after.energy_j - before.energy_j, True
    if after.power_w is None or seconds > LONGEST_S:
        return None, False
    power = after.power_w if before.power_w is None else (before.power_w + after.power_w) / 2
    return power * seconds, False


def _whole(
    device: Device,
    energy: float | None,
    counted: bool,
    seconds: float,
    held: Sequence[Held],
    leases: Mapping[int, str],
) -> list[Share]:
    holders = [lease for lease in held if device.uuid in lease.cards]
    near = seconds <= LONGEST_S
    tenants = _tenants(device.processes, {lease.request.id for lease in holders}, leases)
    busy = None if device.utilisation is None or not near else min(1.0, device.utilisation / 100)
    weights = _kernels(tenants, holders, busy)
    alone = len(holders) == 1 and UNATTRIBUTED not in tenants
    budgets = _budgets(holders)
    found = []
    for name in [*budgets, *(name for name in (IDLE, UNATTRIBUTED) if name not in budgets)]:
        part = (1 - (busy or 0.0)) * budgets.get(name, 0.0) + (busy or 0.0) * (weights or budgets).get(name, 0.0)
        told = name not in (IDLE, UNATTRIBUTED)
        if not told and not part and not tenants.get(name):
            continue
        own = tenants.get(name, [] if device.processes is not None else None)
        found.append(
            Share(
                lease=name,
                card=device.uuid,
                parent=device.uuid,
                used_s=None if busy is None or weights is None else busy * weights.get(name, 0.0) * seconds,
                memory_gb_s=_memory(own, device.used if alone and told else None, seconds) if near else None,
                energy_j=None if energy is None else energy * part,
                measured=counted and alone and told,
            )
        )
    return found


def _split(
    device: Device, energy: float | None, seconds: float, held: Sequence[Held], leases: Mapping[int, str]
) -> list[Share]:
    """The card tells its power for all instances together: each one's part is that of its slices."""
    sizes = {mig.uuid: slices(mig.profile) for mig in device.migs}
    total = max(SLICES, sum(sizes.values()))
    found = []
    for mig in device.migs:
        names = [lease.request.id for lease in held if mig.uuid in lease.cards]
        tenants = _tenants(mig.processes, set(names), leases)
        holders = names or [UNATTRIBUTED if UNATTRIBUTED in tenants else IDLE]
        part = sizes[mig.uuid] / total / len(holders)
        for holder in holders:
            own = tenants.get(holder, [] if mig.processes is not None else None)
            whole = mig.used if len(names) == 1 else None
            found.append(
                Share(
                    lease=holder,
                    card=mig.uuid,
                    parent=device.uuid,
                    used_s=None,
                    memory_gb_s=_memory(own, whole, seconds) if seconds <= LONGEST_S else None,
                    energy_j=None if energy is None else energy * part,
                    measured=False,
                )
            )
    if energy is not None and (left := total - sum(sizes.values())):
        found.append(Share(IDLE, device.uuid, device.uuid, None, None, energy * left / total, measured=False))
    return found


def slices(profile: str) -> int:
    """Of an instance's compute; instances of compute in one of memory are called `1c.3g.20gb` and have their own."""
    inner = re.match(r"(\d+)c\.", profile)
    outer = _SLICES.search(profile)
    return int(inner[1]) if inner else int(outer[1]) if outer else 1


def _tenants(
    processes: Sequence[Process] | None, holders: set[str], leases: Mapping[int, str]
) -> dict[str, list[Process]]:
    """Lease -> its programs. One that draws a screen and computes nothing is nobody's."""
    found: dict[str, list[Process]] = {}
    for process in processes or ():
        lease = leases.get(process.pid, "")
        if lease in holders:
            found.setdefault(lease, []).append(process)
        elif not process.graphics:
            found.setdefault(UNATTRIBUTED, []).append(process)
    return found


def _kernels(
    tenants: Mapping[str, Sequence[Process]], holders: Sequence[Held], busy: float | None
) -> dict[str, float] | None:
    """Whose kernels ran, as parts of one; None: that cannot be told apart."""
    if not busy:
        return {}
    known = {name: sum(process.sm or 0 for process in found) for name, found in tenants.items()}
    if total := sum(known.values()):
        return {name: number / total for name, number in known.items()}
    computing = [name for name, found in tenants.items() if any(not process.graphics for process in found)]
    if len(computing) == 1:  # nobody else can have been
        return {computing[0]: 1.0}
    if len(holders) == 1 and UNATTRIBUTED not in tenants:
        return {holders[0].request.id: 1.0}
    return None if holders else {UNATTRIBUTED: 1.0}


def _budgets(holders: Sequence[Held]) -> dict[str, float]:
    """Holder -> its part of the time in which the card does nothing, by the memory it was promised."""
    if not holders:
        return {IDLE: 1.0}
    total = sum(lease.request.shape.share for lease in holders)
    even = 1 / len(holders)
    return {lease.request.id: lease.request.shape.share / total if total else even for lease in holders}


def _memory(processes: Sequence[Process] | None, whole: int | None, seconds: float) -> float | None:
    """`whole`: what the card has in use, where that is all of the one that is asked about."""
    if processes is not None and all(process.memory is not None for process in processes):
        return sum(process.memory or 0 for process in processes) * seconds / GB
    return None if whole is None else whole * seconds / GB
