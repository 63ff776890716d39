"""Whether those who hold cards still reach them; who does not any more is told, so that it is begun again.

A container that was never seen to reach its cards is not begun again for it: the next one would fare the same, and the
one after it. It is said once. Of containers that are older than this daemon nobody knows what was: those are believed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from appliance.engine.devices import Reach, nodes_of
from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.gpu.types import Inventory, Mig
from appliance.scheduler import words
from appliance.scheduler.types import Who
from appliance.scheduler.view import Queue

log = logging.getLogger(__name__)

EVERY_S = 30.0


class Devices(Protocol):
    async def look(self, pid: int, container: str, nodes: Sequence[Path], *, driver: str | None = None) -> Reach: ...


class Reaching:
    def __init__(
        self,
        *,
        snapshot: Callable[[], Queue],
        inspect: Callable[[str], Awaitable[Container | None]],
        devices: Devices,
        on_lost: Callable[[Who, str], None],
        clock: Callable[[], float],
    ) -> None:
        """`on_lost` gets the words of what happened and is called once for a container."""
        self._snapshot = snapshot
        self._inspect = inspect
        self._devices = devices
        self._on_lost = on_lost
        self._begun = clock()
        self._fine: set[str] = set()
        self._told: set[str] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Never raises: an engine that does not answer is asked again the next time."""
        queue = self._snapshot()
        held = {lease.container: lease.held for lease in queue.leases if lease.container and not lease.held.freeing}
        self._fine &= held.keys()
        self._told &= held.keys()
        for container, lease in held.items():
            nodes = nodes_for(lease.cards, queue.inventory)
            if container in self._told or not nodes:
                continue
            try:
                found = await self._inspect(container)
            except ApplianceError as error:
                log.debug("whether %s reaches its GPUs is not known: %s", words.who(lease.request.who), error)
                return
            if found is None or found.state != "running" or not found.pid:
                continue
            reach = await self._devices.look(found.pid, container, nodes, driver=queue.inventory.driver)
            self._judge(found, lease.request.who, reach)

    def _judge(self, container: Container, who: Who, reach: Reach) -> None:
        if reach.state == "ok":
            self._fine.add(container.id)
        if reach.state != "lost":
            return
        self._told.add(container.id)
        older = container.started is not None and container.started < self._begun
        if older or container.id in self._fine:
            self._on_lost(who, reach.words)
        else:
            log.warning("%s has not reached its GPUs since it began: %s", words.who(who), reach.words)


def nodes_for(cards: Sequence[str], inventory: Inventory) -> tuple[Path, ...]:
    """Device nodes of these cards and instances; empty where one is not seen at the moment."""
    minors = []
    for card in cards:
        device = next((one for one in inventory.devices if card == one.uuid or _part_of(card, one.migs)), None)
        if device is None or device.lost or device.minor is None:
            return ()
        minors.append(device.minor)
    return nodes_of(minors) if minors else ()


def _part_of(card: str, migs: Sequence[Mig]) -> bool:
    return any(mig.uuid == card for mig in migs)
