"""An appliance without its engine: state, a store, workspaces, datasets, secrets and logs, and backups of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import home as homes
from appliance.backup.backups import Backups
from appliance.backup.restore import Restored, restore
from appliance.backup.work import Work
from appliance.daemon import leave_out
from appliance.datasets.datasets import Datasets
from appliance.history.workspaces import Workspaces
from appliance.settings import Settings, load
from appliance.state import resources
from appliance.state.backups import Backup
from appliance.state.db import Database
from appliance.storage.base import Store
from appliance.storage.open import open_store
from appliance.storage.zfs.store import ZfsStore
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets
from tests.unit.storage.trees import describe


@dataclass
class Rooms:
    settings: Settings
    db: Database
    store: Store
    workspaces: Workspaces
    datasets: Datasets
    secrets: Secrets
    telemetry: Telemetry
    backups: Backups

    async def back_up(self, target: Path | str, **more: Any) -> Backup:
        """How it ended."""
        row = await self.backups.start(str(target), **more)
        return [row async for row, _ in self.backups.follow(row.id)][-1]

    def declare(self, name: str) -> str:
        """The uid of a notebook."""
        with self.db.write() as db:
            return resources.put(db, "notebook", name, {}, source="cli", now=time.time())[0].uid

    async def everything(self) -> dict[str, Any]:
        """All that a user sees of it, volume names aside."""
        found: dict[str, Any] = {"secrets": {name: self.secrets.reveal(name) for name, _ in self.secrets.names()}}
        for row in resources.every(self.db.read):
            found[f"{row.kind}/{row.name}"] = row.uid
            if row.kind == "notebook":
                found[f"{row.name} now"] = describe(await self.workspaces.open(row.uid))
                for moment in self.workspaces.timeline(row.uid):
                    async with self.workspaces.view(row.uid, moment.id) as path:
                        found[f"{row.name}@{moment.id} {moment.cause}"] = describe(path)
            if row.kind == "dataset":
                for version in self.datasets.versions(row.name):
                    content = describe(await self.datasets.path(version))
                    found[f"{row.name}:{version.version} {version.committed}"] = content
        return found


@asynccontextmanager
async def opened(home: Path, environ: dict[str, str], clock: Callable[[], float] = time.time) -> AsyncIterator[Rooms]:
    """As the daemon begins, so far."""
    settings = load(environ, home)
    homes.prepare(settings)
    lock = homes.Lock(settings)
    try:
        homes.check_whole(settings)
        db = Database(settings.state_file)
        store = open_store(settings)
        telemetry = Telemetry(settings.telemetry_file, flush_s=0.02, memory_mb=128)
        workspaces, datasets = Workspaces(db, store, clock), Datasets(db, store, clock)
        work = Work(
            db=db,
            store=store,
            workspaces=workspaces,
            datasets=datasets,
            telemetry=telemetry,
            settings=settings,
            instance=homes.instance_id(settings),
            origin=homes.origin(settings),
            leave_out=leave_out,
        )
        backups = Backups(db, work, settings, on_zfs=isinstance(store, ZfsStore), clock=clock)
        await telemetry.start()
        try:
            await backups.sweep()
            await datasets.sweep()
            await workspaces.sweep()
            secrets = Secrets(db, home / "secret.key", clock)
            yield Rooms(settings, db, store, workspaces, datasets, secrets, telemetry, backups)
            await backups.close()
        finally:
            await telemetry.stop()
            db.close()
    finally:
        lock.release()


def restored(home: Path, target: Path | str, environ: dict[str, str], point: str = "") -> Restored:
    """In a thread of its own where a loop runs: it is a program without one."""
    return restore(home, str(target), point=point, environ=environ, tell=lambda what, done, total, written: None)
