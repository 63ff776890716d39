"""The engine's container events without an end: reconnects, replays what it can, and says so where it cannot."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

from appliance.engine import documents
from appliance.engine.client import Client
from appliance.engine.labels import PREFIX
from appliance.engine.types import EngineEvent
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

LOST = "lost"
RESYNC = "resync"
ACTIONS = ("create", "start", "die", "oom", "kill", "stop", "pause", "unpause", "restart", "destroy", "health_status")
RETRY_FIRST_S = 0.2
RETRY_MOST_S = 5.0
REMEMBERED = 512


async def follow(client: Client, *, instance: str, since: float) -> AsyncIterator[EngineEvent]:
    """Events of this instance's containers from `since` (unix seconds) on, each once.

    Two actions are ours. `lost`: the engine does not answer; it is asked again and again. `resync`: it answers again;
    a restarted engine has forgotten what happened meanwhile, so whoever follows must look for themselves.
    """
    seen = Seen()
    since_ns = int(since * 1e9)
    delay = RETRY_FIRST_S
    lost = False
    while True:
        try:
            stream = await client.stream(lambda api, at=since_ns: _open(api, instance, at))  # type: ignore[misc]
        except ApplianceError as error:
            log.log(logging.DEBUG if lost else logging.WARNING, "no events: %s", error)
            if not lost:
                yield _ours(LOST)
            lost = True
            await asyncio.sleep(delay)
            delay = min(RETRY_MOST_S, delay * 2)
            continue
        try:
            if lost:
                log.info("events flow again")
                yield _ours(RESYNC)
            delay = RETRY_FIRST_S
            async for document in stream:
                if seen.before(document):
                    continue
                since_ns = max(since_ns, documents.event_ns(document))
                yield documents.event(document)
        except ApplianceError as error:
            log.warning("events broke off: %s", error)
        finally:
            await stream.aclose()
        yield _ours(LOST)
        lost = True
        await asyncio.sleep(RETRY_FIRST_S)


def _ours(action: str) -> EngineEvent:
    return EngineEvent(at=time.time(), action=action, container_id="", labels={})


class Seen:
    """Which of the last events were handed out: a replay starts with the last one again."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[int, str, str], None] = OrderedDict()

    def before(self, document: Mapping[str, Any]) -> bool:
        """True where this event was asked about before."""
        actor = document.get("Actor") or {}
        key = (documents.event_ns(document), str(actor.get("ID")), str(document.get("Action")))
        if key in self._keys:
            return True
        self._keys[key] = None
        if len(self._keys) > REMEMBERED:
            self._keys.popitem(last=False)
        return False


def _open(api: Any, instance: str, since_ns: int) -> Any:
    seconds, nanoseconds = divmod(since_ns, 1_000_000_000)
    # The engine takes a fraction of nine digits; a float has not enough of them and would replay too much.
    since = cast(int, f"{seconds}.{nanoseconds:09d}")
    filters = {"type": "container", "label": f"{PREFIX}instance={instance}", "event": list(ACTIONS)}
    return api.events(since=since, filters=filters, decode=True)
