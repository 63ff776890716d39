"""Versions that are put file by file over the API: resumable, checked on the way, committed as a whole.

    UPLOADS/<uid>.<version>/upload.json    what is being sent; the volume is there once this is
    UPLOADS/<uid>.<version>/manifest       what the version is to hold
    UPLOADS/<uid>.<version>/ledger         what has arrived, with its sha256

An upload that was interrupted is found again by its source, so sending the same thing once more goes on where it was.
The volume of an open version is out of everybody's sight until the commit, which is one transaction.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import anyio

from appliance.datasets import children
from appliance.datasets.datasets import Datasets
from appliance.datasets.settling import ARRIVING
from appliance.errors import ApplianceError, Conflict, NotFound, TooLarge
from appliance.state import versions
from appliance.state.db import Database
from appliance.state.versions import Version
from appliance.storage.base import Store
from appliance.storage.threads import in_thread

log = logging.getLogger(__name__)

KEPT_S = 7 * 24 * 3600.0
"""How long an upload that nobody goes on with is kept."""
MOST_MANIFEST = 512 << 20
"""Bytes of a manifest: some three million files. It is held in memory while it is compared."""
DESCRIPTION = "upload.json"
BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Another one than before: the machine was down meanwhile, and what was not on its disk is lost."""


@dataclass(frozen=True, slots=True)
class Upload:
    source: str
    """What is sent, as its sender names it: host and path. Sending it again goes on with this upload."""
    base: str = ""
    """`NAME:VERSION` that the version begins as."""
    mirror: bool = False
    """What the base has and the source has not goes."""
    touched: float = 0.0
    """When somebody last went on with it, unix seconds."""
    boot: str = ""

    @property
    def identity(self) -> tuple[str, str, bool]:
        return (self.source, self.base, self.mirror)


class Uploads:
    def __init__(
        self, db: Database, store: Store, datasets: Datasets, folder: Path, clock: Callable[[], float]
    ) -> None:
        self._db = db
        self._store = store
        self._datasets = datasets
        self._folder = folder
        self._clock = clock
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._boot = BOOT.read_text().strip()

    async def open(self, name: str, upload: Upload, *, message: str = "", anew: bool = False) -> tuple[Version, bool]:
        """The open version to send to, and whether it was begun before. `anew`: what was begun before is dropped.

        Raises NotFound where there is no such dataset or base.
        """
        dataset = self._datasets.get(name)
        base = self._datasets.resolve(upload.base) if upload.base else None
        if base:
            upload = replace(upload, base=f"{base.dataset}:{base.version}")
        async with self._locks[dataset.uid]:
            await self.sweep()
            for version in versions.open_uploads(self._db.read):
                known = self._read(version) if version.dataset == dataset.uid else None
                if known is None or known.identity != upload.identity:
                    continue
                if not anew:
                    self._write(version, known)
                    return version, True
                async with self._locks[version.volume]:
                    await self._drop(version)
            return await self._begin(name, upload, base, message), False

    async def missing(
        self, version: Version, lines: AsyncIterator[bytes], *, first: bool, last: bool
    ) -> dict[str, Any] | None:
        """Take a part of the manifest in; with the last one, tell which of its lines are not there yet."""
        async with self._locks[version.volume]:
            upload, folder = self._known(version)
            taken = b"".join([piece async for piece in lines])
            await in_thread(_append, folder / ARRIVING, taken, anew=first)
            if not last:
                return None
            flags = [*(["based"] if upload.base else []), *(["crashed"] if upload.boot != self._boot else [])]
            root = await in_thread(self._store.path, version.volume)
            found: dict[str, Any] = await children.ask("check", root, str(folder), *flags)
            self._write(version, replace(upload, boot=self._boot))
            return found

    async def pack(self, version: Version, content: AsyncIterator[bytes], sha256: str = "") -> dict[str, Any]:
        """Store a pack. `sha256` is what it must have; the answer says what it has, and how much was in it."""
        async with self._locks[version.volume]:
            upload, folder = self._known(version)
            root = await in_thread(self._store.path, version.volume)
            taken: dict[str, Any] = await children.ask("unpack", root, str(folder), sha256, given=content)
            self._write(version, upload)
            return taken

    async def commit(self, version: Version, *, message: str = "", tags: Sequence[str] = ()) -> Version:
        """Check that all is there, and make it immutable. Raises Conflict where something is missing."""
        async with self._locks[version.volume]:
            known = versions.find(self._db.read, version.dataset, version.version)
            if known is not None and known.committed is not None:
                return known
            upload, folder = self._known(version)
            flags = [flag for flag, on in (("based", upload.base), ("mirror", upload.mirror)) if on]
            root = await in_thread(self._store.path, version.volume)
            whole = await children.ask("settle", root, str(folder), *flags)
            done = await self._datasets.commit(version, message=message, digest=str(whole["digest"]), tags=tags)
            await self._forget(version)
            return done

    async def abandon(self, version: Version) -> None:
        """Drop what has arrived. Raises Conflict for a version that is committed, or that a job writes."""
        async with self._locks[version.volume]:
            self._known(version)
            await self._drop(version)

    async def sweep(self, *, at_start: bool = False) -> None:
        """Drop uploads that nobody has gone on with for long, and the notes on versions that are open no more.

        `at_start` nothing is under way yet, so that an open version without notes is what a kill has left.
        """
        folders = list(self._folder.iterdir()) if self._folder.is_dir() else []
        opened = versions.open_uploads(self._db.read)
        for version in opened:
            upload = self._read(version)
            late = upload is not None and upload.touched < self._clock() - KEPT_S
            if (late and not self._locks[version.volume].locked()) or (at_start and upload is None):
                log.info("upload %s of dataset %s is dropped: nobody goes on with it", version.version, version.dataset)
                async with self._locks[version.volume]:
                    try:
                        await self._drop(version)
                    except (ApplianceError, OSError) as error:
                        log.warning("upload %s of %s stays for now: %s", version.version, version.dataset, error)
        known = {_name(version) for version in opened}
        for folder in folders:
            if folder.name not in known:
                await in_thread(shutil.rmtree, folder, ignore_errors=True)

    # parts

    async def _begin(self, name: str, upload: Upload, base: Version | None, message: str) -> Version:
        version = await self._datasets.begin(name, message=message, parent=upload.base)
        async with self._locks[version.volume]:
            try:
                if base:
                    await self._datasets.fill_from(version, base)
                self._write(version, replace(upload, boot=self._boot))
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._drop(version)
                raise
        return version

    def _known(self, version: Version) -> tuple[Upload, Path]:
        known = versions.find(self._db.read, version.dataset, version.version)
        if known is None:
            raise NotFound(f"version {version.version} is gone", hint="put it again; it was abandoned, or swept")
        if known.committed is not None:
            raise Conflict(f"version {version.version} is committed, so it stays as it is", hint="put another version")
        upload = self._read(version)
        if upload is None:
            raise Conflict(f"version {version.version} is not one that is uploaded", hint="it belongs to a job")
        return upload, self._folder / _name(version)

    def _read(self, version: Version) -> Upload | None:
        try:
            return Upload(**json.loads((self._folder / _name(version) / DESCRIPTION).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _write(self, version: Version, upload: Upload) -> None:
        folder = self._folder / _name(version)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = folder / f"{DESCRIPTION}.new"
        new.write_text(json.dumps(asdict(replace(upload, touched=self._clock()))), encoding="utf-8")
        new.replace(folder / DESCRIPTION)

    async def _drop(self, version: Version) -> None:
        await self._datasets.abandon(version)
        await self._forget(version)

    async def _forget(self, version: Version) -> None:
        await in_thread(shutil.rmtree, self._folder / _name(version), ignore_errors=True)


def _name(version: Version) -> str:
    return f"{version.dataset}.{version.version}"


def _append(path: Path, content: bytes, *, anew: bool) -> None:
    with path.open("wb" if anew else "ab") as file:
        if file.tell() + len(content) > MOST_MANIFEST:
            raise TooLarge(
                f"a manifest has at most {MOST_MANIFEST >> 20} MiB", hint="put the folder in parts, or as an archive"
            )
        file.write(content)
        if content and not content.endswith(b"\n"):
            file.write(b"\n")
