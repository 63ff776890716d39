"""How what a deployment's spec names comes here: each source into a volume of its own, or into a dataset version."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from appliance.datasets.datasets import Datasets
from appliance.deployments import volumes
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import CONTENT, Owner, owner_of
from appliance.engine.types import Container
from appliance.errors import ApplianceError, NotFound, StorageError
from appliance.fetching import errand, programs, sources
from appliance.fetching.errand import FAILED_HINT, Errand
from appliance.fetching.following import Following
from appliance.fetching.sources import Fetch, Source
from appliance.spec.models import Clone, Deployment, Integration, Repositories
from appliance.state import resources, rollouts, versions
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.state.versions import Version
from appliance.storage.base import Store
from appliance.storage.threads import in_thread
from appliance.storage.trees import removing
from appliance.telemetry.draining import Draining
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets

log = logging.getLogger(__name__)

Pinned = Mapping[str, Mapping[str, Any]]
"""Mount path -> what is mounted there: a `volume` (`writable` or not), or the `version` of a `dataset`; its `name` in
the spec, and `words` on what it is for people."""


class Gathering:
    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        images: Images,
        store: Store,
        datasets: Datasets,
        telemetry: Telemetry,
        vault: Secrets,
        instance: str,
    ) -> None:
        self.db = db
        self.store = store
        self._engine = engine
        self._images = images
        self._datasets = datasets
        self._telemetry = telemetry
        self._draining = Draining(telemetry)
        self._vault = vault
        self._instance = instance

    def keys(self, deployment: Resource, spec: Deployment) -> frozenset[str]:
        """Another set asks for another content. What was fetched has the same key as long as it may be used.

        A dataset is asked for as the version that its reference means now.
        """
        epoch = self._epoch(deployment)
        found = {sources.key_of(one, deployment.uid, epoch) for one in _sources(spec)}
        for one in spec.integrations:
            if one.type == "dataset":
                with suppress(ApplianceError):  # told where it is gathered
                    found.add(self._datasets.full_name(self._datasets.resolve(one.ref)))
        if spec.repositories:
            found.add(self._job(deployment, spec.repositories))
        return frozenset(found)

    async def gather(self, deployment: Resource, spec: Deployment, progress: dict[str, str]) -> Pinned:
        """All that the spec names, fetched where it is not here yet. Raises ApplianceError."""
        await self._clear(deployment.uid, but=self.keys(deployment, spec))
        works = [self._integration(deployment, one, progress) for one in spec.integrations]
        if spec.repositories:
            works.append(self._repositories(deployment, spec.repositories, progress))
        found: dict[str, Mapping[str, Any]] = {}
        for entries in await _each(works):
            found.update(entries)
        await self._clear(deployment.uid, but=())
        return found

    async def place(self, deployment: Resource, entry: Mapping[str, Any]) -> Path:
        """The folder of one entry of a pinned content. Raises NotFound with the next step."""
        hint = f"`appliance deployment restart {deployment.name}` fetches it again"
        try:
            if "volume" in entry:
                path = await in_thread(self.store.path, entry["volume"])
                return path if entry.get("writable") else path / volumes.DATA
            version = versions.find(self.db.read, entry["dataset"], entry["version"])
            if version is not None:
                return await self._datasets.path(version)
        except NotFound:
            pass
        raise NotFound(f"the content {entry['name']!r} of this revision is gone", where=deployment.name, hint=hint)

    async def destroy(self, uid: str, keep: Collection[str], keys: Collection[str], *, all_of_it: bool) -> None:
        """What was fetched for a deployment but the volumes `keep`, and what is wanted at present: `keys`.

        With `all_of_it` volumes that replicas wrote to go too. What refuses stays until the next call: raises
        StorageError once all else is gone.
        """
        await self._clear(uid, but=keys)
        stay = set() if all_of_it else {*keep, *(volumes.fetched(uid, key) for key in keys)}
        there = [
            volume
            for prefix in volumes.below(uid, all_of_it=all_of_it)
            for volume in await in_thread(self.store.volumes, prefix)
        ]
        refused = await in_thread(volumes.destroy, self.store, [volume for volume in there if volume not in stay])
        for version in versions.of_run(self.db.read, _run(uid)):
            if version.committed is None and version.job not in keys:
                await self._datasets.abandon(version)
        if refused:
            raise refused[0]

    async def sweep(self) -> None:
        """Destroy containers and volumes of deployments that have no row; volumes with files in them stay."""
        containers = await self._engine.list(kind=CONTENT)
        there = await in_thread(volumes.every, self.store)
        # asked after what there is: a row comes before its volumes
        known = {row.uid for row in resources.every(self.db.read, "deployment")}
        for container in containers:
            owner = owner_of(container.labels)
            if owner and owner.kind == CONTENT and owner.uid not in known:
                await self._engine.remove(container.id)
        for error in await in_thread(volumes.sweep, self.store, there, known):
            log.warning("content of a deployment that is gone stays for now: %s", error)

    # the sources

    async def _integration(self, deployment: Resource, one: Integration, progress: dict[str, str]) -> Pinned:
        if one.type == "volume":
            volume = volumes.kept(deployment.uid, one.name)
            path = await in_thread(self.store.create, volume)
            await in_thread(path.chmod, 0o777)  # whatever user the image runs as; above it only ours may pass
            return {one.path: {"name": one.name, "volume": volume, "writable": True}}
        if one.type == "dataset":
            version = self._datasets.resolve(one.ref)
            return {one.path: self._entry(one.name, version)}
        volume = volumes.fetched(deployment.uid, self._key(deployment, one))
        words = await in_thread(volumes.note, self.store, volume)
        if words is None:
            root = await in_thread(self.store.create, volume)
            target = await in_thread(volumes.data, root)
            finished = await self._fetch(deployment, one, root, target, progress)
            words = f"{one.type} {sources.shown(one)}: {finished.words}"
            await in_thread(volumes.finish, self.store, volume, words, link=sources.link_of(one))
            await self._engine.remove(finished.container.id)
        else:
            await in_thread(self.store.seal, volume)  # a kill may have come between
        return {one.path: {"name": one.name, "volume": volume, "words": words}}

    async def _repositories(self, deployment: Resource, repositories: Repositories, progress: dict[str, str]) -> Pinned:
        """Into one new version of the dataset; the same one again after a kill."""
        keys = [self._key(deployment, one) for one in repositories.clones]
        job = self._job(deployment, repositories)
        version = await self._datasets.begin(repositories.dataset, run=_run(deployment.uid), job=job)
        if version.committed is None:
            root = await self._datasets.path(version)
            await _each([self._clone(deployment, one, root, progress) for one in repositories.clones])
            named = ", ".join(f"{one.name} from {sources.shown(one)}" for one in repositories.clones)
            message = f"repositories of deployment {deployment.name}: {named}"
            version = await self._datasets.commit(version, message=message)
        notes = [volumes.fetched(deployment.uid, key) for key in keys]
        for error in await in_thread(volumes.destroy, self.store, notes):
            log.warning("what is left of the repositories of %s stays for now: %s", deployment.name, error)
        return {repositories.path: self._entry("repositories", version)}

    async def _clone(self, deployment: Resource, clone: Clone, into: Path, progress: dict[str, str]) -> None:
        """Into its folder of an open version. Its own volume holds private files, and the note that it is whole."""
        volume, target = volumes.fetched(deployment.uid, self._key(deployment, clone)), into / clone.name
        if await in_thread(volumes.is_clone, target) and await in_thread(volumes.note, self.store, volume) is not None:
            return
        root = await in_thread(self.store.create, volume)
        await in_thread(partial(target.mkdir, exist_ok=True))
        await in_thread(target.chmod, 0o755)
        finished = await self._fetch(deployment, clone, root, target, progress)
        if there := await in_thread(volumes.is_clone, target):
            await in_thread(volumes.write_note, root, finished.words)
        await self._engine.remove(finished.container.id)
        if not there:  # a dataset that was deleted meanwhile took the folder along
            raise StorageError(f"repository {clone.name} was cloned into a version that is gone", hint=FAILED_HINT)

    async def _fetch(
        self, deployment: Resource, one: Source, root: Path, target: Path, progress: dict[str, str]
    ) -> _Finished:
        """Its container is there still, so that a kill before the note is written loses nothing."""

        async def prepare() -> Fetch:
            found = sources.fetch_of(one, self._vault.resolve)
            resumes = isinstance(one, Integration) and one.type != "git-lfs"  # git does not go on where it was killed
            await in_thread(volumes.tidy if resumes else removing.empty, target)
            return found

        kind = "repository" if isinstance(one, Clone) else one.type
        part = f"fetch-{one.name}"
        owner = Owner(
            instance=self._instance,
            kind=CONTENT,
            name=deployment.name,
            uid=deployment.uid,
            part=part,
            generation=deployment.generation,
            digest=self._key(deployment, one),
        )
        job = Errand(f"appliance-{self._instance}-content-{owner.digest}", owner, f"{kind} {one.name}", root, target)
        witness = Following(self._telemetry, self._draining, self._vault, job, partial(progress.__setitem__, job.what))
        try:
            container = await errand.run(self._engine, self._images, job, prepare, witness)
        finally:
            progress.pop(job.what, None)
        words = await errand.last_words(self._engine, container, self._vault.values())
        await in_thread(programs.forget, root)
        for verb in ("is", "are"):  # where the program found its folder means nothing here
            words = words.replace(f" {verb} in {sources.TARGET}", "")
        return _Finished(container, words)

    # parts

    def _key(self, deployment: Resource, one: Source) -> str:
        return sources.key_of(one, deployment.uid, self._epoch(deployment))

    def _job(self, deployment: Resource, repositories: Repositories) -> str:
        """Of the version that they are cloned into."""
        keys = sorted(self._key(deployment, one) for one in repositories.clones)
        return hashlib.sha256(" ".join([repositories.dataset, *keys]).encode()).hexdigest()[:16]

    def _epoch(self, deployment: Resource) -> int:
        """The generation that was last asked to begin afresh; 0: none was."""
        rows = rollouts.every(self.db.read, deployment.uid)
        afresh = (row.generation for row in rows if row.cause == "restarted")
        return max((generation for generation in afresh if generation <= deployment.generation), default=0)

    def _entry(self, name: str, version: Version) -> dict[str, Any]:
        words = f"dataset {self._datasets.full_name(version)}"
        return {"name": name, "dataset": version.dataset, "version": version.version, "words": words}

    async def _clear(self, uid: str, *, but: Collection[str]) -> None:
        """Ends what fetches something for the deployment that nobody asks for any more."""
        for container in await self._engine.list(kind=CONTENT, uid=uid):
            owner = owner_of(container.labels)
            if owner and owner.kind == CONTENT and owner.digest not in but:
                await self._engine.remove(container.id)
                await in_thread(volumes.without_secrets, self.store, volumes.fetched(uid, owner.digest))


@dataclass(frozen=True, slots=True)
class _Finished:
    container: Container
    words: str


async def _each(works: Sequence[Any]) -> list[Any]:
    """What came of each. One that fails keeps no other from its end: what is here then is here at the next attempt."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def _sources(spec: Deployment) -> list[Source]:
    fetched: list[Source] = [*spec.integrations]
    return fetched + list(spec.repositories.clones if spec.repositories else ())


def _run(uid: str) -> str:
    """Who makes the versions that repositories are cloned into, in the place of a run's id."""
    return f"deployment/{uid}"
