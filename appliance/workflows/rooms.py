"""The other rooms, as the workflow room uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.scheduler.leasing import Leases, NoGpus
from appliance.settings import Settings
from appliance.state.db import Database
from appliance.state.versions import Version
from appliance.storage.base import Store
from appliance.storage.room import plenty
from appliance.storage.scratch import Scratch
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Rooms:
    db: Database
    engine: Engine
    images: Images
    store: Store
    scratch: Scratch
    datasets: Datasets
    models: Models
    telemetry: Telemetry
    vault: Secrets
    settings: Settings
    instance: str
    clock: Callable[[], float]
    no_room: Callable[[], str] = plenty
    """Why no further job may begin for want of disk space; empty: it may."""
    hint: Callable[[str, str], None] = lambda kind, key: None
    """Have the controller of another kind look at one of its own."""
    leases: Leases = field(default_factory=NoGpus)
    """Who gives jobs their GPUs."""
    opening: list[str] = field(default_factory=list)
    """Notebooks, by uid, into which what is kept of a job is being copied: nothing that is kept is let go meanwhile."""

    def resolve(self, ref: str) -> str:
        """`NAME:VERSION` of the committed version that a dataset reference means. Raises NotFound, Conflict."""
        version = self.datasets.resolve(ref)
        return self.full_name(ref, version)

    def full_name(self, ref: str, version: Version) -> str:
        return f"{self.datasets.get(ref).name}:{version.version}"
