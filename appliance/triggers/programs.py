"""Run a program that speaks to a hostile server: another user, an empty environment, bounds on everything.

An equivalent of `storage.argv.run` for what must not be trusted: a deadline that ends the whole process group, an
output that is cut off, limits on file size and memory, and no rights of the daemon's where the daemon is root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ApplianceError

LARGEST_FILE = 512 << 20
"""Bytes of one file that the program may write."""
MOST_MEMORY = 1 << 30
"""Bytes of address space."""
LONGEST_ERROR = 8192
_CHUNK = 1 << 16

# What follows is one fixed text; the program and its arguments come as arguments of it.
_LIMITS = 'ulimit -c 0; ulimit -f "$1" 2>/dev/null; ulimit -v "$2" 2>/dev/null; shift 2; exec "$@"'


class TooMuch(ApplianceError):
    """It answered with more than anybody wants to read."""


@dataclass(frozen=True, slots=True)
class User:
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    out: bytes
    err: str
    """Printable, one line where it can be; cut at `LONGEST_ERROR` bytes."""


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    user: User | None,
    most: int,
    timeout_s: float,
) -> Answer:
    """To the end. `most` bytes of output are read. Raises TooMuch, TimeoutError, OSError."""
    identity = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
    limits = ("/bin/sh", "-c", _LIMITS, "sh", str(LARGEST_FILE // 512), str(MOST_MEMORY // 1024))
    process = await asyncio.create_subprocess_exec(
        *limits,
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=dict(env),
        start_new_session=True,
        **identity,  # type: ignore[arg-type]
    )
    assert process.stdout is not None, "asked for"
    assert process.stderr is not None, "asked for"
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await asyncio.gather(_read(process.stdout, most), _drain(process.stderr))
            code = await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return Answer(code, out, _words(err))


async def _read(stream: asyncio.StreamReader, most: int) -> bytes:
    found = bytearray()
    while piece := await stream.read(_CHUNK):
        found += piece
        if len(found) > most:
            raise TooMuch(f"the answer is larger than {most:,} bytes")
    return bytes(found)


async def _drain(stream: asyncio.StreamReader) -> bytes:
    found = bytearray()
    while piece := await stream.read(_CHUNK):
        found += piece[: LONGEST_ERROR - len(found)]
    return bytes(found)


def _words(err: bytes) -> str:
    lines = err.decode("utf-8", "replace").splitlines()
    return "\n".join("".join(c for c in line if c.isprintable()).strip() for line in lines).strip()
