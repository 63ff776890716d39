"""What is known of the machine's GPUs at one moment. Whatever the driver does not tell is None, never 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Process:
    """A program on a GPU; `pid` as the machine itself counts."""

    pid: int
    memory: int | None = None
    """Bytes."""
    sm: int | None = None
    """Percent of the time of the last sample in which it had a kernel on the card."""
    graphics: bool = False
    """It draws and computes nothing: a desktop, a browser."""


@dataclass(frozen=True, slots=True)
class Mig:
    """An instance of a card that was split by MIG; the smallest thing of such a card that a container can be given."""

    uuid: str
    profile: str
    """As `1g.10gb`."""
    gi: int | None = None
    ci: int | None = None
    memory: int | None = None
    used: int | None = None
    processes: tuple[Process, ...] | None = None
    """None: they cannot be seen."""


@dataclass(frozen=True, slots=True)
class Device:
    uuid: str
    index: int
    """Its place among the cards of now: it may be another after a reboot, so nothing is kept under it."""
    name: str = ""
    minor: int | None = None
    """N of /dev/nvidiaN."""
    bus: str = ""
    serial: str | None = None
    memory: int | None = None
    """Bytes."""
    used: int | None = None
    mig: bool = False
    """Split: it is given by its `migs` only."""
    migs: tuple[Mig, ...] = ()
    processes: tuple[Process, ...] | None = None
    """None: they cannot be seen."""
    utilisation: int | None = None
    """Percent of the time in which any kernel ran."""
    memory_utilisation: int | None = None
    power_w: float | None = None
    limit_w: float | None = None
    energy_j: float | None = None
    """A counter since the driver was loaded; a smaller value than before is another beginning."""
    temperature: int | None = None
    """Degrees Celsius."""
    sm_mhz: int | None = None
    memory_mhz: int | None = None
    reasons: int | None = None
    """Bits of NVML's clock event reasons."""
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    remap_pending: bool | None = None
    """Rows of bad memory are to be replaced at the next reset; the card goes on until then."""
    remap_failed: bool | None = None
    """There was no row left to replace one with: the card is to be exchanged."""
    recovery: int | None = None
    """What the driver wants done before the card is used again, as NVML numbers it (`health.RECOVERY`); 0: nothing."""
    pcie: str | None = None
    """As `gen4 x16`: of now, which is less while the card rests."""
    pcie_most: str | None = None
    """What card and slot can do together."""
    fan: int | None = None
    persistence: bool | None = None
    lost: str = ""
    """Why it does not answer, in words; empty: it does."""


@dataclass(frozen=True, slots=True)
class Inventory:
    at: float
    """Unix seconds."""
    devices: tuple[Device, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    """The newest CUDA that the driver runs, as `12.4`."""
    message: str = ""
    """In words: what was found, or why nothing was."""
    ok: bool = True
    """False: there is a driver that fails. No GPU at all is fine."""
    present: bool = False
    """There is a driver: GPUs may come, so who asks for one waits for it."""


FaultKind = Literal["run", "card", "note"]
"""What a fault means: the program failed by itself, the card is not to be given to anybody, or it is only told."""


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    """Unix seconds."""
    uuid: str
    """Of the card."""
    kind: FaultKind
    words: str
    """What it was and the next step."""
    xid: int | None = None
    """NVIDIA's number of the error."""
    gi: int | None = None
    """The MIG instance it concerns; None: the whole card."""
