"""Targets that have left their route: waited for until nothing uses them, and deleted.

Functions of what HAProxy and those it replaced tell; the router's lock is the caller's where something is deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from appliance.router.haproxy import Haproxy
from appliance.router.runtime import Gone
from appliance.router.sync import leaving
from appliance.router.table import Table

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.2
_QUIET_LOOKS = 2
"""One quiet look may fall between the choice of a server and the connection to it."""


async def drained(busy: Callable[[], Awaitable[bool]], deadline_s: float) -> bool:
    """Waits until it is busy no more; False when the deadline, seconds from now, came first."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    quiet, pause = 0, _FIRST_PAUSE_S
    while True:
        quiet = 0 if await busy() else quiet + 1
        if quiet == _QUIET_LOOKS:
            return True
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
        pause = min(_LONGEST_PAUSE_S, pause * 1.5)


async def busy(haproxy: Haproxy, table: Table, target_id: str, port: int | None) -> bool:
    """Whether anything is in flight to a target that has left, or may still come. `port`: where it was last."""
    try:
        servers = leaving(table, await haproxy.observe())
    except Gone:
        servers = []  # it took its requests with it
    named = [server for server in servers if server.id == target_id]
    port = next((server.port for server in named), port)
    now = asyncio.get_running_loop().time()
    return not all(server.idle for server in named) or haproxy.former.uses(target_id, port, now)


async def sweep(haproxy: Haproxy, table: Table, target_id: str = "") -> None:
    """Deletes servers that have left and are done: this one, or all."""
    try:
        servers = leaving(table, await haproxy.observe())
        done = [server for server in servers if server.idle and server.state != "ready"]
        await haproxy.remove(server for server in done if target_id in ("", server.id))
    except Gone:
        return
