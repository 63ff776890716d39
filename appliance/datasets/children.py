"""Starting `program` for one piece of work on a tree, and saying in our words what it answers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import appliance
from appliance.errors import ApplianceError, StorageError, all_errors

CHUNK = 1 << 18
MOST_ANSWER = 64 << 20
"""Bytes of an answer that is kept whole: a pack, or what of a very large manifest is missing."""
_START = (
    "import sys; sys.path.append(sys.argv[1]); from appliance.datasets.program import main;"
    " raise SystemExit(main(sys.argv[2:]))"
)
_HOME = str(Path(appliance.__file__).parents[1])


async def ask(verb: str, root: Path, *arguments: str, given: AsyncIterator[bytes] | None = None) -> Any:
    """The JSON document that the work answers with. Raises what it raises; a cancelled caller ends the work."""
    return json.loads(await answer(verb, root, *arguments, given=given))


async def answer(verb: str, root: Path, *arguments: str, given: AsyncIterator[bytes] | None = None) -> bytes:
    """All that the work writes, at most MOST_ANSWER bytes. `given` is written to its stdin."""
    async with _started(verb, root, arguments) as process:
        _, out, err = _pipes(process)
        works = [asyncio.ensure_future(work) for work in (_all(out), err.read(), _feed(process, given))]
        try:
            said, complaint, _ = await asyncio.gather(*works)
        finally:
            for work in works:
                work.cancel()
        await _check(process, verb, complaint or b"")
        return said or b""


async def stream(verb: str, root: Path, *arguments: str) -> AsyncIterator[bytes]:
    """What the work writes, as it comes. Close the iterator to end it early. Raises at the end what the work raises."""
    async with _started(verb, root, arguments) as process:
        given, out, err = _pipes(process)
        given.close()
        complaint = asyncio.create_task(err.read())
        try:
            while piece := await out.read(CHUNK):
                yield piece
            await _check(process, verb, await complaint)
        finally:
            complaint.cancel()


@asynccontextmanager
async def _started(verb: str, root: Path, arguments: tuple[str, ...]) -> AsyncIterator[Process]:
    program = [sys.executable, "-I", "-S", "-c", _START, _HOME, verb, str(os.getpid()), str(root), *arguments]
    environment = {"LC_ALL": "C.UTF-8", "PATH": os.defpath}
    process = await asyncio.create_subprocess_exec(
        *program, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, cwd="/", limit=CHUNK
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())


def _pipes(process: Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamReader]:
    given, out, err = process.stdin, process.stdout, process.stderr
    if given is None or out is None or err is None:
        raise AssertionError("all three were asked for")
    return given, out, err


async def _feed(process: Process, given: AsyncIterator[bytes] | None) -> None:
    pipe, _, _ = _pipes(process)
    try:
        if given is not None:
            async for piece in given:
                pipe.write(piece)
                await pipe.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # it has ended, and says why itself
    finally:
        pipe.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await reader.read(CHUNK):
        size += len(piece)
        if size > MOST_ANSWER:
            raise StorageError("the answer is too large", hint="ask for fewer files at once")
        pieces.append(piece)
    return b"".join(pieces)


async def _check(process: Process, verb: str, complaint: bytes) -> None:
    if await process.wait() == 0:
        return
    raise _error(verb, process.returncode or 0, complaint)


def _error(verb: str, code: int, complaint: bytes) -> ApplianceError:
    try:
        said = json.loads(complaint.splitlines()[-1])
        return all_errors()[said["code"]](said["message"], hint=said["hint"], where=said["where"])
    except (ValueError, KeyError, TypeError, IndexError):
        text = complaint.decode("utf-8", "replace")[-500:] or f"exit code {code}"
        return StorageError(f"the {verb} program failed: {text}", hint="the daemon's log tells more")
