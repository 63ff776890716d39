"""Questions in SQL: how many at once, for how long, with how much memory, and how one is ended early.

Each runs in a thread of its own beside what the daemon needs for itself, so that logs are read while all places here
are taken. Whoever asks is answered in time even where the database does not let go of the thread: its place stays
taken until it does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from appliance.errors import ApplianceError, Conflict, NoSpace, NotFound, TelemetryError, TooMany, UsageError
from appliance.telemetry.sql.policy import HINT
from appliance.telemetry.sql.running import StateReader, Stopped, run
from appliance.telemetry.sql.sinks import Ending, Sink

log = logging.getLogger(__name__)

PLACES = 3
"""Questions at once; more wait for a place as long as they may take."""
LONGEST_S = 600.0
"""A question may take at most."""
MOST_ROWS = 10_000_000
"""Of an answer, whatever is asked for."""
LET_GO_S = 5.0
"""For a question that was interrupted to end."""
LOOK_S = 0.05
"""Between two looks at the clock and at the memory while one runs."""
SPARE_BYTES = 512 << 20
"""What the daemon may grow by while questions run, beside the database's own limit: that does not count all."""
NARROW = "narrow it, for example by time or by name"
Reading = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]


@dataclass(slots=True)
class Question:
    """One that runs. `began` in seconds of the monotonic clock."""

    id: str
    text: str
    began: float
    connection: duckdb.DuckDBPyConnection | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    """Nobody waits for its answer any more."""
    canceled: bool = False

    def interrupt(self) -> None:
        self.ended.set()
        connection = self.connection
        if connection is not None:
            with suppress(duckdb.Error):  # it has just been closed
                connection.interrupt()


class SqlDoor:
    """The methods belong to the event loop's thread."""

    def __init__(self, reading: Reading, *, memory_mb: int) -> None:
        self._reading = reading
        self._most_bytes = (memory_mb << 20) + SPARE_BYTES
        self._memory_mb = memory_mb
        self._free = PLACES
        self._waiting: list[asyncio.Future[None]] = []
        self._running: dict[str, Question] = {}
        self._numbers = 0

    def running(self) -> list[Question]:
        """Oldest first."""
        return list(self._running.values())

    def cancel(self, question_id: str) -> None:
        """End it; who waits for it gets a Conflict. Raises NotFound."""
        found = self._running.get(question_id)
        if found is None:
            raise NotFound("no query with that id runs", where="sql", hint="it may have ended; GET /v1/sql lists them")
        found.canceled = True
        found.interrupt()

    async def ask(
        self,
        text: str,
        sink: Sink,
        *,
        limit: int,
        timeout_s: float,
        state: StateReader | None = None,
        question_id: str = "",
    ) -> Ending:
        """Answer to `sink`. When the caller is cancelled, so is the question.

        Raises UsageError for what is wrong or not allowed, Conflict where it was canceled or the id is taken,
        TelemetryError when it takes too long or too much, TooMany when no place gets free in time.
        """
        if question_id in self._running:
            raise Conflict(f"a query with the id {question_id!r} runs", where="sql", hint="give each an id of its own")
        self._numbers += 1
        question = Question(question_id or f"query-{self._numbers}", text, time.monotonic())
        timeout_s = min(timeout_s, LONGEST_S)
        self._running[question.id] = question
        answer: asyncio.Future[Ending] | None = None
        try:
            await self._place(timeout_s)
            answer = self._start(question, sink, min(limit, MOST_ROWS), state)
            return await self._wait(question, answer, timeout_s)
        except BaseException:
            question.interrupt()
            if answer is None or answer.done():
                sink.close()
            else:
                answer.add_done_callback(_forget)
                answer.add_done_callback(lambda _: sink.close())  # its thread still writes there
            raise
        finally:
            self._running.pop(question.id, None)

    async def _place(self, timeout_s: float) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException as error:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.done() and not turn.cancelled():
                self._give_back()  # it came together with the end
            if isinstance(error, TimeoutError):
                raise TooMany(
                    f"{PLACES} queries run already", where="sql", hint="wait for one to end, or cancel one"
                ) from None
            raise

    def _give_back(self) -> None:
        while self._waiting:
            turn = self._waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _start(self, question: Question, sink: Sink, limit: int, state: StateReader | None) -> asyncio.Future[Ending]:
        loop = asyncio.get_running_loop()
        answer: Future[Ending] = Future()

        def work() -> None:
            try:
                with self._reading() as connection:
                    question.connection = connection
                    stopped = question.ended.is_set
                    try:
                        ending = run(connection, question.text, sink, limit=limit, state=state, stopped=stopped)
                    finally:
                        question.connection = None
            except BaseException as error:  # it belongs to who asked
                answer.set_exception(error)
            else:
                answer.set_result(ending)
            with suppress(RuntimeError):  # the loop has closed: nobody takes a place any more
                loop.call_soon_threadsafe(self._give_back)

        answer.set_running_or_notify_cancel()
        threading.Thread(target=work, name=f"sql-{question.id}", daemon=True).start()
        return asyncio.wrap_future(answer)

    async def _wait(self, question: Question, answer: asyncio.Future[Ending], timeout_s: float) -> Ending:
        why = ""
        had = _resident()
        end = time.monotonic() + timeout_s
        give_up = float("inf")
        while not answer.done():
            await asyncio.wait({answer}, timeout=LOOK_S)
            now = time.monotonic()
            if not why and (why := self._reason(question, now - end, _resident() - had, timeout_s)):
                give_up = now + LET_GO_S
            if why:
                question.interrupt()  # again: one that comes between two statements is forgotten
            if now > give_up and not answer.done():
                log.warning("a query does not end though it was interrupted: %s", question.text)
                raise _ended(why, question)
        try:
            return answer.result()
        except (Stopped, duckdb.InterruptException) as error:
            raise _ended(why or "the query was ended, for the database is being closed", question) from error
        except duckdb.OutOfMemoryException as error:
            raise TelemetryError(
                f"the query needs more than the {self._memory_mb} MiB that the database may use", hint=NARROW
            ) from error
        except OSError as error:
            raise NoSpace(f"the answer cannot be kept: {error.strerror}", hint="free some disk space") from error
        except ApplianceError:
            raise
        except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException) as error:
            log.warning("a query failed: %s", error)
            raise TelemetryError("the query failed", hint="narrow it, or see the daemon's log") from error
        except duckdb.Error as error:
            raise UsageError(str(error).strip(), where="sql", hint=HINT) from error

    def _reason(self, question: Question, late_s: float, grown: int, timeout_s: float) -> str:
        """To end it; empty: none."""
        if question.canceled:
            return "the query was canceled"
        if late_s >= 0:
            return f"the query was ended after {timeout_s:g} s"
        if grown > self._most_bytes:
            return "the query was ended, for it took too much memory"
        return ""


def _ended(why: str, question: Question) -> ApplianceError:
    if question.canceled:
        return Conflict(why, where="sql")
    return TelemetryError(why, hint=NARROW)


def _forget(answer: asyncio.Future[Ending]) -> None:
    if not answer.cancelled():
        answer.exception()


def _resident() -> int:
    """Bytes of memory that this process has."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
