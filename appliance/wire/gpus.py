"""GPUs: what they do at present, who has them, who waits, and what they came to. None: the driver does not tell."""

from __future__ import annotations

from typing_extensions import TypedDict


class GpuHolder(TypedDict):
    """Who has a card. `freeing`: it has let go, and something of it may still be there."""

    lease: str
    kind: str
    name: str
    part: str
    owner: str
    since: float
    freeing: bool
    message: str
    used: float | None
    """Percent of the time in which its own kernels ran, as of the last sample."""


class GpuCard(TypedDict):
    """What is leased as one: a whole GPU, or an instance of one that is split."""

    uuid: str
    profile: str
    """Of an instance, as `1g.10gb`; empty: the whole."""
    memory: int | None
    used: int | None
    state: str
    """`ok`, `drained` (nothing new is put there), `lost`, `foreign` (somebody outside the appliance computes there)."""
    why: str
    holders: list[GpuHolder]


class GpuProcess(TypedDict):
    pid: int
    memory: int | None
    sm: int | None
    graphics: bool


class Gpu(TypedDict):
    id: str
    """Its UUID: names are those of a model, and several cards have one."""
    uuid: str
    index: int
    """Its place among the cards of now; it may be another after a reboot."""
    name: str
    bus: str
    serial: str | None
    memory: int | None
    used: int | None
    split: bool
    """By MIG: it is leased by its instances."""
    utilisation: int | None
    memory_utilisation: int | None
    power_w: float | None
    limit_w: float | None
    energy_j: float | None
    """Since the driver was loaded."""
    temperature: int | None
    sm_mhz: int | None
    memory_mhz: int | None
    fan: int | None
    throttled: list[str]
    """Why it runs slower than it could, in words, the gravest first."""
    ecc_corrected: int | None
    ecc_uncorrected: int | None
    pcie: str | None
    persistence: bool | None
    lost: str
    """Why it does not answer; empty: it does."""
    fault: str
    """The last thing that went wrong there; empty: nothing did."""
    processes: list[GpuProcess] | None
    cards: list[GpuCard]


class Gpus(TypedDict):
    at: float
    driver: str | None
    cuda: str | None
    message: str
    ok: bool
    items: list[Gpu]


class GpuLease(TypedDict):
    """A container's claim on GPUs: one that has them, or one that waits."""

    id: str
    state: str
    """`held`, `freeing` or `waiting`."""
    kind: str
    name: str
    part: str
    owner: str
    priority: int
    preemptible: bool
    cards: list[str]
    asks: str
    """The shape in words, as `2 GPUs` or `1g.10gb`."""
    asked: float
    since: float | None
    """When it got them."""
    place: int
    """In the queue, from 1; 0: it waits in none."""
    why: str
    behind: str
    forecast: float | None
    """When it may begin; None: nobody knows."""
    container: str
    message: str


class GpuUse(TypedDict):
    """What one has had of GPUs. Energy is an estimate wherever `measured` is false."""

    key: str
    held_s: float
    """Seconds of a whole GPU; an instance counts as its slices, a shared one as the memory that was promised."""
    used_s: float | None
    memory_gb_h: float | None
    energy_j: float | None
    measured: bool


class GpuLedger(TypedDict):
    by: str
    since: float
    items: list[GpuUse]


class DrainRequest(TypedDict, total=False):
    why: str


class ResumeRequest(TypedDict):
    """Nothing to say."""
