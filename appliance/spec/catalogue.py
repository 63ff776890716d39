"""Gradient's machine types, and the labels that real files write for them. A name of the catalogue limits nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

GB = 10**9
GIB = 2**30

_CPU_TYPES: dict[str, tuple[float, float]] = {
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
"""Name -> processors, memory in GB."""
_GPU_TYPES: dict[str, tuple[float, float, int]] = {
    "GPU+": (8, 30, 8),
    "M4000": (8, 30, 8),
    "P4000": (8, 30, 8),
    "P5000": (8, 30, 16),
    "P6000": (8, 30, 24),
    "RTX4000": (8, 30, 8),
    "RTX5000": (8, 30, 16),
    "A4000": (8, 45, 16),
    "A5000": (8, 45, 24),
    "A6000": (8, 45, 48),
    "V100": (8, 30, 16),
    "V100-32G": (8, 30, 32),
    "A100": (12, 90, 40),
    "A100-80G": (12, 90, 80),
    "H100": (20, 250, 80),
}
"""Name -> processors, memory in GB, memory of the GPU in GB as its maker counts, that is GiB."""
_FREE = {"Free-CPU": 0, "Free-GPU": 1}
"""Name -> GPUs. Gradient gave what was left over, so nothing else is told of them."""
NAMES = (*_CPU_TYPES, *_GPU_TYPES, *_FREE)
FREE_PRIORITY = -50
LONGEST = 100
"""Characters of a name that is looked at."""

_CANONICAL = {name.lower(): name for name in NAMES}
_LABEL = re.compile(
    r"(?P<free>free-?)?(?P<base>[a-z0-9][a-z0-9+-]*?)(?:(?P<size>-[0-9]+g)b?)?(?:-[0-9]+c)?(?:x(?P<count>[1-9][0-9]?))?",
    re.ASCII,
)
"""Of a name in small letters. `A4000-8C`, `A100-80GBx4` and `FreeCPU` are mistakes that real files have."""


@dataclass(frozen=True, slots=True)
class Label:
    """A name taken apart."""

    base: str
    count: int = 1
    free: bool = False
    """Of Gradient's free machines, which make way for all others."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What stands under a name in the catalogue, as often as the name says."""

    cpus: float
    """As `memory` 0 where it is not known."""
    memory: int
    """Bytes."""
    gpus: int = 0
    gpu_memory: int = 0
    """Of each, bytes, as it is sold; 0: any will do."""
    free: bool = False


def label(name: str) -> Label:
    """The base is of the catalogue's own spelling where it has it, else as it was written."""
    if len(name) > LONGEST or not name.isascii() or (found := _LABEL.fullmatch(name.lower())) is None:
        return Label(name)
    base = found["base"] + (found["size"] or "")
    free, count = bool(found["free"]), int(found["count"] or 1)
    if free and base in ("cpu", "gpu"):
        return Label(_CANONICAL[f"free-{base}"], count, free=True)
    written = name[found.start("base") : found.start("base") + len(base)]
    return Label(_CANONICAL.get(base, written), count, free)


def machine(name: str) -> Machine | None:
    """None where the name says nothing here: each house had types of its own."""
    found = label(name)
    many = found.count
    if found.base in _FREE:
        return Machine(0, 0, many * _FREE[found.base], free=True)
    if many == 1 and found.base in _CPU_TYPES:
        cpus, memory = _CPU_TYPES[found.base]
        return Machine(cpus, int(memory * GB), free=found.free)
    if found.base in _GPU_TYPES:
        cpus, memory, gpu = _GPU_TYPES[found.base]
        return Machine(cpus * many, int(memory * many * GB), many, gpu * GIB, found.free)
    return None
