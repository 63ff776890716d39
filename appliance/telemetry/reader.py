"""The one thread that follows the logs of all attached containers and hands their lines to the store."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from appliance.errors import TelemetryError
from appliance.telemetry.database import CURSORS, LINES, SOURCES
from appliance.telemetry.query import read_cursor
from appliance.telemetry.records import Joiner, Line
from appliance.telemetry.redact import Redactor
from appliance.telemetry.store import Batch, Row, Store
from appliance.telemetry.tail import Tail
from appliance.telemetry.types import LogSource

log = logging.getLogger(__name__)

POLL_BUSY_S = 0.1
POLL_QUIET_S = 0.25
QUIET_AFTER_S = 5.0
"""Without a line from any container."""
POLL_FULL_S = 0.02
RETRY_S = 5.0
"""Before a log that could not be read is tried again."""


class _Follower:
    """One container: its files, its unfinished lines, and who waits for its end."""

    def __init__(self, source: LogSource, path: Path) -> None:
        self.source = source
        self.path = path
        self.number = 0
        self.known = False
        """Whether the store has been given the source under `number`."""
        self.tail: Tail | None = None
        self.joiner = Joiner()
        self.draining: list[Future[None]] = []
        """Everything to the end of the log is wanted; then this follower goes."""
        self.again = False
        """Attached while it was being drained: the container was started once more."""
        self.ended = False
        """Its last batch was submitted. It stays until that is committed: its stored cursor is behind before."""
        self.committed = False
        self.not_before = 0.0
        self.unreadable = False
        self.gaps = 0
        self.damaged = 0

    def __str__(self) -> str:
        source = self.source
        owner = "/".join(part for part in (source.kind, source.name, source.part) if part)
        return f"{owner} (container {source.container[:12]})"


class Reader:
    """`attach`, `drain` and `wake` may be called from any thread."""

    def __init__(self, store: Store, warn: Callable[[str], None]) -> None:
        self.redactor = Redactor()
        """Replaced as a whole when secrets are added."""
        self._store = store
        self._warn = warn
        self._followers: dict[str, _Follower] = {}
        self._requests: list[tuple[LogSource, Path, Future[None] | None]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._last_line = 0.0
        self._seq = itertools.count(1)
        self._sources = itertools.count(1)
        self._thread = threading.Thread(target=self._run, name="telemetry-reader", daemon=True)

    def start(self) -> None:
        """After the store has started."""
        self._seq = itertools.count(self._store.next_seq)
        self._sources = itertools.count(self._store.next_source)
        self._thread.start()

    def stop(self) -> None:
        """What has been read is with the store; the rest is read by the next process."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def attach(self, source: LogSource, path: Path) -> None:
        self._request(source, path, None)

    def drain(self, source: LogSource, path: Path) -> Future[None]:
        """Done once everything up to the end of the log is committed; TelemetryError where it cannot be."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # from here on nobody can cancel it under the writer's hands
        self._request(source, path, future)
        return future

    def followed(self) -> set[str]:
        """Containers whose lines are still being read."""
        with self._lock:
            asked = [source.container for source, _, _ in self._requests]
        return {*tuple(self._followers), *asked}

    def wake(self) -> None:
        self._wake.set()

    def _request(self, source: LogSource, path: Path, future: Future[None] | None) -> None:
        with self._lock:
            self._requests.append((source, path, future))
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._drop_ended()
            self._take_requests()
            moved = False
            now = time.monotonic()
            for follower in tuple(self._followers.values()):
                if not follower.ended and now >= follower.not_before:
                    moved = self._safe_step(follower) or moved
            if moved:
                self._last_line = now
                continue
            self._wake.wait(self._pause())
            self._wake.clear()
        self._abandon()

    def _pause(self) -> float | None:
        if not self._followers:
            return None
        if self._store.full:
            return POLL_FULL_S
        quiet = time.monotonic() - self._last_line > QUIET_AFTER_S
        return POLL_QUIET_S if quiet else POLL_BUSY_S

    def _drop_ended(self) -> None:
        for container, follower in tuple(self._followers.items()):
            if not follower.committed:
                continue
            del self._followers[container]
            if follower.again:
                self._followers[container] = _Follower(follower.source, follower.path)

    def _take_requests(self) -> None:
        with self._lock:
            requests, self._requests = self._requests, []
        for request in requests:
            source, path, future = request
            follower = self._followers.get(source.container)
            if follower is None:
                follower = self._followers[source.container] = _Follower(source, path)
            if follower.ended and future is not None:
                with self._lock:
                    self._requests.append(request)  # once its last batch is committed
            elif future is not None:
                follower.draining.append(future)
                follower.again = False
                follower.not_before = 0.0
            elif follower.draining or follower.ended:
                follower.again = True

    def _safe_step(self, follower: _Follower) -> bool:
        """One container's trouble must not stop the others."""
        try:
            return self._step(follower)
        except OSError as error:
            if not follower.unreadable:
                self._warn(f"the log of {follower} cannot be read: {error}")
            follower.unreadable = True
            failure = TelemetryError(
                f"the log of {follower} cannot be read: {error}",
                where=str(follower.path),
                hint="the daemon must run on the engine's machine with the right to read its files",
            )
        except Exception as error:
            log.exception("following the log of %s failed", follower)
            failure = TelemetryError(f"the log of {follower} cannot be followed: {error}", where=str(follower.path))
        follower.not_before = time.monotonic() + RETRY_S
        if follower.draining:
            self._finish(follower, [], failure)
        return False

    def _step(self, follower: _Follower) -> bool:
        """Read one block. Whether there was one."""
        tail = follower.tail or self._open(follower)
        ready = tail.poll()  # even while the store is full: files that are open are not lost to rotation
        self._report(follower, tail)
        if self._store.full:
            return False
        draining = bool(follower.draining)
        block = tail.read(final=draining) if ready else b""
        if block:
            self._submit(follower, follower.joiner.feed(block, self.redactor), len(block))
            return True
        if draining or tail.removed:
            if not tail.found:
                self._warn(f"the log of {follower} is gone, nothing more can be read of it: {follower.path}")
            self._finish(follower, follower.joiner.finish(self.redactor))
        return False

    def _open(self, follower: _Follower) -> Tail:
        with self._store.reading() as connection:
            number, position, pending = read_cursor(connection, follower.source.container)
        follower.known = number is not None
        follower.number = number if number is not None else next(self._sources)
        follower.joiner = Joiner(pending)
        follower.tail = Tail(follower.path, position)
        return follower.tail

    def _rows(self, follower: _Follower, lines: list[Line]) -> dict[str, list[Row]]:
        position = follower.tail.position if follower.tail else None
        if position is None:
            return {}
        source, number = follower.source, follower.number
        pending = follower.joiner.pending(self.redactor)
        seq = self._seq
        rows: dict[str, list[Row]] = {
            LINES: [(next(seq), at, number, is_error, text) for at, is_error, text in lines],
            CURSORS: [(source.container, next(seq), position.inode, position.offset, position.mark, pending)],
        }
        if not follower.known:
            rows[SOURCES] = [(number, source.kind, source.name, source.part, source.container)]
            follower.known = True
        return rows

    def _submit(self, follower: _Follower, lines: list[Line], size: int) -> None:
        self._store.submit(Batch(self._rows(follower, lines), size, follower.source))

    def _finish(self, follower: _Follower, lines: list[Line], failure: Exception | None = None) -> None:
        """The last batch of this follower; when it is committed, those who wait for the drain are told."""
        futures, follower.draining = follower.draining, []

        def written(error: BaseException | None) -> None:
            for future in futures:
                _settle(future, error or failure)
            follower.committed = True
            self._wake.set()

        rows = self._rows(follower, lines) if lines else {}
        follower.ended = True
        self._store.submit(Batch(rows, sum(len(text) for _, _, text in lines), follower.source, written))
        if follower.tail:
            follower.tail.close()

    def _report(self, follower: _Follower, tail: Tail) -> None:
        if tail.gaps > follower.gaps:
            follower.gaps = tail.gaps
            self._warn(f"lines of {follower} may be missing: the engine removed its log file before it was read")
        if follower.joiner.damaged and not follower.damaged:
            follower.damaged = follower.joiner.damaged
            self._warn(f"the log file of {follower} holds damaged records; what can be read of them is kept")

    def _abandon(self) -> None:
        error = TelemetryError("the log reader has stopped", hint="the rest is read when the daemon starts again")
        with self._lock:
            futures = [future for _, _, future in self._requests if future is not None]
        for follower in self._followers.values():
            futures += follower.draining
            if follower.tail:
                follower.tail.close()
        for future in futures:
            _settle(future, error)


def _settle(future: Future[None], error: BaseException | None) -> None:
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
