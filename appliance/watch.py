"""The watched folder: each spec file in it is in force for as long as it lies there.

A file counts once it has been left alone for `debounce_s`, so one that is half written is not read. A broken file
keeps the last good spec in force and tells its problem; a removed one stops what it declared and keeps its data.
The folder is compared as a whole, so nothing depends on which notifications arrive or while the daemon was down.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from appliance import apply
from appliance.errors import ApplianceError, SpecError
from appliance.spec.load import load_file
from appliance.spec.tree import MAX_BYTES
from appliance.state import events, resources, spec_files
from appliance.state.db import Connection, Database
from appliance.state.spec_files import SpecFile

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".yaml", ".yml", ".json", ".jsonc"})
RESCAN_S = 10.0
"""Network file systems and bind mounts send no notifications; a look costs well under a millisecond a file."""


class Watcher:
    def __init__(
        self,
        db: Database,
        folder: Path,
        *,
        debounce_s: float,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
    ) -> None:
        self._db = db
        self._folder = folder
        self._debounce_s = debounce_s
        self._clock = clock
        self._hint = hint
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        self._folder.mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        observer = Observer()
        observer.schedule(_Wake(loop, self._changed), str(self._folder))
        observer.start()
        try:
            while True:
                self._changed.clear()
                settle = await self.scan()
                try:
                    async with asyncio.timeout(RESCAN_S if settle is None else settle):
                        await self._changed.wait()
                    await asyncio.sleep(self._debounce_s)
                except TimeoutError:
                    continue
        finally:
            observer.stop()
            await asyncio.to_thread(observer.join, 5.0)

    async def scan(self) -> float | None:
        """Bring what is in force in line with the folder. Seconds until a file that still changes should have settled.

        A name that moved is declared under its new file before the old file's claim is withdrawn.
        """
        now = self._clock()
        known = {found.path: found for found in spec_files.every(self._db.read)}
        settle: float | None = None
        files = self._files()
        if files is None:
            return None
        present = {path.name for path in files}
        gone = known.keys() - present
        for path in files:
            name = path.name
            try:
                age = now - path.lstat().st_mtime
                if 0 <= age < self._debounce_s:
                    settle = min(settle or self._debounce_s, self._debounce_s - age + 0.01)
                    continue
                digest = _digest(path)
            except OSError as error:
                self._broken(name, "", f"{path}: {error.strerror}", known.get(name), now)
                continue
            if name not in known or known[name].digest != digest:
                await self._read(path, digest, known.get(name), gone, now)
        for name in gone:
            self._withdraw(known[name], known[name].declares, now)
            with self._db.write() as db:
                spec_files.remove(db, name)
        return settle

    def _files(self) -> list[Path] | None:
        """None where the folder itself cannot be read: nothing is known then, so nothing is withdrawn."""
        try:
            entries = sorted(self._folder.iterdir())
        except OSError as error:
            log.error("the watched folder cannot be read: %s; what it declared goes on", error)
            return None
        return [entry for entry in entries if entry.suffix in SUFFIXES and not entry.name.startswith(".")]

    async def _read(self, path: Path, digest: str, known: SpecFile | None, gone: set[str], now: float) -> None:
        source = f"file:{path.name}"
        try:
            specs = await asyncio.to_thread(load_file, path)
            with self._db.write() as db:
                for spec in specs:
                    _take_over(db, spec.kind, spec.name, gone, source)
                applied = apply.apply(self._db, specs, source=source, now=now)
                declares = [(change.kind, change.name) for change in applied]
                spec_files.put(db, path.name, digest=digest, problem="", declares=declares, now=now)
        except SpecError as error:
            self._broken(path.name, digest, str(error), known, now)
            return
        except ApplianceError as error:  # may pass by itself, such as a name that another file holds: look again
            self._broken(path.name, "", str(error), known, now)
            return
        for change in applied:
            if change.change != "unchanged":
                log.info("%s: %s %s %s", path.name, change.kind, change.name, change.change)
                self._hint(change.kind, change.uid)
        if known:
            self._withdraw(known, set(known.declares) - set(declares), now)

    def _broken(self, name: str, digest: str, problem: str, known: SpecFile | None, now: float) -> None:
        if known and known.problem == problem and known.digest == digest:
            return
        log.warning("%s", problem)
        declares = known.declares if known else ()
        with self._db.write() as db:
            spec_files.put(db, name, digest=digest, problem=problem, declares=declares, now=now)
            if not known or known.problem != problem:
                kept = "; the last good spec stays in force" if declares else ""
                events.record(db, "spec", name, "Broken", problem + kept, now=now, level="error")

    def _withdraw(
        self, known: SpecFile, declares: set[tuple[str, str]] | tuple[tuple[str, str], ...], now: float
    ) -> None:
        for kind, name in declares:
            with self._db.write() as db:
                uid = apply.withdraw(db, kind, name, source=f"file:{known.path}", now=now)
            if uid:
                log.info("%s no longer declares %s %s", known.path, kind, name)
                self._hint(kind, uid)


def _take_over(db: Connection, kind: str, name: str, gone: set[str], source: str) -> None:
    """What a renamed file declares goes on under the file's new name, without a stop between."""
    resource = resources.find(db, kind, name)
    if resource and resource.source.removeprefix("file:") in gone:
        resources.set_source(db, resource.uid, source)


class _Wake(FileSystemEventHandler):
    """Called in the observer's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
        self._loop = loop
        self._changed = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in ("opened", "closed_no_write"):
            self._loop.call_soon_threadsafe(self._changed.set)


def _digest(path: Path) -> str:
    """Of the content, without following a link: the folder may hold links to what only root may read.

    What is too large for a spec is told apart by size and time only; reading it would hold up everything else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if about.st_size > MAX_BYTES:
            return f"large:{about.st_size}:{about.st_mtime_ns}"
        return hashlib.file_digest(file, "sha256").hexdigest()
