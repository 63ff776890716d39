"""Has old log lines removed, slice by slice between the batches that come in, and their space given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import duckdb
from anyio import to_thread

from appliance.errors import TelemetryError
from appliance.telemetry.retention import compacting, removing
from appliance.telemetry.retention.policy import LAST_LINES, Known, Limits, Plan, plan, share_beyond
from appliance.telemetry.retention.removing import Where
from appliance.telemetry.store import Store

log = logging.getLogger(__name__)

TOLD_AFTER = 3
"""Failures to make the file smaller, in a row: one that reads for long is no trouble."""


class Reading(Protocol):
    def __call__(self, question: Callable[[duckdb.DuckDBPyConnection], Any], /) -> Awaitable[Any]: ...


@dataclass(frozen=True, slots=True)
class Before:
    """How far the numbers had come before it was asked what there is: what is above them is new and left alone."""

    source: int
    line: int


class LogKeeping:
    """On the event loop's thread. One look at a time."""

    def __init__(
        self, read: Reading, store: Store, followed: Callable[[], set[str]], warn: Callable[[str], None]
    ) -> None:
        self._read = read
        self._store = store
        self._followed = followed
        self._warn = warn
        self._busy = asyncio.Lock()
        self._looked = False
        """Whether the file is known to be no larger than it has to be, as far as lines go."""
        self._failed = 0
        """Times in a row that the file could not be made smaller."""

    async def tend(
        self, now: float, limits: Limits, known: Callable[[], Awaitable[Known]], *, by_age: bool = True
    ) -> int:
        """How many lines went. May be repeated, and ended at any instant.

        `now` in unix seconds; without `by_age` it is not believed, and nothing goes by its age. `known` is asked once,
        after it is certain what is old enough to be judged by its answer.
        """
        async with self._busy:
            before = Before(*await self._read(removing.newest))
            there = await known()
            sources = await self._read(lambda connection: removing.sources(connection, before.source))
            chosen = plan(sources, there, limits, now, by_age=by_age)
            gone = 0
            if orphans := await self._read(
                lambda connection: removing.ended(connection, chosen.orphans, chosen.orphans_before)
            ):
                gone += await self._remove(removing.by_owner(orphans), {})
            if chosen.before is not None and (old := await self._read(partial(removing.old, before=chosen.before))):
                floors = await self._floors(number for number in chosen.failed if number in old)
                gone += await self._remove(removing.by_age(chosen), floors)
            gone += await self._fit(limits, chosen)
            if there.containers is not None:
                await self._remove_unused({*there.containers, *self._followed()}, before)
            if gone:
                log.info("%d log lines were removed: too old, too many, or of runs that are gone", gone)
                await to_thread.run_sync(self._store.checkpoint)
                self._looked = False
            if not self._looked:
                self._looked = not await self._read(compacting.worth_it) or await self._compact()
            return gone

    async def forget(self, kind: str, name: str) -> int:
        """All lines of a resource that is gone for good; how many."""
        async with self._busy:
            numbers = await self._read(lambda connection: removing.of_owner(connection, kind, name))
            return await self._remove(removing.by_owner(numbers), {}) if numbers else 0

    async def _remove(self, where: Where, floors: Mapping[int, int]) -> int:
        gone = 0
        while True:
            chore = self._store.chore(lambda connection: removing.remove(connection, where, floors))
            removed = await asyncio.wrap_future(chore)
            gone += removed
            if removed < removing.SLICE:
                return gone

    async def _floors(self, numbers: Iterable[int]) -> dict[int, int]:
        chosen = [*numbers]
        found: dict[int, int] = await self._read(lambda connection: removing.last_lines(connection, chosen, LAST_LINES))
        return found

    async def _fit(self, limits: Limits, chosen: Plan) -> int:
        """By size: what is spared goes only where nothing else is left. One cut a look: the next one measures again."""
        if limits.gb <= 0 or not (share := share_beyond(await self._read(removing.stored_bytes), limits)):
            return 0
        for spared in (await self._floors(chosen.failed), dict[int, int]()):
            number = await self._read(partial(removing.number_at, share=share, floors=spared))
            if number:
                return await self._remove(removing.by_number(number), spared)
        return 0

    async def _remove_unused(self, living: set[str], before: Before) -> None:
        chore = self._store.chore(
            lambda connection: removing.remove_unused(connection, living, before.source, before.line)
        )
        await asyncio.wrap_future(chore)

    async def _compact(self) -> bool:
        """Whether it was done; else it is tried again at the next look."""
        try:
            freed = await to_thread.run_sync(compacting.compact, self._store)
        except TelemetryError as error:
            self._failed += 1
            log.warning("%s", error)
            if self._failed == TOLD_AFTER and not self._store.stopping:
                self._warn(error.message)
            return False
        else:
            self._failed = 0
            log.info("%d MiB of the log and metric database were given back to the disk", freed >> 20)
            return True
