"""What was read, as samples under the names that users ask for. Pure.

Names are as Prometheus has them: the unit at the end, `_total` behind what is counted up from the start of a container
or of the machine. Percent of processors are of one: 250 are two and a half that are busy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from appliance.engine.usage.counters import Counters
from appliance.gpu.types import Device, Inventory, Mig
from appliance.sampling.machine import Machine
from appliance.telemetry.metrics.types import MACHINE, Labels, Sample, Subject

SHORTEST_S = 0.2
"""Processor time is counted in pieces: over less time than this a share of it says nothing."""
_MACHINE = Subject(MACHINE, "", "", "")


@dataclass(frozen=True, slots=True)
class Busy:
    """Processor time that was counted up to a moment of a clock that nobody sets."""

    at: float
    cpu_s: float


def percent(before: Busy | None, after: Busy) -> float | None:
    """Of one processor, as a mean since the look before; None: there was none, or it was just now.

    A counter that went back has begun anew: what it shows was used since then.
    """
    seconds = after.at - before.at if before else 0.0
    if before is None or seconds < SHORTEST_S:
        return None
    used = after.cpu_s - before.cpu_s
    return 100 * (used if used >= 0 else after.cpu_s) / seconds


def of_container(subject: Subject, counters: Counters, cpu_percent: float | None, *, at: float) -> list[Sample]:
    """`at` in unix seconds; what is not known has no sample."""
    values = {
        "container_cpu_percent": cpu_percent,
        "container_cpu_seconds_total": counters.cpu_s,
        "container_memory_bytes": counters.memory,
        "container_memory_limit_bytes": counters.memory_limit,
        "container_io_read_bytes_total": counters.read,
        "container_io_written_bytes_total": counters.written,
        "container_network_received_bytes_total": counters.received,
        "container_network_sent_bytes_total": counters.sent,
        "container_pids": counters.pids,
    }
    return _samples(subject, values, at)


def of_machine(machine: Machine, cpu_percent: float | None, *, at: float) -> list[Sample]:
    values = {
        "machine_cpu_percent": cpu_percent,
        "machine_cpus": machine.cpus,
        "machine_memory_bytes": machine.memory,
        "machine_memory_used_bytes": machine.memory_used,
        "machine_swap_used_bytes": machine.swap_used,
        "machine_disk_read_bytes_total": machine.read,
        "machine_disk_written_bytes_total": machine.written,
        "machine_network_received_bytes_total": machine.received,
        "machine_network_sent_bytes_total": machine.sent,
    }
    return _samples(_MACHINE, values, at)


def of_gpus(inventory: Inventory, owners: Mapping[int, Subject], *, at: float) -> list[Sample]:
    """The machine's cards, and what each container has of them. `owners`: pid -> whose container it runs in."""
    found: list[Sample] = []
    for device in inventory.devices:
        if device.lost:
            continue
        labels = (("gpu", device.uuid),)
        values = {
            "machine_gpu_percent": device.utilisation,
            "machine_gpu_memory_bytes": device.memory,
            "machine_gpu_memory_used_bytes": device.used,
            "machine_gpu_power_watts": device.power_w,
            "machine_gpu_temperature_celsius": device.temperature,
            "machine_gpu_sm_mhz": device.sm_mhz,
            "machine_gpu_energy_joules_total": device.energy_j,
        }
        found += _samples(_MACHINE, values, at, labels)
        parts: tuple[Device | Mig, ...] = (device, *device.migs)
        for one in parts:
            found += _of_programs(one, owners, at)
    return found


def _of_programs(device: Device | Mig, owners: Mapping[int, Subject], at: float) -> Iterator[Sample]:
    """Where the driver does not tell of one program, the sum of all would be wrong, and is left out."""
    programs: dict[Subject, list[tuple[int | None, int | None]]] = {}
    for process in device.processes or ():
        if owner := owners.get(process.pid):
            programs.setdefault(owner, []).append((process.memory, process.sm))
    labels = (("gpu", device.uuid),)
    for owner, told in programs.items():
        memory, busy = ([one[column] for one in told] for column in (0, 1))
        values = {"container_gpu_memory_bytes": _sum(memory), "container_gpu_percent": _sum(busy)}
        yield from _samples(owner, values, at, labels)


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _samples(subject: Subject, values: Mapping[str, float | None], at: float, labels: Labels = ()) -> list[Sample]:
    return [
        Sample(subject, metric, float(value), at, None, labels) for metric, value in values.items() if value is not None
    ]
