"""What follows an errand's container: its log is stored, and what goes on is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.engine.types import Container
from appliance.fetching.errand import Errand
from appliance.telemetry.draining import Draining
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource
from appliance.vault.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Following:
    """A Witness. `tell` is given what goes on, in words."""

    telemetry: Telemetry
    draining: Draining
    vault: Secrets
    errand: Errand
    tell: Callable[[str], None]

    def look(self, container: Container) -> None:
        if container.log_path and container.state == "running":
            self.telemetry.attach(self._source(container), container.log_path)

    async def ended(self, container: Container) -> None:
        """All it has said is stored before it goes."""
        if container.log_path:
            await self.draining.drain(self._source(container), container.log_path)

    def secrets(self) -> Sequence[str]:
        return self.vault.values()

    def _source(self, container: Container) -> LogSource:
        owner = self.errand.owner
        return LogSource(kind=owner.shown_kind, name=owner.name, part=owner.part, container=container.id)
