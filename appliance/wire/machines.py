"""Machine types: what a name gives on this machine."""

from __future__ import annotations

from typing_extensions import TypedDict


class Machine(TypedDict):
    name: str
    source: str
    """`config`: a table of config.toml; `gradient`: of Gradient's catalogue."""
    also: list[str]
    """Other names for it."""
    gives: str
    """In words."""
    gpus: int
    mig: str
    """Instances of this profile in place of whole GPUs; empty: whole ones."""
    share: int
    """So much memory of one GPU that it shares with others; 0: its own alone."""
    least: int
    """A GPU has at least so much memory; 0: any."""
    model: str
    """A pattern of the GPU's name; empty: any."""
    cpus: float
    """As `memory` 0 where it limits nothing."""
    memory: int
    shm: int | None
    """None: the setting `shm_mb`."""
    priority: int
    preemptible: bool
    free: int | None
    """So many of it could begin now; None: it needs no GPU, or this machine has none."""
    warning: str
    """What is other than the name says."""
