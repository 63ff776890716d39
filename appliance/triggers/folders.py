"""What a folder of this machine holds, by names, sizes and times: no file is opened, no link followed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

MOST_ENTRIES = 20_000
DEEPEST = 64
ANSWER_S = 30.0
"""A look that takes longer is told; a network disk that is away may take for ever."""


@dataclass(frozen=True, slots=True)
class Found:
    fingerprint: str = ""
    """Empty: there is nothing at that path."""
    entries: int = 0
    problem: str = ""
    """Why it cannot be looked at."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last looks found, and since when (unix time) it is the same."""

    fingerprint: str
    entries: int
    problem: str
    since: float


class _Stop(Exception):
    """The folder is not looked at, for the reason that this says."""


def look(path: str, *, home: str = "") -> Found:
    """Blocks for as long as the disk does: see `aside`. `home` is the appliance's, which is not looked at."""
    try:
        if home and _holds(path, home):
            words = "holds the appliance's own state, which every run changes: name a folder outside of it"
            return Found(problem=f"{path} {words}")
        about = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Found()
    except (OSError, ValueError) as error:
        return Found(problem=f"{path} cannot be looked at: {_reason(error)}")
    if stat.S_ISLNK(about.st_mode):
        return Found(problem=f"{path} is a link, which is not followed: write the path that it leads to")
    digest = hashlib.sha256()
    if not stat.S_ISDIR(about.st_mode):
        _add(digest, b"", about, b"")
        return Found(digest.hexdigest(), 1)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            entries = _walk(descriptor, b"", digest, 0, 0)
        finally:
            os.close(descriptor)
    except _Stop as stop:
        return Found(problem=f"{path} {stop}")
    except OSError as error:
        return Found(problem=f"{path} cannot be looked at: {_reason(error)}")
    return Found(digest.hexdigest(), entries)


def _holds(path: str, home: str) -> bool:
    """Whether one lies in the other; the watched folder of specs is no state."""
    here, ours = os.path.realpath(path), os.path.realpath(home)
    specs = os.path.join(ours, "specs")
    if here == specs or here.startswith(f"{specs}/"):
        return False
    return f"{ours}/".startswith(f"{here.rstrip('/')}/") or here.startswith(f"{ours}/")


def _walk(descriptor: int, prefix: bytes, digest: hashlib._Hash, depth: int, before: int) -> int:
    """How many entries there are so far. A file that is removed meanwhile is none."""
    if depth > DEEPEST:
        raise _Stop(f"is more than {DEEPEST} folders deep: it is not looked at")
    found: list[tuple[bytes, os.stat_result]] = []
    with os.scandir(descriptor) as listing:
        for entry in listing:
            if before + len(found) >= MOST_ENTRIES:
                raise _Stop(f"has more than {MOST_ENTRIES:,} entries: it is not looked at; name a smaller folder")
            try:
                found.append((os.fsencode(entry.name), entry.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue
    count = before + len(found)
    for name, about in sorted(found, key=lambda one: one[0]):
        path = prefix + b"/" + name
        if not stat.S_ISDIR(about.st_mode):
            _add(digest, path, about, _target(name, descriptor) if stat.S_ISLNK(about.st_mode) else b"")
            continue
        digest.update(b"d\0" + path + b"\0")
        try:
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        except OSError as error:
            digest.update(f"unreadable:{error.errno}\0".encode())
            continue
        try:
            count = _walk(child, path, digest, depth + 1, count)
        finally:
            os.close(child)
    return count


def _add(digest: hashlib._Hash, path: bytes, about: os.stat_result, target: bytes) -> None:
    kind = stat.S_IFMT(about.st_mode)
    size, changed = (about.st_size, about.st_mtime_ns) if kind == stat.S_IFREG else (0, 0)
    digest.update(b"%b\0%d\0%d\0%d\0%b\0" % (path, kind, size, changed, target))


def _target(name: bytes, descriptor: int) -> bytes:
    try:
        return os.readlink(name, dir_fd=descriptor)
    except OSError:
        return b""


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


async def aside(function: Callable[[], T]) -> T:
    """In a thread that neither the daemon's end nor other work waits for: a disk that is away holds up nobody."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def tell(value: T | None, error: Exception | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]  # without an error there is a value

    def work() -> None:
        value, error = None, None
        try:
            value = function()
        except Exception as problem:
            error = problem
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, value, error)

    threading.Thread(target=work, name="folder", daemon=True).start()
    return await result
