"""`zfs send | zfs receive`: two programs and what flows between them, counted, and stopped from any thread."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import IO

from appliance.errors import ApplianceError, StorageError
from appliance.storage.argv import program_path
from appliance.storage.zfs.command import meaning

CHUNK = 1 << 20
"""Bytes that are moved at a time, inside the kernel."""


class Stopped(StorageError):
    """Somebody has called `Stop.stop`. Never leaves this room."""


class Stop:
    """Ends the programs that run on its behalf, and every one that would be started afterwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._running: set[subprocess.Popen[bytes]] = set()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def check(self) -> None:
        """Raises Stopped."""
        if self._stopped:
            raise Stopped("the transfer was stopped", hint="begin it again; it goes on where it ended")

    def start(self, argv: Sequence[str], stdin: int, stdout: int, said: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "LC_ALL": "C", "PATH": program_path()}
        with self._lock:
            self.check()
            try:
                process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=said, env=environment, cwd="/")
            except OSError as error:
                raise StorageError(
                    f"cannot start {argv[0]!r}: {error}", hint="free some memory or processes"
                ) from error
            self._running.add(process)
        return process

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(process)


def pipe(send: Sequence[str], receive: Sequence[str], stop: Stop, count: Callable[[int], None]) -> None:
    """Run both to their end; `count` is given the bytes of each chunk. Raises what they say, of both sides."""
    with tempfile.TemporaryFile() as sent, tempfile.TemporaryFile() as received:
        null, pipe_size = subprocess.DEVNULL, subprocess.PIPE
        sender = stop.start(send, null, pipe_size, sent)
        receiver = None
        try:
            receiver = stop.start(receive, pipe_size, null, received)
            _flow(sender, receiver, count)
        finally:
            for process in (receiver, sender):
                if process is not None:
                    _close(process)
                    stop.ended(process)
        stop.check()
        _judge(send, sender.returncode, sent, receive, receiver.returncode, received)


def _flow(sender: subprocess.Popen[bytes], receiver: subprocess.Popen[bytes], count: Callable[[int], None]) -> None:
    assert sender.stdout
    assert receiver.stdin
    try:
        while moved := os.splice(sender.stdout.fileno(), receiver.stdin.fileno(), CHUNK):
            count(moved)
    except BrokenPipeError:
        return  # the receiver says why


def _close(process: subprocess.Popen[bytes]) -> None:
    """Close our end, which lets the program come to its own; it is reaped here whatever happens."""
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    try:
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


def _judge(
    send: Sequence[str], send_code: int, sent: IO[bytes], receive: Sequence[str], receive_code: int, received: IO[bytes]
) -> None:
    if not send_code and not receive_code:
        return
    words = []
    for argv, code, said in ((receive, receive_code, received), (send, send_code, sent)):
        said.seek(0)
        text = said.read(4000).decode("utf-8", "replace").strip()
        if code:
            words.append(f"{' '.join(argv[:2])}: {text or f'exit code {code}'}")
    raise _error(send, receive, "\n".join(words))


def _error(send: Sequence[str], receive: Sequence[str], text: str) -> ApplianceError:
    error = meaning(send[0], tuple(send[1:]), text)
    error.where = f"{' '.join(send)} | {' '.join(receive)}"
    return error
