"""The directory form of a backup: any directory on any file system, readable without this program.

    appliance-backup.json        the mark, and the format
    points/ID.json               one per backup, written last: what is not named in one is not there
    manifests/ab/SHA256          a frozen tree: gzipped JSON lines
    objects/ab/SHA256            pieces of files, plain
    tmp/, unfinished.jsonl       of the backup that runs, or was killed: the next one goes on from there
    lock                         held by whoever writes

Everything is for its owner only (0600): the key of the secrets is in it. No name and no attribute of a workspace
becomes one of the target's file system, so a stick with FAT on it will do.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from appliance.backup.manifest import Damaged
from appliance.backup.objects import MANIFESTS, OBJECTS, TEMPORARY, Objects, sync
from appliance.backup.point import FORMAT, ID, Point, Tree, from_json, tree_of
from appliance.errors import Conflict, NotFound, StorageError, UsageError

MARK = "appliance-backup.json"
POINTS = "points"
UNFINISHED = "unfinished.jsonl"


class Target:
    """Blocking; small files only. Raises StorageError where the directory cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects = Objects(path)

    @classmethod
    def create(cls, path: Path, origin: str) -> Target:
        """The target there, made if there is nothing yet.

        Raises Conflict for a directory with something else in it, or with backups of another appliance than `origin`.
        """
        if not path.is_absolute():
            raise UsageError(f"a backup's target is an absolute path or zfs:POOL/DATASET, not {str(path)!r}")
        with _plain_words(path):
            path.mkdir(mode=0o700, exist_ok=True)
            if not (path / MARK).exists():
                if found := sorted(entry.name for entry in path.iterdir() if entry.name != "lost+found"):
                    raise Conflict(
                        f"the directory is not empty and no backup: {found[0]!r} is in it",
                        where=str(path),
                        hint="give an empty directory, or one that does not exist yet",
                    )
                write(path / MARK, json.dumps({"format": FORMAT, "origin": origin}) + "\n")
            for folder in (POINTS, MANIFESTS, OBJECTS, TEMPORARY):
                (path / folder).mkdir(mode=0o700, exist_ok=True)
                if (path / folder).is_symlink():
                    raise Conflict(
                        f"{folder!r} in the backup is a link, which leads somewhere else",
                        where=str(path),
                        hint="give a directory that only its owner can write to",
                    )
        target = cls(path)
        if target.origin() != origin:
            raise Conflict(
                f"the directory holds the backups of another appliance, {target.origin()!r}",
                where=str(path),
                hint="give a directory of its own for each appliance",
            )
        return target

    @classmethod
    def open(cls, path: Path) -> Target:
        """Raises NotFound where there is no backup."""
        with _plain_words(path):
            if not (path / MARK).is_file():
                raise NotFound("there is no backup here", where=str(path), hint="give the TARGET of `appliance backup`")
        return cls(path)

    def origin(self) -> str:
        """Whose backups these are. Raises Damaged."""
        path = self.path / MARK
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["origin"])
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"the mark of the backup cannot be read: {error}", where=str(path)) from error

    @contextmanager
    def lock(self, *, write: bool) -> Iterator[None]:
        """One writer, or many readers. Raises Conflict."""
        with _plain_words(self.path):
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_EX if write else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    "another backup, check or restore uses this target", where=str(self.path), hint="wait for its end"
                ) from None
            yield
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Remove what a kill has left half written. Only with the lock for writing."""
        with _plain_words(self.path):
            for left in (self.path / TEMPORARY).iterdir():
                left.unlink()

    def points(self) -> list[Point]:
        """Oldest first. Raises Damaged for one that cannot be read."""
        with _plain_words(self.path):
            return [self.point(point_id) for point_id in self.ids()]

    def ids(self) -> list[str]:
        """Oldest first."""
        folder = self.path / POINTS
        with _plain_words(self.path):
            found = [entry.name.removesuffix(".json") for entry in folder.iterdir()] if folder.is_dir() else []
        return sorted(name for name in found if ID.fullmatch(name))

    def point(self, point_id: str) -> Point:
        if point_id not in self.ids():
            raise NotFound(
                f"the backup has no point {point_id!r}", where=str(self.path), hint="`--list` shows the points"
            )
        path = self.path / POINTS / f"{point_id}.json"
        return from_json(path.read_text(encoding="utf-8"), str(path))

    def publish(self, point: Point) -> None:
        """With it the backup is there; everything it names is on the disk by then."""
        with _plain_words(self.path):
            self.objects.flush()
            sync(self.path)
            write(self.path / POINTS / f"{point.id}.json", point.to_json())
            (self.path / UNFINISHED).unlink(missing_ok=True)
            sync(self.path)

    def known(self) -> dict[str, Tree]:
        """Key -> the newest tree of it that has been archived, by any point or by a backup that never ended."""
        found = {tree.key: tree for point in self.points() for tree in point.trees}
        found |= self._unfinished()
        return {key: tree for key, tree in found.items() if self.objects.path(tree.manifest, MANIFESTS).exists()}

    def remember(self, tree: Tree) -> None:
        """It is archived, should this backup never end."""
        with _plain_words(self.path), _append(self.path / UNFINISHED) as descriptor:
            os.write(descriptor, json.dumps(asdict(tree)).encode() + b"\n")

    def _unfinished(self) -> dict[str, Tree]:
        try:
            lines = (self.path / UNFINISHED).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        found = {}
        for line in lines:
            try:
                tree = tree_of(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a backup that was killed
            found[tree.key] = tree
        return found


@contextmanager
def _append(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write(path: Path, text: str) -> None:
    """All of it or nothing, also after a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _plain_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the backup's directory cannot be used: {error.strerror}",
            where=str(error.filename or path),
            hint="is the disk there and mounted, has it room, may the daemon write to it?",
        ) from error
