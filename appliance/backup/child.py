"""Programs beside the daemon for long work over trees: started, asked, and killed when nobody waits any more.

`python -I -S` with this package's folder on the path, and nothing else: the environment of the daemon decides nothing.
Each question is a line of JSON on stdin, answered by lines of JSON on stdout of which the last one has `end`. A
failure ends the program: exit code 1 with one line of JSON on stderr. See `program` for the other side.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from appliance.errors import ApplianceError, NoSpace, StorageError

MOST_LINE = 1 << 24
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_START = "import sys; sys.path.insert(0, sys.argv[1]); from appliance.backup.program import main; main(sys.argv[2:])"
_PACKAGES = str(Path(__file__).parents[2])

Answer = dict[str, Any]


class Program:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, asked: Answer, tell: Callable[[Answer], None]) -> Answer:
        """The last answer; `tell` gets each of them. Raises StorageError, NoSpace: then it has ended."""
        reading, writing = self._process.stdout, self._process.stdin
        assert reading is not None
        assert writing is not None
        writing.write(json.dumps(asked).encode() + b"\n")
        while line := await reading.readline():
            answer = json.loads(line)
            tell(answer)
            if answer.pop("end", False):
                return dict(answer)
        raise await self._failure(str(asked.get("source") or asked.get("target")))

    async def _failure(self, where: str) -> ApplianceError:
        assert self._process.stderr is not None
        said = await self._process.stderr.read()
        return _error(await self._process.wait(), said.decode("utf-8", "replace"), where)


@asynccontextmanager
async def started(name: str) -> AsyncIterator[Program]:
    """A program that lives as long as the `async with`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _START, _PACKAGES, name, str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MOST_LINE,
        cwd="/",
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.wait())


def _error(code: int, text: str, where: str) -> ApplianceError:
    try:
        said = json.loads(text.splitlines()[-1])
        number, message, path, hint = int(said["errno"] or 0), said["message"], said["path"], said["hint"]
    except (ValueError, KeyError, TypeError, IndexError):
        said = text.strip() or f"exit code {code}"
        return StorageError(f"the backup's program failed: {said}", where=where, hint="the daemon's log tells more")
    if number in FULL:
        return NoSpace(
            "the backup's disk is full; what it held before is still good",
            where=where,
            hint="free some space there, then repeat the command: it goes on from where it was",
        )
    return StorageError(message, where=path or where, hint=hint or "look at this file, then repeat the command")
