"""Datasets: a name, and versions that are immutable once committed. Each version is a volume of its own.

Commit seals the volume and writes one row; using a version is a read-only bind of its directory. Neither moves a byte.
A row is written before its volume where somebody fills it over time (`begin`), and after it where it is filled in one
go (`put`), so a kill leaves either something that is found again or a volume without a row, which `sweep` removes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio

from appliance.datasets.ref import LATEST, Ref, dataset_id, dataset_uid, derived_id, parse_ref, random_id
from appliance.errors import Conflict, NotFound, StorageError, UsageError
from appliance.spec.names import check_name
from appliance.state import events, models, resources, versions
from appliance.state.db import Database
from appliance.state.versions import Version
from appliance.storage.base import Store
from appliance.storage.copying import copy_in
from appliance.storage.destroy import destroy_below
from appliance.storage.threads import in_thread

log = logging.getLogger(__name__)

KIND = "dataset"
ROOM = "datasets"
VERSION_LENGTH = 7


class Datasets:
    def __init__(self, db: Database, store: Store, clock: Callable[[], float]) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._filling: set[str] = set()

    # datasets

    def create(self, name: str, *, description: str = "", source: str = "cli") -> resources.Resource:
        """Declare a dataset. One that exists is kept; a description that is given replaces its own."""
        check_name(KIND, name)
        now = self._clock()
        with self._db.write() as db:
            old = resources.find(db, KIND, name)
            kept = str(old.spec.get("description", "")) if old else ""
            spec = {"description": description or kept}
            resource, _ = resources.put(db, KIND, name, spec, source=source, now=now)
            resources.set_status(db, resource.uid, generation=resource.generation, phase="Ready")
            return resources.get(db, KIND, name)

    def get(self, name: str) -> resources.Resource:
        """By name, id, or a reference, whose version is not looked at. Raises NotFound."""
        return self._get(parse_ref(name))

    async def destroy(self, uid: str) -> None:
        """The dataset with all its versions. Gone already counts as done. Raises Conflict while a model needs it."""
        resource = resources.find_uid(self._db.read, uid)
        if used := models.of_dataset(self._db.read, uid):
            raise Conflict(
                f"model {used[0].name!r} ({used[0].id}) is a version of this dataset",
                where=f"dataset {resource.name if resource else uid}",
                hint=f"`appliance delete model {used[0].id}` first",
            )
        if resource:
            with self._db.write() as db:
                resources.remove(db, uid)
                events.record(db, KIND, resource.name, "Deleted", "with all its versions", now=self._clock())
        await in_thread(destroy_below, self._store, f"{ROOM}/{uid}")

    # versions

    async def begin(self, ref: str, *, run: str = "", job: str = "", token: str = "") -> Version:
        """An open version of the dataset, with an empty volume. Raises NotFound where there is no such dataset.

        For a run's job it is the same version each time, also after a commit; `token` tells apart several outputs
        of one job into the same dataset. Without a run each call makes another version.
        """
        parsed = parse_ref(ref)
        if not parsed.is_latest:
            raise UsageError(
                f"{ref!r} names one version, but what is written becomes a version of its own",
                hint=f"write to {parsed.name!r}",
            )
        with self._db.write() as db:
            dataset = self._get(parsed)
            if dataset.deleting:
                raise Conflict(f"dataset {dataset.name!r} is being deleted", hint="write to another dataset")
            version_id = self._open_id(dataset.uid, run, job, token)
            old = versions.find(db, dataset.uid, version_id)
            version = old or self._row(dataset.uid, version_id, run=run, job=job)
            if not old:
                versions.add(db, version)
        if not old:  # what an abandoned attempt may have left must not show up in this one
            await in_thread(self._store.destroy, version.volume)
        if version.committed is None:
            await in_thread(self._store.create, version.volume)
        return version

    async def path(self, version: Version) -> Path:
        """Its directory, to be bound read-only once the version is committed. Raises NotFound."""
        return await in_thread(self._store.path, version.volume)

    async def commit(self, version: Version, *, message: str = "") -> Version:
        """Make it immutable and the newest. Repeating it changes nothing."""
        if (known := self._known(version)).committed is not None:
            return known
        await in_thread(self._store.seal, version.volume)
        size = await in_thread(self._store.used_bytes, version.volume)
        with self._db.write() as db:
            if versions.commit(db, version.dataset, version.version, message=message, size=size, now=self._clock()):
                self._record(version, f"version {version.version}, {size} bytes")
        return self._known(version)

    async def abandon(self, version: Version) -> None:
        """Drop a version that is not committed. Gone already counts as done; raises Conflict for a committed one."""
        known = versions.find(self._db.read, version.dataset, version.version)
        if known and known.committed is not None:
            raise Conflict(
                f"version {version.version} is committed, so it stays",
                hint="versions go with their dataset: `appliance delete dataset NAME`",
            )
        with self._db.write() as db:
            versions.remove(db, version.dataset, version.version)
        await in_thread(self._store.destroy, version.volume)

    async def put(self, name: str, source: Path, message: str = "") -> Version:
        """A committed version with a copy of a local file, or of everything in a local directory.

        Symlinks in it are kept as symlinks, never followed. Raises NoSpace and leaves nothing then.
        """
        dataset = self.get(name)
        row = self._row(dataset.uid, self._free_id(dataset.uid), message=message or f"put {source.name}")
        self._filling.add(row.volume)
        try:
            target = await in_thread(self._store.create, row.volume)
            await in_thread(copy_in, source, target)
            await in_thread(self._store.seal, row.volume)
            size = await in_thread(self._store.used_bytes, row.volume)
            version = replace(row, committed=self._clock(), bytes=size)
            with self._db.write() as db:
                versions.add(db, version)
                self._record(version, f"version {version.version}, {size} bytes from {source}")
        except BaseException:
            with anyio.CancelScope(shield=True):
                await in_thread(self._store.destroy, row.volume)
            raise
        finally:
            self._filling.discard(row.volume)
        return version

    def resolve(self, ref: str) -> Version:
        """The committed version that a reference means. Raises NotFound, or Conflict for one that is still open."""
        parsed = parse_ref(ref)
        dataset = self._get(parsed)
        if parsed.is_latest:
            if found := versions.latest(self._db.read, dataset.uid):
                return found
            raise NotFound(
                f"dataset {dataset.name!r} has no committed version",
                hint="run the workflow that writes it first",
            )
        version = self._pick(dataset, parsed.version)
        if version.committed is None:
            raise Conflict(
                f"version {version.version} of dataset {dataset.name!r} is not committed yet",
                hint="wait for the job that writes it, or use another version",
            )
        return version

    def versions(self, name: str) -> list[Version]:
        """Newest first, open ones too. Raises NotFound."""
        return versions.every(self._db.read, self.get(name).uid)

    def full_id(self, version: Version) -> str:
        """`DATASETID:VERSION`, as Gradient writes it; `resolve` understands it."""
        return f"{dataset_id(version.dataset)}:{version.version}"

    # tags

    def tag(self, name: str, version: str, tag: str) -> None:
        """Let `tag` point at a committed version (id or another tag); a tag that exists moves."""
        dataset = self.get(name)
        check_name("tag", tag)
        if tag == LATEST or versions.find(self._db.read, dataset.uid, tag):
            raise Conflict(f"{tag!r} always means a version itself, it cannot be a tag", hint="use another word")
        found = self.resolve(str(Ref("", dataset.name, version)))
        with self._db.write() as db:
            versions.set_tag(db, dataset.uid, tag, found.version)
            events.record(db, KIND, dataset.name, "Tagged", f"{tag} is {found.version}", now=self._clock())

    def untag(self, name: str, tag: str) -> None:
        """Gone already counts as done."""
        with self._db.write() as db:
            versions.remove_tag(db, self.get(name).uid, tag)

    def tags(self, name: str) -> dict[str, str]:
        """Tag -> version id. Raises NotFound."""
        return versions.tags(self._db.read, self.get(name).uid)

    # at start

    async def sweep(self) -> None:
        """Destroy the volumes that no version knows: what a kill has left of a put, an abandon or a delete."""
        found = await in_thread(self._store.volumes, ROOM)
        for volume in sorted(set(found) - versions.volumes(self._db.read) - self._filling):
            log.info("volume %s belongs to no dataset version; it is destroyed", volume)
            try:
                await in_thread(self._store.destroy, volume)
            except (Conflict, StorageError) as error:
                log.warning("volume %s stays: %s", volume, error)

    # parts

    def _get(self, ref: Ref) -> resources.Resource:
        uid = dataset_uid(ref.name)
        found = resources.find_uid(self._db.read, uid) if uid else None
        if found and found.kind == KIND:
            return found
        if found := resources.find(self._db.read, KIND, ref.name):
            return found
        raise NotFound(
            f"no dataset {ref.name!r}",
            hint=f"`appliance dataset create {ref.name}` makes it, `appliance get datasets` lists what there is",
        )

    def _pick(self, dataset: resources.Resource, version: str) -> Version:
        db = self._db.read
        if found := versions.find(db, dataset.uid, version):
            return found
        tagged = versions.find_tag(db, dataset.uid, version)
        if tagged and (found := versions.find(db, dataset.uid, tagged)):
            return found
        raise NotFound(
            f"dataset {dataset.name!r} has no version or tag {version!r}",
            hint=f"`appliance dataset versions {dataset.name}` lists them",
        )

    def _known(self, version: Version) -> Version:
        if found := versions.find(self._db.read, version.dataset, version.version):
            return found
        raise NotFound(f"version {version.version} is gone", hint="it was abandoned, or its dataset deleted")

    def _row(self, uid: str, version: str, *, run: str = "", job: str = "", message: str = "") -> Version:
        volume = f"{ROOM}/{uid}/{version}"
        return Version(uid, version, volume, message, self._clock(), None, 0, run, job)

    def _open_id(self, uid: str, run: str, job: str, token: str) -> str:
        if not run:
            return self._free_id(uid)
        for attempt in range(100):
            candidate = derived_id(VERSION_LENGTH, uid, run, job, token, str(attempt))
            found = versions.find(self._db.read, uid, candidate)
            if not found or (found.run, found.job) == (run, job):
                return candidate
        raise Conflict("no version id is free", where=f"dataset {uid}", hint="use another dataset")

    def _free_id(self, uid: str) -> str:
        taken = {version.version for version in versions.every(self._db.read, uid)}
        taken.update(versions.tags(self._db.read, uid))
        while (candidate := random_id(VERSION_LENGTH)) in taken:
            pass
        return candidate

    def _record(self, version: Version, message: str) -> None:
        resource = resources.find_uid(self._db.read, version.dataset)
        name = resource.name if resource else version.dataset
        events.record(self._db.read, KIND, name, "Committed", message, now=self._clock())
