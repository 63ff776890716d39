"""Start the copier (`copytree`, a program of its own) and say in our words what it answers."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import NoSpace, NotFound, StorageError
from appliance.storage.argv import Answer, run
from appliance.storage.trees import child, copytree

COPY_S = 24 * 3600.0
"""Deadline of one copy; a disk that hangs is noticed here, a large data set on a slow disk is not cut."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Links:
    """How a copy is made a snapshot that shares files with the one before, or a volume whose first one can."""

    note: Path
    """Made by the copier; see there."""
    seed: bool = False
    """The copy becomes a live tree, and the source stays frozen."""
    previous: tuple[Path, Path] | None = None
    """The frozen tree to link to, and its note."""

    def options(self) -> list[str]:
        given = ["--note", str(self.note)]
        if self.seed:
            given.append("--seed")
        if self.previous:
            given += ["--previous", *map(str, self.previous)]
        return given


def copy_tree(source: Path, target: Path, *, durable: bool = True, links: Links | None = None) -> None:
    """Fill the empty directory `target` with everything in `source`, and give it the metadata of `source`."""
    options = ["--sync"] if durable else []
    _copy(source, target, [*options, *(links.options() if links else [])])


def copy_in(source: Path, target: Path) -> None:
    """Put what a person names, a file or the content of a directory, into `target`.

    A symlink that is named itself is followed, one that is found inside is kept as it is.
    """
    if not source.exists():
        raise NotFound(f"there is no {source}", hint="give the path of a file or a directory on this machine")
    _copy(source.absolute(), target, ["--into"])


def copy_entry(folder: int, name: str, into: int, new: str, *, durable: bool = True) -> None:
    """The entry `name` of one open directory, with all that is in it, as `new` into another one.

    Nothing must be there yet; what an error has left half made stays for the caller to remove.
    """
    options = ["--entry", name, new, *(["--sync"] if durable else [])]
    source, target = Path(f"/proc/self/fd/{folder}"), Path(f"/proc/self/fd/{into}")
    _copy(source, target, options, (folder, into))


def give(path: Path, owner: tuple[int, int]) -> None:
    """Hand the top directory of an empty volume to (uid, gid); without root, what would be root's stays ours."""
    if os.geteuid() == 0 or owner != (0, 0):
        os.chown(path, *owner, follow_symlinks=False)


def _copy(source: Path, target: Path, options: Sequence[str], descriptors: tuple[int, ...] = ()) -> None:
    end = "/." if descriptors else ""  # a descriptor's path is a link of its own kind
    argv = [*child.argv(copytree.__name__), str(source), f"{target}{end}", *options]
    answer = run(argv, timeout_s=COPY_S, descriptors=descriptors)
    if answer.code:
        raise _error(answer, source, target)


def _error(answer: Answer, source: Path, target: Path) -> StorageError:
    try:
        said = json.loads(answer.err.splitlines()[-1])
        number, text, path = int(said["errno"] or 0), str(said["message"]), str(said["path"])
    except (ValueError, KeyError, TypeError, IndexError):
        return StorageError(f"copying failed: {answer.err}", where=str(source), hint="the daemon's log tells more")
    if number in FULL:
        return NoSpace(
            "the disk is full; the copy was given up and nothing was changed",
            where=str(target),
            hint="free some space, then repeat the command",
        )
    return StorageError(
        f"copying failed at {path!r}: {text}", where=str(source), hint="look at this file, then repeat the command"
    )
