"""A log that cannot be stored delays the end of its container for a while, and not for ever."""

from __future__ import annotations

import logging
from pathlib import Path

from appliance.errors import TelemetryError
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource

log = logging.getLogger(__name__)

TRIES = 4
"""After these the container goes on its way, and what is missing of its log is said."""


class Draining:
    """Counts the tries of each container. The callers try again with the reconcile loop's back-off."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._tries: dict[str, int] = {}

    async def drain(self, source: LogSource, log_path: Path, *, timeout_s: float = 30.0) -> str:
        """What is missing, in words; empty where all is stored. Raises TelemetryError the first times."""
        try:
            await self._telemetry.drain(source, log_path, timeout_s=timeout_s)
        except TelemetryError as error:
            tries = self._tries[source.container] = self._tries.get(source.container, 0) + 1
            if tries < TRIES:
                raise
            log.warning("%s/%s: its log is incomplete: %s", source.kind, source.name, error)
            return error.message
        self._tries.pop(source.container, None)
        return ""
