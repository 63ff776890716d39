"""From a job that may start to its container, made and not yet started. Every part of it may be repeated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from appliance.engine.labels import owner_of
from appliance.engine.types import Mount
from appliance.errors import Conflict
from appliance.spec.models import Job as JobSpec
from appliance.spec.models import Workflow
from appliance.state import runs
from appliance.state.runs import Job, Run
from appliance.storage.threads import in_thread
from appliance.workflows import actions, exchange, inputs
from appliance.workflows.actions import Task
from appliance.workflows.rooms import Rooms

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""Seconds between two looks at whether the job is still wanted, while its image is fetched."""
SHARED = "storage"
"""The volume that every job and notebook sees at /storage."""


async def resolve_inputs(rooms: Rooms, run: Run, workflow: Workflow, job: Job) -> dict[str, Any]:
    """The job's inputs, written to its row before anything is made of them."""
    outputs = {other.name: other.outputs for other in runs.jobs(rooms.db.read, run.id)}
    found = inputs.job_inputs(workflow.jobs[job.name], run.inputs, outputs, rooms.resolve)
    with rooms.db.write() as db:
        runs.move_job(db, run.id, job.name, job.phase, job.phase, message=job.message, inputs=found)
    return found


async def make_container(
    rooms: Rooms, run: Run, workflow: Workflow, job: Job, given: Mapping[str, Any], wanted: Callable[[], bool]
) -> None:
    """Image, volumes, container. Returns early, with nothing made, when `wanted` turns false while the image comes."""
    declared = workflow.jobs[job.name]
    reveal = rooms.vault.resolve
    env = {name: reveal(value) for name, value in declared.env.items()}
    task = actions.task_of(declared, env=env, event=workflow.event, reveal=reveal)
    image = await _image(rooms, run, job, task.image, wanted)
    if image is None:
        return
    mounts = await _mounts(rooms, run, job.name, declared, given, task)
    spec = actions.container_spec(
        run,
        job.name,
        task,
        instance=rooms.instance,
        image=image,
        env=env,
        mounts=mounts,
        port=rooms.settings.port,
        shm_mb=rooms.settings.shm_mb,
    )
    container = await rooms.engine.create(spec)
    owner = owner_of(container.labels)
    if owner is None or (owner.uid, owner.part) != (run.id, job.name):
        raise Conflict(
            f"the engine has a container {spec.name} that is not this job's",
            hint=f"look at it with `docker inspect {spec.name}` and remove it",
        )


async def _image(rooms: Rooms, run: Run, job: Job, ref: str, wanted: Callable[[], bool]) -> str | None:
    latest = shown = ""

    def progress(text: str) -> None:  # may be called from another thread
        nonlocal latest
        latest = text

    pull = asyncio.ensure_future(rooms.images.ensure(ref, progress))
    try:
        while not pull.done():
            await asyncio.wait({pull}, timeout=LOOK_S)
            if not pull.done() and not wanted():
                return None
            if latest != shown:
                shown = latest
                with rooms.db.write() as db:
                    runs.move_job(db, run.id, job.name, job.phase, job.phase, message=shown)
        return await pull
    finally:
        pull.cancel()


async def _mounts(
    rooms: Rooms, run: Run, name: str, declared: JobSpec, given: Mapping[str, Any], task: Task
) -> list[Mount]:
    binds = [Mount(await in_thread(rooms.store.create, SHARED), "/storage")]
    strings = {}
    for input_name, document in given.items():
        target = f"/inputs/{input_name}"
        if document["type"] == "string":
            strings[input_name] = document["value"]
        elif document["type"] == "dataset":
            version = rooms.datasets.resolve(document["id"])
            binds.append(Mount(await rooms.datasets.path(version), target, read_only=True))
        else:
            source = (run.id, document["job"], document["output"])
            binds.append(Mount(await rooms.scratch.clone(*source, reader=name, name=input_name), target))
    for output_name, output in declared.outputs.items():
        if output.type == "string":
            continue
        if output.type == "dataset":
            version = await rooms.datasets.begin(output.ref, run=run.id, job=name, token=output_name)
            path = await rooms.datasets.path(version)
        else:
            path = await rooms.scratch.create(run.id, name, output_name)
        await in_thread(exchange.open_to_all, path)
        binds.append(Mount(path, f"/outputs/{output_name}"))
    folders = [mount.target.lstrip("/") for mount in binds if mount.target != "/storage"]
    root = await rooms.scratch.create(run.id, name, exchange.VOLUME)
    outer = await in_thread(exchange.fill, root, strings=strings, folders=folders, files=task.files, secret=task.secret)
    return [*outer, *binds]
