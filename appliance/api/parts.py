"""Everything the routes call, as the daemon has wired it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from appliance import wire
from appliance.backup.backups import Backups
from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.datasets.uploads import Uploads
from appliance.engine.docker import Engine
from appliance.history.measuring import SpaceReports
from appliance.history.workspaces import Workspaces
from appliance.notebooks.notebooks import Notebooks
from appliance.router.meters import Meter
from appliance.scheduler.view import Gpus
from appliance.settings import Settings
from appliance.spec.machines import Shape
from appliance.state.db import Database
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.registries import Registries
from appliance.vault.secrets import Secrets
from appliance.workflows.rooms import Rooms


async def _no_meters() -> Mapping[str, Meter]:
    return {}


@dataclass
class Parts:
    settings: Settings
    instance: str
    token: str
    db: Database
    engine: Engine
    datasets: Datasets
    models: Models
    uploads: Uploads
    workspaces: Workspaces
    telemetry: Telemetry
    secrets: Secrets
    registries: Registries
    space: SpaceReports
    backups: Backups
    notebooks: Notebooks
    rooms: Rooms
    """As the workflow room uses them."""
    hint: Callable[[str, str], None]
    """(kind, id): this resource or run has work to do."""
    clock: Callable[[], float]
    started: float
    meters: Callable[[], Awaitable[Mapping[str, Meter]]] = _no_meters
    """What the front door has under way, by prefix."""
    gpus: Gpus | None = None
    """None: nobody leases GPUs."""
    machines: Mapping[str, Shape] = field(default_factory=dict)
    """The machine types of config.toml, under all their names."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set before the server is asked to end, so that streams end first; an open stream would hold it forever."""
    health: dict[str, wire.Part] = field(default_factory=dict)
    """Kept fresh by the daemon, so that a status request does no work outside."""
