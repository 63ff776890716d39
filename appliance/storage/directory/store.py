"""The plain-directory store: works on every file system, at the price of copies: a clone is one, and a snapshot is one
of what has changed since the newest, or since the volume was cloned; all else are hard links into that (`notes`).

    ROOT/notebooks+4f2a+1/live/                    the volume, bound into containers
    ROOT/notebooks+4f2a+1/snapshots/000001@NAME/   frozen copies, in the order they were taken
    ROOT/notebooks+4f2a+1/notes/000001@NAME        what the copier noted of each
    ROOT/notebooks+4f2a+1/origin/                  of a clone: the frozen tree it was made from, and the note
    ROOT/.tmp/                                     what is being made or removed

Everything is made in `.tmp` and appears by one rename, and disappears by one rename, so a kill leaves it either done
or not done; what `.tmp` holds at the start is nobody's. Copies share their blocks where the file system can (reflink).
A snapshot of a volume in use is not one instant: files that change during the copy are from different moments.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.errors import NoSpace, NotFound, StorageError
from appliance.storage.argv import run
from appliance.storage.base import Reclaim, StoreInfo, Usage
from appliance.storage.directory.looking import Looking
from appliance.storage.directory.space import measured
from appliance.storage.gate import Gate
from appliance.storage.names import check_snapshot, check_volume, inside_another
from appliance.storage.trees.copying import FULL, Links, copy_tree, give
from appliance.storage.trees.ctime import WALK_S, any_since, trusts_ctime
from appliance.storage.trees.notes import read_note

log = logging.getLogger(__name__)

_SLASH = "+"
_SNAPSHOT = re.compile(r"[0-9]{6,}@(?P<name>.+)")


class DirectoryStore:
    """One process at a time: what is found in `.tmp` at the start is removed. `durable=False` is for tests."""

    def __init__(self, root: Path, reason: str, *, durable: bool = True) -> None:
        self.root = root
        self.gate = Gate()
        self._reason = reason
        self._durable = durable
        self._temporary = root / ".tmp"
        self._publish = threading.Lock()
        self._looking = Looking()
        self._trusts_ctime: bool | None = None
        with _plain_words(root):
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(0o700)  # a set-uid program in a workspace must be out of reach for the machine's users
            self._temporary.mkdir(exist_ok=True)
            for left in self._temporary.iterdir():
                _clean(left)

    def info(self) -> StoreInfo:
        usage = shutil.disk_usage(self.root)
        detail = f"directory {self.root}, snapshots copy what has changed, clones everything: {self._reason}"
        return StoreInfo("directory", detail, usage.total, usage.free, instant=False)

    def create(self, volume: str, *, owner: tuple[int, int] = (0, 0)) -> Path:
        home = self._home(volume)
        if not home.is_dir():
            self._check_place(volume)
            with self._made(home) as temporary:
                live = temporary / "live"
                live.mkdir()
                live.chmod(0o755)  # a container may run as anybody, whatever the umask of the daemon
                (temporary / "snapshots").mkdir()
                give(temporary / "live", owner)
        return home / "live"

    def exists(self, volume: str) -> bool:
        return self._home(volume).is_dir()

    def path(self, volume: str) -> Path:
        live = self._home(volume) / "live"
        if not live.is_dir():
            raise self._missing(volume)
        return live

    def snapshot(self, volume: str, snapshot: str) -> None:
        home = self.path(volume).parent
        check_snapshot(snapshot)
        if self._find(volume, snapshot):
            return
        with self._made(None) as temporary:
            tree, note = temporary / "tree", temporary / "note"
            tree.mkdir()
            copy_tree(home / "live", tree, durable=self._durable, links=Links(note, previous=self._previous(home)))
            with self._publish:
                if not self._find(volume, snapshot):
                    name = f"{self._next_number(home):06}@{snapshot}"
                    self._keep_note(home, note, name)
                    tree.rename(home / "snapshots" / name)
                    self._settle(home / "snapshots")

    def snapshots(self, volume: str) -> list[str]:
        home = self.path(volume).parent
        return [entry.name.split("@", 1)[1] for entry in sorted(self._moments(home), key=_number)]

    def clone(self, volume: str, snapshot: str, new: str) -> Path:
        home = self._home(new)
        if home.is_dir():
            return home / "live"
        with self.view(volume, snapshot) as source:
            self._check_place(new)
            with self._made(home) as temporary:
                (temporary / "live").mkdir()
                (temporary / "snapshots").mkdir()
                links = self._remember_origin(source, temporary / "origin")
                copy_tree(source, temporary / "live", durable=self._durable, links=links)
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
        grave = None
        with self.gate.destroying(volume), suppress(NotFound):
            if found := self._find(volume, snapshot):
                grave = self._bury(found)
        if grave:
            _remove(grave)

    def destroy(self, volume: str) -> None:
        """Clones are copies: nothing is in the way."""
        with self.gate.destroying(volume):
            grave = self._bury(self._home(volume))
        if grave:
            _remove(grave)

    @contextmanager
    def view(self, volume: str, snapshot: str) -> Iterator[Path]:
        """The frozen directory itself."""
        check_snapshot(snapshot)
        with self._looking.at(lambda: self._frozen(volume, snapshot)) as path:
            yield path

    def changed(self, volume: str) -> bool:
        """By the ctime of every entry, which nobody can set back; a deletion is one of its directory."""
        home = self.path(volume).parent
        newest = self._newest(home)
        note = read_note(self._note_of(newest)) if newest else None
        return note is None or any_since(home / "live", note.began_ns)

    def written(self, volume: str, snapshot: str) -> int | None:
        """As counted when it was taken: content that was copied and not linked."""
        check_snapshot(snapshot)
        note = read_note(self._note_of(self._frozen(volume, snapshot)))
        return note.written if note else None

    def hints(self, volume: str, older: str, newer: str | None) -> Iterator[str] | None:
        return None

    def usage(self, volume: str) -> Usage:
        """Exact: hard links are counted, on the disk as it is."""
        live = self.path(volume)
        frozen = {name: self._frozen(volume, name) for name in self.snapshots(volume)}
        found = measured(live, list(frozen.values()))
        each = dict(zip(frozen, found.each, strict=True))
        return Usage(found.live, found.live + found.only, found.held, each, shared=found.portion)

    def reclaimable(self, volume: str, snapshots: Collection[str]) -> Reclaim:
        frozen = [self._frozen(volume, check_snapshot(name)) for name in sorted(set(snapshots))]
        return Reclaim(measured(None, frozen).only, exact=True)

    def set_quota(self, volume: str, most: int | None) -> bool:
        self.path(volume)
        return False

    def reserve(self, size: int) -> None:
        """Nothing: it shares the disk with the home, where a file keeps the room."""

    def snapshot_all(self, volumes: Sequence[str], snapshot: str) -> None:
        for volume in volumes:
            self.snapshot(volume, snapshot)

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

    def _frozen(self, volume: str, snapshot: str) -> Path:
        self.path(volume)
        if found := self._find(volume, snapshot):
            return found
        raise NotFound(f"volume {volume!r} has no snapshot {snapshot!r}", hint="it was pruned, or never taken")

    def _newest(self, home: Path) -> Path | None:
        return max(self._moments(home), key=_number, default=None)

    def _moments(self, home: Path) -> list[Path]:
        """Its frozen directories, in no order. Raises NotFound, also where the volume goes away meanwhile."""
        try:
            return list((home / "snapshots").iterdir())
        except FileNotFoundError:
            raise self._missing(home.name.replace(_SLASH, "/")) from None

    def _missing(self, volume: str) -> NotFound:
        return NotFound(f"there is no volume {volume!r}", where=str(self.root), hint="it was deleted, or never made")

    def _next_number(self, home: Path) -> int:
        newest = self._newest(home)
        return 1 + (_number(newest) if newest else 0)

    def _previous(self, home: Path) -> tuple[Path, Path] | None:
        """What a snapshot can share files with: the newest one, or what the volume was cloned from; and its note."""
        if not self._shares():
            return None
        if newest := self._newest(home):
            frozen, note = newest, self._note_of(newest)
        elif origin := self._origin(home):
            frozen, note = origin, home / "origin" / "note"
        else:
            return None
        return (frozen, note) if note.is_file() else None

    def _shares(self) -> bool:
        """Found out once, by trying; the answer is the same whichever thread comes first."""
        if self._trusts_ctime is None:
            self._trusts_ctime = trusts_ctime(self._temporary, mapped=self._durable)
            if not self._trusts_ctime:
                log.warning("%s: the file system does not tell all changes; each snapshot is a full copy", self.root)
        return self._trusts_ctime

    def _remember_origin(self, source: Path, origin: Path) -> Links:
        """The note of the source is kept by a link of its own: the same inode is the same snapshot."""
        origin.mkdir()
        (origin / "tree").symlink_to(Path("..", "..", source.relative_to(self.root)))
        note = self._note_of(source)
        if note.is_file():
            os.link(note, origin / "of")
        return Links(origin / "note", seed=True)

    def _origin(self, home: Path) -> Path | None:
        """What the volume was cloned from, as long as it is there."""
        tree = (home / "origin" / "tree").resolve()
        try:
            same = (home / "origin" / "of").samefile(self._note_of(tree))
        except FileNotFoundError:
            return None
        return tree if same and tree.is_dir() else None

    def _note_of(self, frozen: Path) -> Path:
        return frozen.parent.parent / "notes" / frozen.name

    def _keep_note(self, home: Path, note: Path, name: str) -> None:
        """Before the snapshot it is about; one without a snapshot is what a kill or a removal has left."""
        notes = home / "notes"
        notes.mkdir(exist_ok=True)
        for left in notes.iterdir():
            if not (home / "snapshots" / left.name).is_dir():
                left.unlink()
        note.rename(notes / name)

    def _settle(self, folder: Path) -> None:
        """The rename itself on the disk: what has been answered as done stays so without power."""
        if not self._durable:
            return
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

    def _find(self, volume: str, snapshot: str) -> Path | None:
        for entry in self._moments(self._home(volume)):
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
                            self._settle(self.root)
        finally:
            try:
                temporary.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                _clean(temporary)

    def _bury(self, path: Path) -> Path | None:
        """The rename that destroys it. What is in the grave is nobody's, and is removed outside the gate."""
        grave = self._temporary / secrets.token_hex(8)
        with self._looking.nobody(path):
            try:
                path.rename(grave)
            except FileNotFoundError:
                return None
        self._settle(path.parent)
        return grave


def _number(snapshot: Path) -> int:
    return int(snapshot.name.split("@", 1)[0])


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
