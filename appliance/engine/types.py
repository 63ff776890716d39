"""What crosses the engine room's door: plain values, no docker types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.engine.limits import Limit


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind of a host path. The source must exist; the engine never creates it."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything a container is made of. `name` is deterministic, so a repeated create finds the first one."""

    name: str
    image: str
    labels: Mapping[str, str]
    entrypoint: Sequence[str] | None = None
    """None keeps the image's."""
    command: Sequence[str] | None = None
    """None keeps the image's."""
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    publish: Sequence[int] = ()
    """Container TCP ports published on 127.0.0.1 at ports the engine picks; see Container.ports."""
    workdir: str | None = None
    user: str | None = None
    shm_bytes: int = 0
    """0 keeps the engine's default of 64 MiB."""
    memory_bytes: int = 0
    """0: no limit."""
    cpus: float = 0.0
    """0: no limit."""
    gpus: Sequence[str] = ()
    """GPU UUIDs. Empty: no GPU is visible, whatever the image says."""
    stop_signal: str | None = None
    limits: Sequence[Limit] = ()
    """Those that are not named stay as the engine has them."""


@dataclass(frozen=True, slots=True)
class Container:
    """What the engine says of a container."""

    id: str
    name: str
    image: str
    image_id: str
    labels: Mapping[str, str]
    state: str
    """created, running, paused, restarting, removing, exited or dead."""
    exit_code: int | None = None
    """None until it has ended."""
    oom_killed: bool = False
    error: str = ""
    """Why the engine could not start it, in the engine's words."""
    started: float | None = None
    """Unix seconds; None before the first start."""
    finished: float | None = None
    ports: Mapping[int, int] = field(default_factory=dict)
    """Container port -> port on 127.0.0.1; empty unless running."""
    log_path: Path | None = None
    """The engine's json-file of this container; None with another log driver."""
    pid: int | None = None
    """Of its first process, as this machine counts; None unless running."""


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """A container changed. `action` is the engine's word: create, start, die, destroy, oom, ..."""

    at: float
    action: str
    container_id: str
    labels: Mapping[str, str]
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    version: str
    api_version: str
    root: Path
    """Where the engine keeps its data; json-file logs lie below it."""
    cpus: int
    memory_bytes: int
    cgroup_version: str
    storage_driver: str
    gpu_runtime: bool
    """An nvidia runtime, CDI devices or NVIDIA's hook are there. False is no proof: the engine tells of no hook."""
    cdi: bool = False
    """CDI is on."""
    cdi_devices: frozenset[str] = frozenset()
    """As `nvidia.com/gpu=GPU-...`. Engines before 28.2 do not tell."""
    nvidia_runtime: bool = False
    """The toolkit has put its runtime into the engine's configuration."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image brings along; what a container of it does unless its spec says otherwise."""

    id: str
    entrypoint: Sequence[str]
    command: Sequence[str]
    workdir: str
    env: Mapping[str, str]
    ports: Sequence[int]
    """TCP ports the image says it listens on."""
    user: str
    labels: Mapping[str, str]
    size_bytes: int
