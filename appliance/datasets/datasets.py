"""Datasets: a name, and versions that are immutable once committed. Each version is a volume of its own.

Commit seals the volume and writes one row; using a version is a read-only bind of its directory; a branch is another
row for the same volume. None of them moves a byte. A volume goes when the last row that points to it has gone.
A row is written before its volume where somebody fills it over time (`begin`), and after it where it is filled in one
go (`put`), so a kill leaves either something that is found again or a volume without a row, which `sweep` removes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from appliance.datasets import finding, uses
from appliance.datasets.finding import KIND
from appliance.datasets.ref import LATEST, Ref, dataset_id, derived_id, parse_ref, random_id
from appliance.datasets.sizes import Sizes
from appliance.errors import Conflict, NotFound, StorageError, UsageError
from appliance.spec.names import check_name
from appliance.state import events, holds, resources, versions
from appliance.state.db import Connection, Database
from appliance.state.versions import Version
from appliance.storage.base import Store
from appliance.storage.threads import in_thread
from appliance.storage.trees.copying import copy_in

log = logging.getLogger(__name__)

ROOM = "datasets"
VERSION_LENGTH = 7


class Datasets:
    def __init__(self, db: Database, store: Store, clock: Callable[[], float]) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._filling: set[str] = set()
        self._readers: Counter[str] = Counter()
        """Volume -> how many downloads and copies of it are under way."""
        self.sizes = Sizes(db, store)

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
        """The dataset with all its versions. Gone already counts as done. Raises Conflict while one is in use."""
        resource = resources.find_uid(self._db.read, uid)
        name = resource.name if resource else uid
        with self._db.write() as db:
            if resource and (writers := uses.writers(db, uid)):
                raise Conflict(
                    f"dataset {name!r} is in use by {', '.join(writers)}",
                    hint="wait for its end, or cancel it: `appliance workflow cancel RUN`",
                )
            rows = versions.every(db, uid)
            used = uses.of_versions(db)
            for row in rows:
                self._check_free(name, row, used.get((uid, row.version), ()))
                holds.forget(db, uses.target(uid, row.version))
            if resource:
                resources.remove(db, uid)
                events.record(db, KIND, name, "Deleted", "with all its versions", now=self._clock())
        left = await in_thread(self._store.volumes, f"{ROOM}/{uid}")
        for volume in sorted({row.volume for row in rows}.union(left)):
            await self._let_go(volume)

    # versions

    async def begin(
        self, ref: str, *, run: str = "", job: str = "", token: str = "", message: str = "", parent: str = ""
    ) -> Version:
        """An open version of the dataset, with an empty volume. Raises NotFound where there is no such dataset.

        For a run's job it is the same version each time, also after a commit; `token` tells apart several outputs
        of one job into the same dataset. Without a run each call makes another version. With a `parent` the volume is
        the caller's to make: `fill_from` copies that version into it.
        """
        parsed = parse_ref(ref)
        if not parsed.is_latest:
            raise UsageError(
                f"{ref!r} names one version, but what is written becomes a version of its own",
                hint=f"write to {parsed.name!r}",
            )
        mark = ""
        if run and self.begun(ref, run=run, job=job, token=token) is None:
            uid = self._get(parsed).uid
            mark = await self._make_way(self._volume(uid, self._open_id(uid, run, job, token)))
        with self._db.write() as db:
            dataset = self._get(parsed)
            if dataset.deleting:
                raise Conflict(f"dataset {dataset.name!r} is being deleted", hint="write to another dataset")
            version_id = self._open_id(dataset.uid, run, job, token)
            old = versions.find(db, dataset.uid, version_id)
            version = old or self._row(
                dataset.uid, version_id, run=run, job=job, message=message, parent=parent, mark=mark
            )
            if not old:
                versions.add(db, version)
        if version.committed is None and not parent:
            await in_thread(self._store.create, version.volume)
        return version

    def begun(self, ref: str, *, run: str, job: str, token: str = "") -> Version | None:
        """What `begin` has made for a run's job; None: nothing yet, or it was abandoned. Raises NotFound as it does."""
        uid = self._get(parse_ref(ref)).uid
        return versions.find(self._db.read, uid, self._open_id(uid, run, job, token))

    async def fill_from(self, version: Version, base: Version) -> None:
        """Make the volume of an open version from the content of another: a clone where that is free, else a copy."""
        with self.reading(base):
            info = await in_thread(self._store.info)
            if info.instant:
                moment = base.volume.replace("/", "-").removeprefix(f"{ROOM}-")
                await in_thread(self._store.snapshot, base.volume, moment)
                await in_thread(self._store.clone, base.volume, moment, version.volume)
            else:
                source = await in_thread(self._store.path, base.volume)
                await in_thread(copy_in, source, await in_thread(self._store.create, version.volume))

    async def path(self, version: Version) -> Path:
        """Its directory, to be bound read-only once the version is committed. Raises NotFound."""
        return await in_thread(self._store.path, version.volume)

    async def commit(
        self, version: Version, *, message: str = "", digest: str = "", tags: Sequence[str] = ()
    ) -> Version:
        """Make it immutable and the newest. Repeating it changes nothing."""
        (done,) = await self.commit_all([version], message=message, digest=digest, tags=tags)
        return done

    async def commit_all(
        self, opened: Sequence[Version], *, message: str = "", digest: str = "", tags: Sequence[str] = ()
    ) -> list[Version]:
        """Several versions at once: all of them are committed, or none is."""
        sizes = {}
        for version in opened:
            if self._known(version).committed is None:
                await in_thread(self._store.seal, version.volume)
                sizes[version.volume] = await in_thread(self._store.used_bytes, version.volume)
        with self._db.write() as db:
            for version in opened:
                size = sizes.get(version.volume, 0)
                for tag in tags:
                    self._check_tag(db, version.dataset, tag)
                now = self._clock()
                if versions.commit(
                    db, version.dataset, version.version, message=message, size=size, now=now, digest=digest
                ):
                    self._record(version, f"version {version.version}, {size} bytes")
                for tag in tags:
                    versions.set_tag(db, version.dataset, tag, version.version)
        return [self._known(version) for version in opened]

    async def abandon(self, version: Version) -> None:
        """Drop a version that is not committed. Gone already counts as done; raises Conflict for a committed one."""
        known = versions.find(self._db.read, version.dataset, version.version)
        if known and known.committed is not None:
            raise Conflict(
                f"version {version.version} is committed, so it stays",
                hint="`appliance dataset remove NAME:VERSION` removes it where nothing needs it",
            )
        with self._db.write() as db:
            versions.remove(db, version.dataset, version.version)
        await self._let_go(version.volume)

    async def remove(self, version: Version) -> None:
        """Destroy a committed version. Its branches keep the content. Raises Conflict that names who needs it."""
        with self._db.write() as db:
            dataset = resources.find_uid(db, version.dataset)
            name = dataset.name if dataset else version.dataset
            key = (version.dataset, version.version)
            self._check_free(name, version, uses.of_versions(db).get(key, ()))
            versions.drop(db, *key)
            holds.forget(db, uses.target(*key))
            events.record(db, KIND, name, "Removed", f"version {version.version}", now=self._clock())
        await self._let_go(version.volume)

    def branch(self, version: Version, new: str, *, message: str = "") -> Version:
        """A dataset `new` whose first version is this one: it shares the content, and no byte is copied."""
        if resources.find(self._db.read, KIND, new):
            raise Conflict(f"there is a dataset {new!r} already", hint="give the branch another name")
        if version.committed is None:
            raise Conflict(f"version {version.version} is not committed yet", hint="branch it once it is")
        with self._db.write() as db:
            source = resources.find_uid(db, version.dataset)
            words = message or f"branch of {source.name if source else version.dataset}:{version.version}"
            dataset = self.create(new)
            now = self._clock()
            parent = f"{version.dataset}:{version.version}"
            row = replace(
                version,
                dataset=dataset.uid,
                version=self._free_id(dataset.uid),
                message=words,
                created=now,
                committed=now,
                run="",
                job="",
                parent=parent,
            )
            versions.add(db, row)
            self._record(row, f"version {row.version}, {words}")
        return row

    def hold(self, version: Version, reason: str = "", *, owner: str = "user") -> None:
        """It cannot be removed until `release`."""
        with self._db.write() as db:
            target = uses.target(version.dataset, version.version)
            holds.put(db, holds.Hold(target, owner, reason, self._clock()))

    def release(self, version: Version, *, owner: str = "user") -> None:
        """Not held already counts as done."""
        with self._db.write() as db:
            holds.release(db, uses.target(version.dataset, version.version), owner)

    @contextmanager
    def reading(self, version: Version) -> Iterator[None]:
        """Its volume stays while it is read."""
        self._readers[version.volume] += 1
        try:
            yield
        finally:
            self._readers[version.volume] -= 1

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

    def find(self, name: str, version: str) -> Version:
        """By id or tag, open or committed; `latest` is the newest committed one. Raises NotFound."""
        return self.resolve(name) if version == LATEST else self._pick(self.get(name), version)

    def versions(self, name: str) -> list[Version]:
        """Newest first, open ones too. Raises NotFound."""
        return versions.every(self._db.read, self.get(name).uid)

    def full_name(self, version: Version) -> str:
        """`NAME:VERSION`, as users write it."""
        dataset = resources.find_uid(self._db.read, version.dataset)
        return f"{dataset.name if dataset else dataset_id(version.dataset)}:{version.version}"

    # tags

    def tag(self, name: str, version: str, tag: str) -> None:
        """Let `tag` point at a committed version (id or another tag); a tag that exists moves."""
        dataset = self.get(name)
        self._check_tag(self._db.read, dataset.uid, tag)
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
        if found := finding.find(self._db.read, ref):
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

    def _row(
        self,
        uid: str,
        version: str,
        *,
        run: str = "",
        job: str = "",
        message: str = "",
        parent: str = "",
        mark: str = "",
    ) -> Version:
        volume = self._volume(uid, version) + mark
        return Version(uid, version, volume, message, self._clock(), None, 0, run, job, parent)

    @staticmethod
    def _volume(uid: str, version: str) -> str:
        return f"{ROOM}/{uid}/{version}"

    def _check_free(self, name: str, version: Version, used: Sequence[str]) -> None:
        alone = len(versions.of_volume(self._db.read, version.volume)) < 2
        who = [*used, *(["a download"] if alone and self._readers[version.volume] else [])]
        if who:
            raise Conflict(
                f"version {version.version} is in use by {', '.join(who)}",
                where=f"dataset {name}",
                hint="what uses it has to end or be deleted first: `appliance dataset lineage` tells more",
            )

    @staticmethod
    def _check_tag(db: Connection, dataset: str, tag: str) -> None:
        check_name("tag", tag)
        if tag == LATEST or versions.find(db, dataset, tag):
            raise Conflict(f"{tag!r} always means a version itself, it cannot be a tag", hint="use another word")

    async def _make_way(self, volume: str) -> str:
        """What an abandoned attempt may have left must not show up in the next one: it goes before there is a row, so
        that a kill here is met again. Where it refuses to go, what to add to the name of the next one's volume.
        """
        try:
            await in_thread(self._store.destroy, volume)
        except (Conflict, StorageError) as error:
            log.warning("volume %s stays until the next sweep: %s", volume, error)
            return f"-{random_id(VERSION_LENGTH)}"
        return ""

    async def _let_go(self, volume: str) -> None:
        """Destroy the volume unless a row still points to it. What refuses is left for a sweep: its rows are gone."""
        if versions.of_volume(self._db.read, volume):
            return
        try:
            await in_thread(self._store.destroy, volume)
        except (Conflict, StorageError) as error:
            log.warning("volume %s stays until the next sweep: %s", volume, error)

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
