"""After a job: its outputs are taken in, what it did not finish is dropped. Every part of it may be repeated."""

from __future__ import annotations

import logging
from typing import Any

from appliance.engine.types import Container
from appliance.errors import Conflict, NotFound, StorageError
from appliance.fetching.git import COMMIT, COMMIT_FILE
from appliance.fetching.programs import read_told
from appliance.spec.models import GitCheckoutAction
from appliance.spec.models import Job as JobSpec
from appliance.state.runs import Run
from appliance.storage.threads import in_thread
from appliance.telemetry.types import LogSource
from appliance.workflows import exchange
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions

log = logging.getLogger(__name__)


def log_source(run: Run, job: str, container: Container) -> LogSource:
    return LogSource(kind="run", name=actions.subject(run), part=job, container=container.id)


async def read_strings(rooms: Rooms, run: Run, name: str, declared: JobSpec) -> dict[str, Any]:
    """The string outputs of a job that succeeded: all that may still be refused. Raises UsageError in words."""
    strings = [key for key, output in declared.outputs.items() if output.type == "string"]
    if not strings:
        return {}
    root = await rooms.scratch.create(run.id, name, exchange.VOLUME)
    return {key: {"type": "string", "value": await in_thread(exchange.read_string, root, key)} for key in strings}


async def read_commit(rooms: Rooms, run: Run, name: str, declared: JobSpec) -> str:
    """The commit that a checkout which succeeded says it took; empty: it is another action, or says nothing of use."""
    if not isinstance(declared.action, GitCheckoutAction):
        return ""
    root = await rooms.scratch.create(run.id, name, exchange.VOLUME)
    told = await in_thread(read_told, root, COMMIT_FILE)
    return told if COMMIT.fullmatch(told) else ""


async def commit(rooms: Rooms, run: Run, name: str, declared: JobSpec, strings: dict[str, Any]) -> dict[str, Any]:
    """All outputs of a job that succeeded, with its volumes frozen and its dataset versions committed together."""
    outputs = dict(strings)
    for key, output in declared.outputs.items():
        if output.type == "volume":
            await rooms.scratch.finish(run.id, name, key)
            outputs[key] = {"type": "volume", "run": run.id, "job": name, "output": key}
    written = {
        key: await rooms.datasets.begin(output.ref, run=run.id, job=name, token=key)
        for key, output in declared.outputs.items()
        if output.type == "dataset"
    }
    done = await rooms.datasets.commit_all(list(written.values()), message=f"{actions.subject(run)}, job {name}")
    for key, version in zip(written, done, strict=True):
        ref = declared.outputs[key].ref
        full_name = rooms.full_name(ref, version)
        outputs[key] = {"type": "dataset", "ref": ref, "id": full_name, "committed": True}
    return outputs


async def abandon(rooms: Rooms, run: Run, name: str, declared: JobSpec) -> None:
    """Drop the dataset versions that a job which did not succeed has begun."""
    for output in declared.outputs.values():
        if output.type != "dataset":
            continue
        try:
            versions = rooms.datasets.versions(output.ref)
        except NotFound:
            continue
        for version in versions:
            if (version.run, version.job, version.committed) == (run.id, name, None):
                await rooms.datasets.abandon(version)


async def discard(rooms: Rooms, run: Run, name: str, *, folders: bool = True) -> None:
    """Destroy what only this job used: its views of volume inputs, and unless told otherwise its folders.

    What cannot be destroyed now goes with the run's other volumes at its end.
    """
    own = rooms.scratch.volume(run.id, name, exchange.VOLUME)
    folder = own.rpartition("/")[0]
    volumes = await in_thread(rooms.store.volumes, folder)
    for volume in volumes:
        if (volume == own and folders) or volume.startswith(f"{folder}/in-"):
            try:
                await in_thread(rooms.store.destroy, volume)
            except (Conflict, StorageError) as error:
                log.warning("volume %s stays until the end of its run: %s", volume, error)
