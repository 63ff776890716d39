"""The plain-directory store: works on every file system, at the price of a copy for each snapshot and clone.

    ROOT/notebooks+4f2a+1/live/                    the volume, bound into containers
    ROOT/notebooks+4f2a+1/snapshots/000001@NAME/   frozen copies, in the order they were taken
    ROOT/.tmp/                                     what is being made or removed

Everything is made in `.tmp` and appears by one rename, and disappears by one rename, so a kill leaves it either done
or not done; what `.tmp` holds at the start is nobody's. Copies share their blocks where the file system can (reflink).
A snapshot of a volume in use is not one instant: files that change during the copy are from different moments.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import NoSpace, NotFound, StorageError
from appliance.storage.argv import run
from appliance.storage.base import StoreInfo
from appliance.storage.copying import FULL, copy_tree, give
from appliance.storage.names import check_snapshot, check_volume, inside_another

log = logging.getLogger(__name__)

WALK_S = 3600.0
"""Deadline of a walk over one volume: measuring or removing it."""
_SLASH = "+"
_SNAPSHOT = re.compile(r"[0-9]{6,}@(?P<name>.+)")


class DirectoryStore:
    """One process at a time: what is found in `.tmp` at the start is removed. `durable=False` is for tests."""

    def __init__(self, root: Path, reason: str, *, durable: bool = True) -> None:
        self.root = root
        self._reason = reason
        self._durable = durable
        self._temporary = root / ".tmp"
        self._publish = threading.Lock()
        with _plain_words(root):
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(0o700)  # a set-uid program in a workspace must be out of reach for the machine's users
            self._temporary.mkdir(exist_ok=True)
            for left in self._temporary.iterdir():
                _clean(left)

    def info(self) -> StoreInfo:
        usage = shutil.disk_usage(self.root)
        detail = f"directory {self.root}, snapshots and clones are copies: {self._reason}"
        return StoreInfo("directory", detail, usage.total, usage.free, instant=False)

    def create(self, volume: str, *, owner: tuple[int, int] = (0, 0)) -> Path:
        home = self._home(volume)
        if not home.is_dir():
            self._check_place(volume)
            with self._made(home) as temporary:
                (temporary / "live").mkdir(mode=0o755)
                (temporary / "snapshots").mkdir()
                give(temporary / "live", owner)
        return home / "live"

    def exists(self, volume: str) -> bool:
        return self._home(volume).is_dir()

    def path(self, volume: str) -> Path:
        live = self._home(volume) / "live"
        if not live.is_dir():
            raise NotFound(f"there is no volume {volume!r}", where=str(self.root), hint="it was deleted, or never made")
        return live

    def snapshot(self, volume: str, snapshot: str) -> None:
        live = self.path(volume)
        check_snapshot(snapshot)
        if self._find(volume, snapshot):
            return
        folder = live.parent / "snapshots"
        with self._made(None) as temporary:
            copy_tree(live, temporary, durable=self._durable)
            with self._publish:
                if not self._find(volume, snapshot):
                    number = 1 + max((int(entry.name.split("@")[0]) for entry in folder.iterdir()), default=0)
                    temporary.rename(folder / f"{number:06}@{snapshot}")

    def snapshots(self, volume: str) -> list[str]:
        folder = self.path(volume).parent / "snapshots"
        numbered = sorted((int(entry.name.split("@")[0]), entry.name) for entry in folder.iterdir())
        return [name.split("@", 1)[1] for _, name in numbered]

    def clone(self, volume: str, snapshot: str, new: str) -> Path:
        home = self._home(new)
        if home.is_dir():
            return home / "live"
        self.path(volume)
        source = self._find(volume, check_snapshot(snapshot))
        if source is None:
            raise NotFound(f"volume {volume!r} has no snapshot {snapshot!r}", hint="it was pruned, or never taken")
        self._check_place(new)
        with self._made(home) as temporary:
            (temporary / "live").mkdir()
            (temporary / "snapshots").mkdir()
            copy_tree(source, temporary / "live", durable=self._durable)
        return home / "live"

    def seal(self, volume: str) -> None:
        """Write it to the disk. What keeps it as it is from then on is that it is bound read-only."""
        live = self.path(volume)
        if self._durable:
            answer = run(["sync", "--file-system", str(live)], timeout_s=WALK_S)
            if answer.code:
                raise StorageError(answer.err, where=str(live), hint="look for a failing disk: `dmesg`")

    def used_bytes(self, volume: str) -> int:
        """Disk blocks of its files; hard links count once, holes not at all."""
        live = self.path(volume)
        answer = run(["du", "-s", "-x", "-B1", "--", str(live)], timeout_s=WALK_S)
        total = answer.out.split(b"\t", 1)[0]
        if not total.isdigit():  # files that go away meanwhile are an exit code of 1, with a total
            raise StorageError(answer.err, where=str(live), hint="look at the directory's permissions")
        return int(total)

    def destroy_snapshot(self, volume: str, snapshot: str) -> None:
        check_snapshot(snapshot)
        if self.exists(volume) and (found := self._find(volume, snapshot)):
            self._discard(found)

    def destroy(self, volume: str) -> None:
        self._discard(self._home(volume))

    def volumes(self, prefix: str = "") -> list[str]:
        below = f"{check_volume(prefix)}/" if prefix else ""
        names = [entry.name.replace(_SLASH, "/") for entry in _homes(self.root)]
        return sorted(name for name in names if name.startswith(below))

    def _home(self, volume: str) -> Path:
        """One directory a volume: no volume lies inside another, and all of it comes and goes by one rename."""
        return self.root / check_volume(volume).replace("/", _SLASH)

    def _check_place(self, volume: str) -> None:
        parts = volume.split("/")
        for depth in range(1, len(parts)):
            if self.exists(outer := "/".join(parts[:depth])):
                raise inside_another(volume, outer)
        if inner := self.volumes(volume):
            raise inside_another(inner[0], volume)

    def _find(self, volume: str, snapshot: str) -> Path | None:
        for entry in (self._home(volume) / "snapshots").iterdir():
            match = _SNAPSHOT.fullmatch(entry.name)
            if match and match["name"] == snapshot:
                return entry
        return None

    @contextmanager
    def _made(self, home: Path | None) -> Iterator[Path]:
        """A temporary directory; it becomes `home` where all goes well, and is removed where it is still there."""
        temporary = self._temporary / secrets.token_hex(8)
        try:
            with _plain_words(temporary):
                temporary.mkdir()
                yield temporary
                if home:
                    with self._publish:
                        if not home.is_dir():
                            temporary.rename(home)
        finally:
            if temporary.exists():
                _clean(temporary)

    def _discard(self, path: Path) -> None:
        grave = self._temporary / secrets.token_hex(8)
        try:
            path.rename(grave)
        except FileNotFoundError:
            return
        _remove(grave)


def is_directory_store(root: Path) -> bool:
    """Volumes of this store lie in `root`."""
    return root.is_dir() and any(_homes(root))


def _homes(root: Path) -> Iterator[Path]:
    return (entry for entry in root.iterdir() if entry.name[0] != "." and (entry / "live").is_dir())


def _remove(path: Path) -> None:
    """`rm` and not shutil: it copes with any depth, and neither follows symlinks nor crosses into a mount."""
    answer = run(["rm", "-rf", "--one-file-system", "--", str(path)], timeout_s=WALK_S)
    if answer.code:
        raise StorageError(f"cannot remove: {answer.err}", where=str(path), hint="remove it by hand; nothing uses it")


def _clean(path: Path) -> None:
    """Remove what is nobody's; what cannot be removed is tried again at the next start."""
    try:
        _remove(path)
    except StorageError as error:
        log.warning("%s", error)


@contextmanager
def _plain_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise NoSpace(
                "the disk is full; nothing was changed",
                where=str(path),
                hint="free some space, then repeat the command",
            ) from error
        raise StorageError(str(error), where=str(path), hint="check the directory's owner and the disk") from error
