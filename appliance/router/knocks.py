"""Routes that have requests and no server: HAProxy names one, at most once a second each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

QUIET_S = 10.0
"""A speaker that says nothing for so long is not HAProxy's program."""


async def listen(reader: asyncio.StreamReader, known: Callable[[str], bool], heard: Callable[[str], None]) -> None:
    """`heard` is told the prefix. What is no route's is dropped. Raises ValueError for a line without an end."""
    while True:
        try:
            async with asyncio.timeout(QUIET_S):
                line = await reader.readline()
        except TimeoutError:
            return
        if not line.endswith(b"\n"):
            return
        prefix = "/" + line.strip().decode("ascii", errors="replace")
        if known(prefix):
            try:
                heard(prefix)
            except Exception:
                log.exception("a knock at %s was not taken", prefix)
