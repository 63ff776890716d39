"""The one writer: batches of rows become durable together with the cursors that belong to them.

A batch is never half there. After a crash its rows and its cursor are either both stored or both not, so reading goes
on exactly where the rows end. While the database cannot be written (a full disk), batches wait, `full` tells the
reader to stop, and the lines stay in the engine's files.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from appliance.errors import TelemetryError
from appliance.telemetry.database import CURSORS, FAILURES, GPU_SAMPLES, LINES, REQUESTS, SOURCES, TABLES, open_database
from appliance.telemetry.types import LogSource

log = logging.getLogger(__name__)

Row = Sequence[Any]
T = TypeVar("T")

FLUSH_ROWS = 10_000
"""Rows that are written without waiting for more."""
APPEND_ROWS = 1000
"""Rows that are handed over in one call: it holds Python's lock, and the event loop must not wait for long."""
PRUNE_ROWS = 20_000
"""Cursors, or rows of what was counted, that are written between two prunings."""
KEEP_COUNTS_DAYS = 15
"""Two weeks are asked for at most."""
FULL_BYTES = 8 * 1024 * 1024
"""Text that may wait to be written; beyond it readers must pause."""
RETRY_FIRST_S = 0.5
RETRY_MOST_S = 30.0
COPY_POLL_S = 0.2
CLOSE_S = 5.0
"""How long readers get to see that they were interrupted."""
READERS_S = 10.0
"""How long it is waited for readers to end by themselves, and how long new ones wait meanwhile and a little more."""
FRESH = ".fresh"
"""At the end of the name of a file that may take the place of the database; one that is found at the start is left
over from a process that was killed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that become durable together."""

    rows: Mapping[str, Sequence[Row]]
    """Table -> rows; every table is in `TABLES`."""
    size: int = 0
    """Bytes, about."""
    source: LogSource | None = None
    """Whose log lines these are."""
    written: Callable[[BaseException | None], None] | None = None
    """Called in the writer's thread: committed, or given up because of this error. Makes the batch urgent."""


@dataclass(frozen=True, slots=True)
class Chore:
    """Housekeeping by the writer, between two transactions."""

    work: Callable[[duckdb.DuckDBPyConnection], Any]
    answer: Future[Any]


class Store:
    """The open database. `submit`, `chore` and `reading` may be called from any thread."""

    def __init__(
        self,
        file: Path,
        *,
        memory_mb: int,
        flush_s: float,
        on_commit: Callable[[list[Batch]], None],
        warn: Callable[[str], None],
    ) -> None:
        self.next_seq = 1
        """First free number for a line or a cursor, as of `start`."""
        self.next_source = 1
        self.moved_aside = 0
        """How often the database did not open and another one was begun."""
        self._file = file
        self._memory_mb = memory_mb
        self._flush_s = flush_s
        self._on_commit = on_commit
        self._warn = warn
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._appenders: dict[str, duckdb.Appender] = {}
        self._changed = threading.Condition()
        self._waiting: list[Batch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._chores: list[Chore] = []
        self._urgent = False
        self._stopping = False
        self._last_commit = 0.0
        self._superseded = PRUNE_ROWS
        self._counted = PRUNE_ROWS
        """Rows about requests and GPUs since old ones were last removed."""
        self._readers: set[duckdb.DuckDBPyConnection] = set()
        self._shut = False
        """Readers wait at the door."""
        self._files = threading.Lock()
        """Held while the files of the database change, and while they are copied."""
        self._thread = threading.Thread(target=self._run, name="telemetry-writer", daemon=True)

    def start(self) -> None:
        """Open the file, moving it aside if it is damaged, and begin to write. Blocks for up to seconds."""
        for left in (self.fresh, wal_of(self.fresh)):
            left.unlink(missing_ok=True)
        repaired = self._open()
        with self.reading() as connection:
            lines = connection.execute(
                f"SELECT max(seq) FROM (SELECT seq FROM {LINES} UNION ALL SELECT seq FROM {CURSORS})"
            ).fetchone()
            sources = connection.execute(f"SELECT max(id) FROM {SOURCES}").fetchone()
        newest = (lines and lines[0]) or 0
        # Numbers begin with the clock, in microseconds: they grow even over a database that was lost, so that a
        # client which goes on behind the last number it saw misses nothing.
        by_clock = time.time_ns() // 1000
        self.next_seq = newest + 1 if newest and not repaired else max(newest + 1, by_clock)
        self.next_source = ((sources and sources[0]) or 0) + 1
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, once, and close. Blocks for up to seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        with self._files:
            self._close()

    @property
    def file(self) -> Path:
        return self._file

    @property
    def fresh(self) -> Path:
        """Where a file is made that may take the place of this one."""
        return self._file.with_name(f"{self._file.name}{FRESH}")

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def full(self) -> bool:
        return self._waiting_bytes >= FULL_BYTES

    def submit(self, batch: Batch) -> None:
        """Queue a batch; batches are written in this order. Never blocks: look at `full` before reading more."""
        with self._changed:
            first = not self._waiting
            self._waiting.append(batch)
            self._waiting_rows += sum(map(len, batch.rows.values()))
            self._waiting_bytes += batch.size
            self._urgent = self._urgent or batch.written is not None
            if first or self._due():  # the writer sleeps until the flush is due: it is not woken for each batch
                self._changed.notify_all()

    def chore(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> Future[T]:
        """Have the writer do this, once, between two batches; what it raises is in the answer, and nothing is stored.

        Lines wait meanwhile: what takes longer than a tenth of a second is to be given in slices.
        """
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()
        with self._changed:
            if self._stopping:
                answer.set_exception(_closing())
            else:
                self._chores.append(Chore(work, answer))
                self._changed.notify_all()
        return answer

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own for one reader. It may be interrupted from another thread."""
        with self._changed:
            self._changed.wait_for(lambda: not self._shut, 2 * READERS_S)
            if self._connection is None:
                raise TelemetryError("the log and metric database is not open", where=str(self._file))
            connection = self._connection.cursor()
            self._readers.add(connection)
        try:
            yield connection
        finally:
            with self._changed:
                self._readers.discard(connection)
                self._changed.notify_all()
            connection.close()

    def checkpoint(self) -> bool:
        """Free what was deleted, for what comes. False: a reader was in the way. Blocks for seconds."""
        with self.held() as connection:
            try:
                with self._alone():
                    connection.execute("CHECKPOINT").fetchall()
            except (duckdb.Error, TelemetryError) as error:
                log.info("no checkpoint of the log and metric database: %s", error)
                return False
        return True

    @contextmanager
    def held(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Nothing is written meanwhile: lines wait in the engine's files, so not for long. It is the connection of the
        writer: what this thread begins with it, it ends.
        """
        with self._files:
            if self._stopping:
                raise _closing()
            yield self._opened()

    def replace(self) -> None:
        """Within `held`, whose connection ends: the file `fresh`, whole and closed, takes the place of the database.

        Raises TelemetryError where it does not, and all is as before. A kill leaves the one file or the other.
        """
        if wal_of(self.fresh).exists():
            raise TelemetryError("it was not written to its end", where=str(self.fresh))
        with self._alone():
            try:
                self._close()
                if _is_open(self._file):  # whatever holds it would go on writing to a file without a name
                    raise TelemetryError("the log and metric database could not be closed", where=str(self._file))
                if wal_of(self._file).exists():  # it would be taken for a part of the other file
                    raise TelemetryError("the database's own log could not be emptied", where=str(self._file))
                self.fresh.replace(self._file)
                _make_durable(self._file.parent)
            finally:
                self._open()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody reads: those who do have ended, others wait. Raises TelemetryError where one does not end."""
        with self._changed:
            self._shut = True
            quiet = self._changed.wait_for(lambda: not self._readers or self._stopping, READERS_S)
        try:
            if not quiet or self._readers:
                raise TelemetryError("somebody reads the log and metric database", hint="it is tried again later")
            yield
        finally:
            with self._changed:
                self._shut = False
                self._changed.notify_all()

    def copy(self, folder: Path, given_up: Callable[[], bool]) -> None:
        """The database as it is, into `folder`. Lines wait in the engine's files meanwhile. Blocks.

        `given_up` is asked a few times a second. The files are copied by a program of its own: the database is locked
        for this process, which would lose that lock with the first descriptor of the file that it closes.
        """
        with self._files:
            with self.reading() as connection:
                try:
                    connection.execute("CHECKPOINT").fetchall()
                except duckdb.Error as error:  # a reader is in the way; the log is copied as well then
                    log.info("the log and metric database is copied without a checkpoint: %s", error)
            for path in filter(Path.exists, (self._file, wal_of(self._file))):
                _copy_file(path, folder / path.name, lambda: self._stopping or given_up())

    def _run(self) -> None:
        while self._wait():
            if batches := self._take():
                error = self._write(batches)
                if error is None:
                    self._on_commit(batches)
                for batch in batches:
                    if batch.written is not None:
                        batch.written(error)
            self._do_chore()
        for chore in self._chores:
            chore.answer.set_exception(_closing())

    def _wait(self) -> bool:
        """Until there is something to do; False: stopping, and no batch is left."""
        with self._changed:
            while not self._stopping and not self._due() and not self._chores:
                self._changed.wait(self._due_in())
            return bool(self._waiting or not self._stopping)

    def _take(self) -> list[Batch]:
        """The batches of the next transaction, where one is due."""
        with self._changed:
            if not self._stopping and not self._due():
                return []
            taken, self._waiting = self._waiting, []
            self._waiting_rows = self._waiting_bytes = 0
            self._urgent = False
            return taken

    def _do_chore(self) -> None:
        """One, so that batches come in between."""
        with self._changed:
            if not self._chores:
                return
            chore = self._chores.pop(0)
        with self._files:
            try:
                connection = self._opened()
                connection.begin()
                answer = chore.work(connection)
                connection.commit()
            except Exception as error:
                self._reset(error)
                failed: Exception | None = error
                answer = None
            else:
                failed = None
        if failed is not None:
            chore.answer.set_exception(failed)
        else:
            chore.answer.set_result(answer)

    def _due(self) -> bool:
        if not self._waiting:
            return False
        return self._urgent or self._waiting_rows >= FLUSH_ROWS or self.full or self._due_in() == 0

    def _due_in(self) -> float | None:
        """Seconds; None while nothing waits. The first line after a quiet time is written at once."""
        if not self._waiting:
            return None
        return max(0.0, self._last_commit + self._flush_s - time.monotonic())

    def _write(self, batches: list[Batch]) -> BaseException | None:
        """Commit, as often as it takes. An error is answered only when the store stops."""
        delay = RETRY_FIRST_S
        while True:
            if (error := self._try_to_write(batches, again=delay > RETRY_FIRST_S)) is not None:
                if self._stopping:
                    return error
                if delay == RETRY_FIRST_S:
                    self._warn(f"the log and metric database cannot be written, lines wait in their files: {error}")
                self._pause(delay)
                delay = min(RETRY_MOST_S, delay * 2)
                continue
            if delay > RETRY_FIRST_S:
                log.warning("the log and metric database is written again")
            self._last_commit = time.monotonic()
            return None

    def _try_to_write(self, batches: list[Batch], *, again: bool) -> Exception | None:
        """Whatever goes wrong, the lines stay where they are and this thread goes on."""
        with self._files:
            try:
                if not again or not self._landed(batches):
                    self._commit(batches)
            except Exception as error:
                self._reset(error)
                return error
        return None

    def _landed(self, batches: list[Batch]) -> bool:
        """Whether a commit that failed did happen: a checkpoint may fail behind it. A second cursor does no harm."""
        rows = next((rows for batch in batches if (rows := batch.rows.get(LINES))), None)
        if not rows:
            return False
        newest = self._opened().execute(f"SELECT max(seq) FROM {LINES}").fetchone()
        return newest is not None and newest[0] is not None and newest[0] >= rows[0][0]

    def _commit(self, batches: list[Batch]) -> None:
        connection = self._opened()
        tables = [table for table in TABLES if any(batch.rows.get(table) for batch in batches)]
        if not tables:
            return
        connection.begin()
        for table in tables:
            rows = [row for batch in batches for row in batch.rows.get(table, ())]
            if TABLES[table]:
                rows = list({row[0]: row for row in rows}.values())
                self._superseded += len(rows)
            appender = self._appender(connection, table)
            for start in range(0, len(rows), APPEND_ROWS):
                appender.append_rows(rows[start : start + APPEND_ROWS])
            appender.flush()
        if self._superseded >= PRUNE_ROWS:
            self._prune(connection)
        self._counted += sum(len(batch.rows.get(table, ())) for batch in batches for table in (REQUESTS, GPU_SAMPLES))
        if self._counted >= PRUNE_ROWS:
            self._prune_counts(connection)
        connection.commit()

    def _prune(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Cursors that a later one of the same container has replaced."""
        connection.execute(
            f"DELETE FROM {CURSORS} USING (SELECT container, max(seq) AS newest FROM {CURSORS} GROUP BY ALL) latest"
            " WHERE cursors.container = latest.container AND cursors.seq < latest.newest"
        )
        self._superseded = 0

    def _prune_counts(self, connection: duckdb.DuckDBPyConnection) -> None:
        """What is old by the clock and beside the newest: one of the two may be in a wrong year."""
        for newest_of, tables in ((REQUESTS, (REQUESTS, FAILURES)), (GPU_SAMPLES, (GPU_SAMPLES,))):
            newest = f"(SELECT least(max(ts), make_timestamp({time.time_ns() // 1000})) FROM {newest_of})"
            for table in tables:
                connection.execute(f"DELETE FROM {table} WHERE ts < {newest} - INTERVAL {KEEP_COUNTS_DAYS} DAY")
        self._counted = 0

    def _appender(self, connection: duckdb.DuckDBPyConnection, table: str) -> duckdb.Appender:
        """Kept open from batch to batch, which makes small ones cheaper."""
        found = self._appenders.get(table)
        if found is None:
            found = connection.appender(table)
            self._appenders[table] = found
        return found

    def _reset(self, error: Exception) -> None:
        """After a failed commit: nothing of it stays. A fatal error has made the whole instance unusable."""
        for appender in self._appenders.values():
            with suppress(duckdb.Error):
                appender.clear()  # else it would write its rest when it is collected
        self._appenders.clear()
        if self._connection is None:
            return
        try:
            self._connection.rollback()
        except duckdb.Error as failed:
            log.debug("no rollback after %s: %s", error, failed)
        if isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
            self._close()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def _opened(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._open()
        assert self._connection is not None
        return self._connection

    def _open(self) -> bool:
        """Whether something was moved aside."""
        connection, warnings = open_database(self._file, memory_mb=self._memory_mb)
        with self._changed:
            self._connection = connection
            self.moved_aside += bool(warnings)
        for warning in warnings:
            self._warn(warning)
        return bool(warnings)

    def _close(self) -> None:
        """Readers are interrupted first: while one is open, the instance stays open with it."""
        with self._changed:
            connection, self._connection = self._connection, None
            for reader in self._readers:
                reader.interrupt()
            self._changed.wait_for(lambda: not self._readers, CLOSE_S)
        self._appenders.clear()
        if connection is not None:
            connection.close()


def wal_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.wal")


def _is_open(file: Path) -> bool:
    """By this process. Nothing is opened here: with a descriptor that is closed, DuckDB's lock would go."""
    there = file.stat()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if os.path.samestat(link.stat(), there):
                return True
    return False


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _closing() -> TelemetryError:
    return TelemetryError("the log and metric database is being closed", hint="try again once the daemon runs")


def _copy_file(source: Path, target: Path, given_up: Callable[[], bool]) -> None:
    argv = ["cp", "--reflink=auto", "--sparse=always", "--", str(source), str(target)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as copying:
        said: bytes | None = None
        while said is None:
            try:
                _, said = copying.communicate(timeout=COPY_POLL_S)
            except subprocess.TimeoutExpired:
                if given_up():
                    copying.kill()
    if copying.returncode:
        raise TelemetryError(
            f"the log and metric database could not be copied: {said.decode('utf-8', 'replace').strip()}",
            where=str(target),
            hint="free some space, then try again",
        )
