"""What Gradient's machine types were. Here a type's name limits nothing; it says what 100 percent of a replica are."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CPU_TYPES = {
    "C1": (1, 0.5),
    "C3": (2, 2),
    "C4": (2, 4),
    "C5": (4, 8),
    "C6": (8, 16),
    "C7": (12, 30),
    "C8": (16, 60),
    "C9": (24, 120),
    "C10": (32, 244),
}
_GPU_TYPES = {
    "GPU+": (8, 30),
    "M4000": (8, 30),
    "P4000": (8, 30),
    "P5000": (8, 30),
    "P6000": (8, 30),
    "RTX4000": (8, 30),
    "RTX5000": (8, 30),
    "A4000": (8, 45),
    "A5000": (8, 45),
    "A6000": (8, 45),
    "V100": (8, 30),
    "V100-32G": (8, 30),
    "A100": (12, 90),
    "A100-80G": (12, 90),
    "H100": (20, 250),
}
"""Name -> processors, memory in GB."""
_SEVERAL = re.compile(r"(?P<name>.+)x(?P<count>[248])")


@dataclass(frozen=True, slots=True)
class Machine:
    cpus: float
    memory: int
    """Bytes."""
    gpus: int = 0


def machine(name: str) -> Machine | None:
    """None where the name says nothing here: each house had types of its own."""
    name = name.removeprefix("Free-")
    found = _SEVERAL.fullmatch(name)
    count = int(found["count"]) if found else 1
    if found:
        name = found["name"]
    if count == 1 and name in _CPU_TYPES:
        cpus, memory = _CPU_TYPES[name]
        return Machine(cpus, int(memory * 1e9))
    if name in _GPU_TYPES:
        cpus, memory = _GPU_TYPES[name]
        return Machine(cpus * count, int(memory * count * 1e9), count)
    return None


def share(name: str, host: Machine) -> Machine:
    """What one replica on a machine of this type may use of this machine."""
    found = machine(name)
    return Machine(min(found.cpus, host.cpus), min(found.memory, host.memory)) if found else host
