"""The child process from outside: started, listened to, and ended within a bound, also where it cannot be killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

END_S = 2.0
"""For a process to go once it was killed. One that waits in the kernel for a dead card does not."""
POLL_S = 0.02
MOST_LINE = 1 << 23
_START = "import sys; sys.path.append(sys.argv[1]); from appliance.gpu.probe import main; main(sys.argv[2:])"
_PACKAGES = str(Path(__file__).parents[2])

Kill = Callable[["subprocess.Popen[bytes]"], None]


def command() -> tuple[str, ...]:
    """How to start it; the folder that the daemon happens to be in has no say in what is imported."""
    return (sys.executable, "-I", "-c", _START, _PACKAGES)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()


class Child:
    """Not `asyncio.create_subprocess_exec`: that waits for the end of a process in ways that have no end either."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        transport: asyncio.BaseTransport,
        end: Kill,
    ) -> None:
        self.process = process
        self._reader = reader
        self._transport = transport
        self._kill = end

    @classmethod
    async def start(cls, argv: Sequence[str], end: Kill = kill) -> Child:
        """Raises OSError."""
        process = subprocess.Popen(  # noqa: ASYNC220 - a fork and an exec: milliseconds, as asyncio's own
            [*argv, "--parent", str(os.getpid())], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/"
        )
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MOST_LINE, loop=loop)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), process.stdout
        )
        return cls(process, reader, transport, end)

    async def line(self) -> bytes:
        """Empty: it has ended. Raises ValueError for a line that is too long."""
        try:
            return await self._reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, OSError):
            return b""
        except asyncio.LimitOverrunError as error:
            raise ValueError(str(error)) from None

    def runnable(self) -> bool:
        """Whether it wants a processor now: then it waits for nobody else."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text(errors="replace")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[:1] == ["R"]

    async def end(self) -> bool:
        """Whether it is gone; within END_S either way."""
        self._transport.close()
        if self.process.poll() is None:
            self._kill(self.process)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + END_S
        while self.process.poll() is None and loop.time() < deadline:  # noqa: ASYNC110 - nobody tells of its end
            await asyncio.sleep(POLL_S)
        return self.process.poll() is not None
