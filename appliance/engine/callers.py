"""Who speaks from an address of this appliance's network: the container that has it now.

An address is given again as soon as a container has ended. So what is remembered of one counts only while the
container's first process is alive, which holds the address; and whoever began after the call came did not make it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from appliance.engine.cgroups import parse_groups
from appliance.engine.docker import Engine
from appliance.engine.labels import PREFIX
from appliance.engine.types import Container
from appliance.errors import Forbidden

SLACK_S = 0.5
"""The engine notes the start of a container a moment after its program runs."""
MOST_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class _Known:
    container: Container
    pid: int


class Callers:
    """For many tasks of one event loop. `proc` is the kernel's files of processes."""

    def __init__(self, engine: Engine, proc: Path = Path("/proc")) -> None:
        self._engine = engine
        self._proc = proc
        self._known: dict[str, _Known] = {}
        self._asking = asyncio.Lock()
        """One question to the engine at a time, whoever comes."""

    async def find(self, address: str, *, at: float) -> Container:
        """The container that called from there at this unix time.

        Raises Forbidden where none of this appliance had the address then, EngineDown where the engine is needed and
        does not answer.
        """
        if found := self._remembered(address, at):
            return found
        async with self._asking:
            found = self._remembered(address, at) or await self._ask(address, at)
        if found is None:
            raise Forbidden(
                "only a container of this appliance may push here",
                where=address,
                hint="push from a job, a notebook or a deployment; others use POST /v1/metrics with the token",
            )
        return found

    def _remembered(self, address: str, at: float) -> Container | None:
        known = self._known.get(address)
        if known is None:
            return None
        if not self._alive(known):
            del self._known[address]
            return None
        return known.container if _began_before(known.container, at) else None

    async def _ask(self, address: str, at: float) -> Container | None:
        network = self._engine.network
        filters = {"label": [f"{PREFIX}instance={self._engine.instance}"], "network": [network]}
        running: list[Mapping[str, Any]] = await self._engine.client.call(lambda api: _running(api, filters))
        holder = next((one["Id"] for one in running if _address(one, network) == address), None)
        if holder is None:
            return None
        container = await self._engine.inspect(holder)
        if container is None or container.state not in ("running", "paused") or not _began_before(container, at):
            return None
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        # where the engine counts processes of its own, the number is never this one's: it is asked each time
        self._known[address] = _Known(container, container.pid or 0)
        return container

    def _alive(self, known: _Known) -> bool:
        """Its first process still belongs to it; the number of one that has ended is a stranger's soon."""
        try:
            text = (self._proc / str(known.pid) / "cgroup").read_text()
        except OSError:
            return False
        return bool(parse_groups(text, known.container.id))


def _running(api: docker.APIClient, filters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = api.containers(filters=dict(filters))
    return found


def _address(summary: Mapping[str, Any], network: str) -> str:
    """On this network; empty: none."""
    networks = (summary.get("NetworkSettings") or {}).get("Networks") or {}
    return str((networks.get(network) or {}).get("IPAddress") or "")


def _began_before(container: Container, at: float) -> bool:
    return container.started is not None and container.started <= at + SLACK_S
