"""Volumes of workflow runs: outputs of the jobs, and a private writable view for each reader.

`runs/<run>/<job>/<output>` is what a job writes. When the job has ended it is frozen as the snapshot `done`, and a
job that reads it gets a clone of its own, `runs/<run>/<reader>/in-<input>`; what it writes there nobody else sees.
Job and output names may be any text; `names.part` makes volume names of them. They go with their run, but for those
that somebody still needs afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from appliance.errors import Conflict, NotFound, StorageError
from appliance.storage.base import Store
from appliance.storage.destroy import destroy_below
from appliance.storage.names import part
from appliance.storage.threads import in_thread

log = logging.getLogger(__name__)

ROOM = "runs"
DONE = "done"
_MOST = 40
"""Characters of a job's or an output's name in a volume name, so that the whole always fits."""


_SHARED = part("/shared", _MOST)
"""Takes the place of a job's name; the slash keeps it apart from every job that a spec can hold."""


def volume_name(run: str, job: str, output: str) -> str:
    """Name of the volume that `job` writes as `output`."""
    return f"{ROOM}/{part(run)}/{part(job, _MOST)}/out-{part(output, _MOST)}"


def shared_name(run: str, name: str) -> str:
    """Name of the volume that all jobs of a run share as `name`."""
    return f"{ROOM}/{part(run)}/{_SHARED}/all-{part(name, _MOST)}"


class Scratch:
    def __init__(self, store: Store) -> None:
        self._store = store

    def volume(self, run: str, job: str, output: str) -> str:
        """Name of the volume that `job` writes as `output`."""
        return volume_name(run, job, output)

    async def create(self, run: str, job: str, output: str, *, owner: tuple[int, int] = (0, 0)) -> Path:
        """The empty directory for an output. Repeating it gives the same directory with what is in it."""
        return await in_thread(self._store.create, self.volume(run, job, output), owner=owner)

    async def finish(self, run: str, job: str, output: str) -> None:
        """The job has ended: freeze the output, so that readers can be given it. Repeating it changes nothing."""
        await in_thread(self._store.snapshot, self.volume(run, job, output), DONE)

    async def clone(self, source: tuple[str, str, str], *, run: str, reader: str, name: str) -> Path:
        """The directory in which job `reader` of `run` sees the output `source` (run, job, output) as its input `name`.

        Raises NotFound before `finish`.
        """
        new = f"{ROOM}/{part(run)}/{part(reader, _MOST)}/in-{part(name, _MOST)}"
        return await in_thread(self._store.clone, self.volume(*source), DONE, new)

    async def shared(self, run: str, name: str) -> Path:
        """The directory that all jobs of a run share as the volume `name`, in the dialect of 2021."""
        return await in_thread(self._store.create, shared_name(run, name), owner=(0, 0))

    async def finished(self, run: str, job: str, output: str) -> bool:
        """The output is there, and frozen as the job has left it."""
        try:
            return DONE in await in_thread(self._store.snapshots, self.volume(run, job, output))
        except NotFound:
            return False

    async def destroy_job(self, run: str, job: str) -> None:
        """Everything that one job wrote and read. Gone already counts as done."""
        await in_thread(destroy_below, self._store, f"{ROOM}/{part(run)}/{part(job, _MOST)}")

    async def destroy_run(self, run: str, *, keep: Collection[str] = ()) -> None:
        """Everything the run wrote and read but the volumes `keep`. Gone already counts as done.

        Raises StorageError, Conflict; everything else is gone then, and it may be repeated.
        """
        await in_thread(destroy_below, self._store, f"{ROOM}/{part(run)}", keep=keep)

    async def sweep(self, runs: Callable[[], Iterable[str]]) -> None:
        """Destroy the volumes of all runs but `runs()`: their rows are gone, so nobody will ask for them.

        `runs` is asked just before each destruction: a run's row is there before its volumes are.
        """
        volumes = await in_thread(self._store.volumes, ROOM)
        for found in sorted({volume.split("/")[1] for volume in volumes}):
            if found in {part(run) for run in runs()}:
                continue
            log.info("volumes of run %s belong to no run; they are destroyed", found)
            try:
                await in_thread(destroy_below, self._store, f"{ROOM}/{found}")
            except (Conflict, StorageError) as error:
                log.warning("volumes of run %s stay: %s", found, error)
