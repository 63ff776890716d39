"""What a container may use of this machine: the limits that a table of config.toml sets. Gradient's names set none."""

from __future__ import annotations

import os
from dataclasses import dataclass

from appliance.settings import Settings
from appliance.spec.machine_tables import read_machines
from appliance.spec.machines import known, own_shape


@dataclass(frozen=True, slots=True)
class Limits:
    cpus: float
    """0: no limit, as of `memory_bytes`."""
    memory_bytes: int
    shm_bytes: int


def limits_of(machine: str, settings: Settings, *, shm: int | None = None) -> Limits:
    """Of a spec that names this machine type. `shm`: what the spec itself says, bytes; it goes before the table.

    The engine refuses more processors than there are. Raises UsageError for tables with which no daemon starts.
    """
    machines = read_machines(settings.machines, str(settings.config_file), default=settings.machine)
    found = own_shape(machine, machines)
    if found is None and machine and not known(machine, machines):
        found = own_shape(settings.machine, machines)
    if shm is None and found:
        shm = found.shm
    return Limits(
        cpus=min(found.cpus, os.cpu_count() or 1) if found else 0.0,
        memory_bytes=found.memory if found else 0,
        shm_bytes=settings.shm_mb << 20 if shm is None else shm,
    )
