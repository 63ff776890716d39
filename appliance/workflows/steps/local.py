"""A repository of this machine, as a folder that is looked at without trust in who owns it.

That user may put a link in its place at any moment, and whatever the engine is told to bind it follows. So links are
followed only where root, or who the daemon runs as, has made them, and the program in the container compares what is
bound there with what was seen here before it reads anything.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import UsageError

MOST_LINKS = 20
_HINT = "a path must lead to a git repository on this machine"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder as it was seen, links resolved."""

    path: Path
    device: int
    inode: int
    uid: int
    gid: int


def look(path: str, *, inside: bool = False) -> Place:
    """The folder at an absolute path. `inside`: the one in it that is git's own, where there is a working tree around.

    Blocks for as long as the disk does. Raises UsageError.
    """
    try:
        folder, resolved = _open(path)
        try:
            if inside and not _is_bare(folder):
                inner = _open_inner(path, folder)
                os.close(folder)
                folder, resolved = inner, resolved / ".git"
            about = os.fstat(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=_HINT) from None
    return Place(resolved, about.st_dev, about.st_ino, about.st_uid, about.st_gid)


def _open(path: str) -> tuple[int, Path]:
    """A descriptor of the folder, and its path without links. Raises OSError, and UsageError for a stranger's link."""
    parts, links = [part for part in reversed(path.split("/")) if part], 0
    way: list[str] = []
    at = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        while parts:
            part = parts.pop()
            if part == ".":
                continue
            following = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            about = os.fstat(following)
            if stat.S_ISLNK(about.st_mode):
                target = os.readlink("", dir_fd=following)
                os.close(following)
                links += 1
                if links > MOST_LINKS:
                    raise UsageError(f"{path} leads through more than {MOST_LINKS} links", hint=_HINT)
                if about.st_uid not in (0, os.geteuid()):
                    leads = f"/{'/'.join((*way, part))}"
                    raise UsageError(
                        f"{path} is reached through {leads}, a link that another user can change",
                        hint="write the path that it leads to",
                    )
                parts += [each for each in reversed(target.split("/")) if each]
                if target.startswith("/"):
                    os.close(at)
                    at, way = os.open("/", os.O_PATH | os.O_CLOEXEC), []
                continue
            os.close(at)
            at = following
            way = way[:-1] if part == ".." else [*way, part]
        if not stat.S_ISDIR(os.fstat(at).st_mode):
            raise UsageError(f"{path} is no folder", hint=_HINT)
    except BaseException:
        os.close(at)
        raise
    return at, Path("/", *way)


def _open_inner(path: str, folder: int) -> int:
    try:
        return os.open(".git", os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        raise UsageError(f"{path} holds no git repository of its own", hint=_HINT) from None


def _is_bare(folder: int) -> bool:
    """Whether git's own files are here and not in a folder `.git`."""
    try:
        os.stat("objects", dir_fd=folder, follow_symlinks=False)
        os.stat("HEAD", dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
