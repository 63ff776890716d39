"""Start the child programs of this room, stream what they say, and end them when nobody listens any more."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import anyio

from appliance import paths
from appliance.errors import NotFound, StorageError, Unavailable, UsageError
from appliance.history.diff import file, program, tree
from appliance.storage.threads import in_thread

if TYPE_CHECKING:
    from appliance import wire

CHUNK = 1 << 18
FILE_S = 120.0
"""Deadline for one file. Two of the largest that are read take a few seconds."""
BATCH = 2000
"""Hints taken in one go; between two of them a cancellation is seen."""
_ROOT = str(Path(__file__).resolve().parents[3])
_MOST_ERROR = 1 << 16


@asynccontextmanager
async def walking(
    older: Path, newer: Path, options: tree.Options, hints: Iterator[str] | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Batches of whole lines of JSON: `wire.FileChange`, at last `wire.DiffEnd`. Leaving ends the walk.

    A walk that fails on the way ends with a DiffEnd that says so: what it has told before is right.
    """
    document = {
        "checksum": options.checksum,
        "under": paths.encode(options.under),
        "most": options.most,
        "doubt_ns": options.doubt_ns,
        "hints": hints is not None,
    }
    with tempfile.TemporaryFile() as given:
        if hints is not None:
            await _spool(hints, given)
            given.seek(0)
        async with _child("tree", older, newer, document, given) as process:
            yield _lines(process)


async def one_file(older: Path, newer: Path, path: str, was: str) -> bytes:
    """A `wire.FileDiff` as JSON. Raises NotFound, UsageError for a directory."""
    document = {"path": path, "was": was}
    with tempfile.TemporaryFile() as nothing:
        async with _child("file", older, newer, document, nothing) as process:
            try:
                async with asyncio.timeout(FILE_S):
                    answer, said = await process.communicate()
            except TimeoutError:
                raise Unavailable(
                    f"comparing took more than {FILE_S:.0f} s and was given up",
                    where=path,
                    hint="read both files with `appliance notebook cat` and compare them elsewhere",
                ) from None
    if process.returncode == 0:
        return answer
    if process.returncode == file.MISSING:
        raise NotFound(f"no file {path!r} in either moment", hint="`appliance notebook diff NAME` lists what differs")
    if process.returncode == file.DIRECTORY:
        raise UsageError(f"{path!r} is a directory", hint="leave the path out to list what differs, or name a file")
    raise _failed(said, process.returncode)


@asynccontextmanager
async def _child(
    name: str, older: Path, newer: Path, options: Mapping[str, Any], given: IO[bytes]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Killed and reaped at the end, however that comes."""
    arguments = [_ROOT, name, str(os.getpid()), str(older), str(newer), json.dumps(options)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", program.BOOT, *arguments),
        stdin=given,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=CHUNK,
        cwd="/",
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    assert process.stdout is not None, "it was opened as a pipe"
    assert process.stderr is not None, "it was opened as a pipe"
    rest = b""
    ended = False
    while piece := await process.stdout.read(CHUNK):
        whole, newline, tail = piece.rpartition(b"\n")
        if not newline:
            rest += piece
            continue
        batch = b"%s%s\n" % (rest, whole)
        rest = tail
        ended = batch.rpartition(b"\n")[0].rpartition(b"\n")[2].startswith(b'{"end"')
        yield batch
    code = await process.wait()
    if not ended:
        error = _failed(await process.stderr.read(_MOST_ERROR), code)
        end: wire.DiffEnd = {"end": True, "cut": error.message, "changes": 0, "entries": 0}
        yield json.dumps(end).encode() + b"\n"


async def _spool(hints: Iterator[str], into: IO[bytes]) -> None:
    """The store gives its hints as it finds them, and blocks."""
    size = 0

    def batch() -> int:
        taken = [os.fsencode(path) + b"\0" for path in islice(hints, BATCH)]
        into.write(b"".join(taken))
        return sum(map(len, taken))

    while more := await in_thread(batch):
        size += more
        if size > tree.HINTS:
            return


def _failed(said: bytes, code: int | None) -> StorageError:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    why = lines[-1] if lines else f"its process ended with {code}"
    return StorageError(f"the comparison failed: {why}", hint="the daemon's log tells more")
