"""The telemetry room's door: container logs go in from the engine's files, and come out by query, by following, by SQL.

Threads: one reads the files, one writes the database, and each question runs in a worker thread on a connection of its
own. The methods here belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import duckdb
from anyio import to_thread

from appliance.errors import TelemetryError
from appliance.gpu.types import Inventory
from appliance.router.requests import Request
from appliance.telemetry.database import LINES
from appliance.telemetry.gpu_samples import Samples
from appliance.telemetry.metrics.numbering import MOST_REMEMBERED, Numbering
from appliance.telemetry.metrics.query import read_identities, read_metrics, read_names
from appliance.telemetry.metrics.types import MetricQuery, Sample, Series, Subject
from appliance.telemetry.metrics.upkeep import Upkeep
from appliance.telemetry.query import matches, read_lines, source_key
from appliance.telemetry.reader import Reader
from appliance.telemetry.requests import Tally, Traffic, read_traffic
from appliance.telemetry.retention.keeping import LogKeeping
from appliance.telemetry.retention.policy import Known, Limits
from appliance.telemetry.sql.door import SqlDoor
from appliance.telemetry.sql.running import StateReader
from appliance.telemetry.sql.sinks import Rows
from appliance.telemetry.store import Batch, Row, Store
from appliance.telemetry.types import LogLine, LogQuery, LogSource

log = logging.getLogger(__name__)

T = TypeVar("T")

READERS = 4
"""Questions that are answered at the same time; more wait their turn."""
LOGS_TIMEOUT_S = 30.0
UPKEEP_TIMEOUT_S = 120.0
FOLLOW_LINES = 2000
"""Lines of one batch of `follow`."""
MOST_WARNINGS = 50
ROW_BYTES = 500
"""Of a row that counts requests or samples of a GPU, about."""
METRIC_BYTES = 200
"""Of a sample, about."""
COUNT_S = 1.0
"""So long requests are counted together before they are stored."""
_ROOM = "see that the disk of the telemetry database has room; it is tried again"
_TOO_SLOW = "the log and metric database is not written fast enough: some of what was counted is left out"


class _Subscriber:
    """Somebody who follows. Only this flag is touched when lines arrive; the lines are read when they are wanted."""

    def __init__(self, query: LogQuery) -> None:
        self.query = query
        self.news = asyncio.Event()


class Telemetry:
    """Container logs, metrics, counted requests and samples of GPUs, in DuckDB.

    `redact` gives the secrets; it is called on the event loop, at start and attach.
    """

    def __init__(
        self,
        file: Path,
        *,
        flush_s: float,
        memory_mb: int,
        redact: Callable[[], Iterable[str]] = tuple,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.warnings: list[str] = []
        """What went wrong without stopping anything, oldest first, each once, the last 50."""
        self.metrics_asked = float("-inf")
        """When metrics were last asked for, on the monotonic clock: somebody looks."""
        self._redact = redact
        self._clock = clock
        self._store = Store(file, memory_mb=memory_mb, flush_s=flush_s, on_commit=self._committed, warn=self._warn)
        self._reader = Reader(self._store, self._warn)
        self.questions = SqlDoor(lambda: self._store.reading(), memory_mb=memory_mb)
        self._subscribers: set[_Subscriber] = set()
        self._limiter = anyio.CapacityLimiter(READERS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._head = 0
        """The newest committed sequence number."""
        self._stopped = False
        self._tally = Tally()
        self._samples = Samples()
        self._numbering = Numbering()
        self._moved_aside = 0
        self._upkeep = Upkeep(
            lambda question: self._read(question, UPKEEP_TIMEOUT_S), self._store.chore, self._numbering
        )
        self._keeping = LogKeeping(
            lambda question: self._read(question, UPKEEP_TIMEOUT_S), self._store, self._reader.followed, self._warn
        )
        self._counting: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Open the database (a damaged one is moved aside, see `warnings`) and begin to read and write.

        Raises TelemetryError where it cannot be opened at all: another process has it, no permission, a full disk.
        """
        self._loop = asyncio.get_running_loop()
        await to_thread.run_sync(self._store.start)
        self._head = self._store.next_seq - 1
        known, free = await self._read(lambda connection: read_identities(connection, MOST_REMEMBERED), LOGS_TIMEOUT_S)
        self._moved_aside = self._store.moved_aside
        self._numbering.learn(known, next_number=free, now=self._clock())
        self._refresh_secrets()
        self._reader.start()

    async def stop(self) -> None:
        """Write what has been read, end every `follow`, close the file. Safe to call twice."""
        if self._stopped:
            return
        self._stopped = True
        self._store_counts()
        self._submit(self._samples.take())
        await to_thread.run_sync(self._reader.stop)
        await to_thread.run_sync(self._store.stop)
        for subscriber in self._subscribers:
            subscriber.news.set()

    def attach(self, source: LogSource, log_path: Path) -> None:
        """Follow this container's log from where it was left, or from its beginning. Cheap; repeating it is fine."""
        self._refresh_secrets()
        self._reader.attach(source, log_path)

    async def drain(self, source: LogSource, log_path: Path, *, timeout_s: float = 30) -> None:
        """The container has ended: store its log to the end, then let go of it. Returns once that is committed.

        A log that is gone has nothing left to store: that is a warning. Raises TelemetryError when the log cannot be
        read or not be written within `timeout_s`.
        """
        if self._stopped or self._loop is None:
            raise TelemetryError("telemetry is not running", hint="start the daemon")
        self._refresh_secrets()
        done = asyncio.wrap_future(self._reader.drain(source, log_path))
        try:
            async with asyncio.timeout(timeout_s):
                await done
        except TimeoutError:
            raise TelemetryError(
                f"the log was not stored within {timeout_s:g} s",
                where=str(log_path),
                hint="see that the disk of the telemetry database has room; nothing is lost, the log is tried again",
            ) from None
        except duckdb.Error as error:
            raise TelemetryError(f"the log could not be stored: {error}", where=str(log_path)) from error

    async def logs(self, query: LogQuery) -> list[LogLine]:
        """Stored lines, oldest first: the newest that match, or with `after` the next ones.

        At most 100,000 lines or 32 MiB of text, so an answer may be shorter than `limit`; go on after its last seq.
        """
        lines, _ = await self._page(query)
        return lines

    async def follow(self, query: LogQuery) -> AsyncGenerator[list[LogLine], None]:
        """Batches as they are committed, without end until `stop`. Close the generator (`aclosing`) when done.

        Begins after `query.after`, else with the newest `query.limit` lines (0: only what is yet to come). A slow
        reader costs nothing: what it has not asked for stays in the database.
        """
        subscriber = _Subscriber(query)
        self._subscribers.add(subscriber)
        try:
            position = query.after
            if not position:
                position = self._head
                if lines := await self.logs(query):
                    position = lines[-1].seq
                    yield lines
            while not self._stopped:
                subscriber.news.clear()
                head = self._head
                lines, more = await self._page(replace(query, after=position, limit=FOLLOW_LINES))
                if lines:
                    position = lines[-1].seq
                    yield lines
                if not more:
                    position = max(position, head)
                    await subscriber.news.wait()
        except TelemetryError:
            if not self._stopped:
                raise
        finally:
            self._subscribers.discard(subscriber)

    def count(self, requests: Iterable[Request]) -> None:
        """Requests that have ended at the front door. Stored after a second; lost where the daemon is killed before."""
        if self._stopped or self._loop is None:
            return
        for request in requests:
            self._tally.add(request)
        if self._counting is None:
            self._counting = self._loop.call_later(COUNT_S, self._store_counts)

    def sampled(self, inventory: Inventory) -> None:
        """A look at the GPUs. Stored when its ten seconds are over; lost where the daemon is killed before."""
        if not self._stopped and self._loop is not None:
            self._submit(self._samples.add(inventory))

    def measured(self, samples: Iterable[Sample]) -> None:
        """Store them within the flush; lost where the daemon is killed before. What cannot be stored is told."""
        if self._stopped or self._loop is None:
            return
        if self._store.full:
            self._warn(_TOO_SLOW)
            return
        rows = self._numbered(samples)
        if rows:
            self._store.submit(Batch(rows, size=METRIC_BYTES * sum(map(len, rows.values()))))

    async def record(self, samples: Iterable[Sample]) -> None:
        """The same, and returns once they are committed. Raises TelemetryError where they cannot be."""
        if self._stopped or self._loop is None:
            raise TelemetryError("telemetry is not running", hint="start the daemon")
        if self._store.full:
            raise TelemetryError(_TOO_SLOW, hint="try again in a second")
        rows = self._numbered(samples)
        if not rows:
            return
        committed: Future[None] = Future()

        def written(error: BaseException | None) -> None:
            if error is None:
                committed.set_result(None)
            else:
                committed.set_exception(TelemetryError(f"the metrics could not be stored: {error}"))

        self._store.submit(Batch(rows, size=METRIC_BYTES * sum(map(len, rows.values())), written=written))
        await asyncio.wrap_future(committed)

    async def metrics(self, query: MetricQuery) -> list[Series]:
        """The series that match, each with its newest points, oldest first; 500,000 points in all at most.

        Raises UsageError for a query that makes no sense or matches more than 2,000 series.
        """
        self.metrics_asked = time.monotonic()
        return await self._read(lambda connection: read_metrics(connection, query), LOGS_TIMEOUT_S)

    async def metric_names(self, query: MetricQuery) -> list[tuple[Subject, str]]:
        """Which metrics there are and whose, sorted, without their points."""
        return await self._read(lambda connection: read_names(connection, query), LOGS_TIMEOUT_S)

    async def tend_metrics(self, now: float, *, keep_hours: float, keep_days: float) -> int:
        """Roll up and remove what is old, and say in how many slices. `now` is of a clock that is to be believed.

        `keep_hours` of samples as they came, `keep_days` of everything; 0: for ever. Raises TelemetryError where the
        database cannot be written; what was not done is done at the next call.
        """
        try:
            return await self._upkeep.tend(now, keep_hours=keep_hours, keep_days=keep_days)
        except duckdb.Error as error:
            raise TelemetryError(f"old metrics could not be rolled up: {error}", hint=_ROOM) from error

    async def forget_metrics(self, kind: str, name: str) -> None:
        """All metrics of a resource that is gone for good. Raises TelemetryError where they cannot be removed."""
        try:
            await self._upkeep.forget(kind, name)
        except duckdb.Error as error:
            raise TelemetryError(f"the metrics of {kind}/{name} could not be removed: {error}", hint=_ROOM) from error

    async def tend_logs(
        self, now: float, limits: Limits, known: Callable[[], Awaitable[Known]], *, by_age: bool = True
    ) -> int:
        """Remove lines that are too old, too many or of runs that are gone, and say how many those were.

        Where much of the file is free then, it is made smaller while all else goes on. Without `by_age` the clock is
        not believed. `known` is asked once for the runs and containers there are.
        """
        return await self._keeping.tend(now, limits, known, by_age=by_age)

    async def forget_logs(self, kind: str, name: str) -> int:
        """All stored lines of a resource that is gone for good; how many those were."""
        return await self._keeping.forget(kind, name)

    async def traffic(self, prefix: str, *, since: float, until: float, steps: int = 60) -> Traffic:
        """What has come to this route of the front door, such as `/deployments/web`, between two unix times."""
        return await self._read(
            lambda connection: read_traffic(connection, prefix, since=since, until=until, steps=steps), LOGS_TIMEOUT_S
        )

    async def sql(
        self, text: str, *, limit: int = 10_000, timeout_s: float = 10, state: StateReader | None = None
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of one SELECT over the documented tables (`sql/catalog.py`); `state` adds its own.

        Raises UsageError for SQL that is wrong or is no SELECT, TelemetryError when it takes too long or too much.
        `questions` has more: other forms of an answer, and how to cancel one.
        """
        rows = Rows()
        await self.questions.ask(text, rows, limit=limit, timeout_s=timeout_s, state=state)
        return [heading.name for heading in rows.headings], rows.rows

    async def copy(self, folder: Path) -> None:
        """What is stored up to this moment, as files in `folder` that another daemon can open.

        Writing waits meanwhile and nothing is lost. Raises TelemetryError where the copy cannot be made.
        """
        if self._stopped:
            raise TelemetryError("telemetry is not running", hint="start the daemon")
        given_up = threading.Event()
        work = asyncio.ensure_future(to_thread.run_sync(self._store.copy, folder, given_up.is_set))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            given_up.set()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({work})
            work.exception()
            raise

    def _store_counts(self) -> None:
        if self._counting is not None:
            self._counting.cancel()
            self._counting = None
        self._submit(self._tally.take())

    def _submit(self, rows: Mapping[str, Sequence[Row]]) -> None:
        if not rows:
            return
        if self._store.full:
            self._warn(_TOO_SLOW)
            return
        self._store.submit(Batch(rows, size=ROW_BYTES * sum(map(len, rows.values()))))

    def _numbered(self, samples: Iterable[Sample]) -> Mapping[str, Sequence[Row]]:
        if self._store.moved_aside != self._moved_aside:  # the series that were stored are not there any more
            self._moved_aside = self._store.moved_aside
            self._numbering.learn((), next_number=self._numbering.next, now=self._clock())
        numbered = self._numbering.rows(samples, now=self._clock())
        for reason in numbered.left_out:
            self._warn(f"some metrics are not stored: {reason}")
        return numbered.rows

    async def _page(self, query: LogQuery) -> tuple[list[LogLine], bool]:
        return await self._read(lambda connection: read_lines(connection, query), LOGS_TIMEOUT_S)

    async def _read(self, question: Callable[[duckdb.DuckDBPyConnection], T], timeout_s: float) -> T:
        asked: list[duckdb.DuckDBPyConnection] = []
        try:
            return await to_thread.run_sync(
                self._ask, question, timeout_s, asked, limiter=self._limiter, abandon_on_cancel=True
            )
        except asyncio.CancelledError:
            for connection in asked:  # nobody waits for the answer
                with suppress(duckdb.Error):  # it has just been closed
                    connection.interrupt()
            raise

    def _ask(
        self,
        question: Callable[[duckdb.DuckDBPyConnection], T],
        timeout_s: float,
        asked: list[duckdb.DuckDBPyConnection],
    ) -> T:
        with self._store.reading() as connection:
            asked.append(connection)
            timer = threading.Timer(timeout_s, connection.interrupt)
            timer.start()
            try:
                return question(connection)
            except duckdb.InterruptException as error:
                raise TelemetryError(
                    f"the query was ended after {timeout_s:g} s", hint="narrow it, for example by time or by name"
                ) from error
            except duckdb.Error as error:
                raise TelemetryError(f"the query failed: {error}", hint="narrow it, or see the daemon's log") from error
            finally:
                timer.cancel()
                asked.clear()

    def _refresh_secrets(self) -> None:
        try:
            self._reader.redactor = self._reader.redactor.adding(self._redact())
        except Exception as error:
            log.exception("the secrets cannot be read")
            self._warn(f"the secrets cannot be read, so fresh ones are not blanked out in logs: {error}")

    def _committed(self, batches: list[Batch]) -> None:
        """In the writer's thread, after a commit."""
        self._reader.wake()
        keys: set[tuple[str, str, str]] = set()
        newest = 0
        for batch in batches:
            lines = batch.rows.get(LINES)
            if lines and batch.source is not None:
                keys.add(source_key(batch.source))
                newest = int(lines[-1][0])
        if not keys or self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._publish, keys, newest)
        except RuntimeError:
            log.debug("the event loop has closed; nobody follows any more")

    def _publish(self, keys: set[tuple[str, str, str]], newest: int) -> None:
        self._head = newest
        for subscriber in self._subscribers:
            if any(matches(subscriber.query, key) for key in keys):
                subscriber.news.set()

    def _warn(self, message: str) -> None:
        """From any thread."""
        log.warning("%s", message)
        if message not in self.warnings:
            self.warnings.append(message)
            del self.warnings[:-MOST_WARNINGS]
