"""From a job that may start to its container, made and not yet started. Every part of it may be repeated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.engine.labels import owner_of
from appliance.engine.types import Container, Mount
from appliance.errors import Conflict, NoSuchImage, NotFound
from appliance.scheduler.types import Answer
from appliance.spec.limits import limits_of
from appliance.spec.models import Job as JobSpec
from appliance.spec.models import Workflow
from appliance.state import runs
from appliance.state.runs import Job, Run
from appliance.storage.shared import shared
from appliance.storage.threads import in_thread
from appliance.workflows import exchange, inputs
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions, local, own_repository
from appliance.workflows.steps.actions import Task

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""Seconds between two looks at whether the job is still wanted, while its image is fetched."""


async def resolve_inputs(rooms: Rooms, run: Run, workflow: Workflow, job: Job) -> dict[str, Any]:
    """The job's inputs, written to its row before anything is made of them."""
    declared = workflow.jobs[job.name]
    outputs = runs.outputs(rooms.db.read, run.id, inputs.sources(declared))
    found = inputs.job_inputs(declared, run.inputs, outputs, rooms.resolve, job.pins)
    if found != job.inputs:
        with rooms.db.write() as db:
            runs.move_job(db, run.id, job.name, job.phase, job.phase, message=job.message, inputs=found)
    return found


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a job runs, with its secrets in place and its image on this engine."""

    task: Task
    env: Mapping[str, str]
    image: str
    """What `task.image` stands for on this engine."""
    digest: str
    """Identifies the image's content; the same reference may mean another one tomorrow."""
    mounts: Sequence[Mount] | None = None
    """None: they are not made yet."""


async def prepare(
    rooms: Rooms,
    run: Run,
    workflow: Workflow,
    job: Job,
    given: Mapping[str, Any],
    wanted: Callable[[], bool],
    *,
    at_once: bool = True,
) -> Prepared | None:
    """Fetch the image. None when `wanted` turns false meanwhile.

    The volumes of a job that begins `at_once`, and will not be given the outputs of an earlier one, are made while its
    image is looked for.
    """
    declared = workflow.jobs[job.name]
    task, env = await _task(rooms, run, workflow, job)
    if not at_once or may_be_reused(run, declared):
        image = await _image(rooms, run, job, task, workflow.registries, wanted)
        return None if image is None else Prepared(task, env, image, image)
    mounts = asyncio.create_task(_mounts(rooms, run, job.name, declared, given, task), name=f"volumes of {job.name}")
    try:
        image = await _image(rooms, run, job, task, workflow.registries, wanted)
        return None if image is None else Prepared(task, env, image, image, await mounts)
    finally:  # what a thread of the store has begun goes on, so nobody may clean up before its end
        await asyncio.gather(mounts, return_exceptions=True)


def may_be_reused(run: Run, declared: JobSpec) -> bool:
    """It may be given what an earlier job has made; see `reuse`."""
    return run.cache and declared.cache and bool(declared.outputs)


async def _task(rooms: Rooms, run: Run, workflow: Workflow, job: Job) -> tuple[Task, dict[str, str]]:
    """What it runs, and its variables, with secrets in place."""
    declared = workflow.jobs[job.name]
    reveal = rooms.vault.resolve
    env = {name: reveal(value) for name, value in declared.env.items()}
    repository = own_repository.given(rooms.db.read, run.workflow_uid, workflow, declared)
    task = actions.task_of(
        declared,
        env=env,
        event=workflow.event,
        reveal=reveal,
        notebook_image=rooms.settings.notebook_image,
        commit=job.commit_id,
        place=await in_thread(local.look, repository.path, inside=True) if repository.path else None,
        known_hosts=repository.known_hosts,
    )
    return task, env


async def _image(
    rooms: Rooms, run: Run, job: Job, task: Task, registries: Sequence[str], wanted: Callable[[], bool]
) -> str | None:
    """Its id on this engine."""
    if run.mode == "replay" and job.image:
        image = await rooms.images.identity(job.image)
        if not image:
            raise NoSuchImage(
                f"the image that it ran, {task.image} as {job.image}, is not on this machine any more",
                hint="start a new run: it takes what the name means now",
            )
        return image
    return await _fetch(rooms, run, job, task.image, registries, wanted)


async def make_container(
    rooms: Rooms,
    run: Run,
    workflow: Workflow,
    job: Job,
    given: Mapping[str, Any],
    prepared: Prepared,
    lease: Answer,
) -> Container:
    """Volumes and container, which has the GPUs of the lease."""
    mounts = prepared.mounts
    if mounts is None:
        mounts = await _mounts(rooms, run, job.name, workflow.jobs[job.name], given, prepared.task)
    spec = actions.container_spec(
        run,
        job.name,
        prepared.task,
        instance=rooms.instance,
        image=prepared.image,
        env=prepared.env,
        mounts=mounts,
        port=rooms.settings.port,
        push_port=rooms.settings.push_port,
        limits=limits_of(workflow.jobs[job.name].machine, rooms.settings),
        attempt=job.attempt,
        lease=lease,
    )
    container = await rooms.engine.create(spec)
    owner = owner_of(container.labels)
    if owner is None or (owner.uid, owner.part) != (run.id, job.name):
        raise Conflict(
            f"the engine has a container {spec.name} that is not this job's",
            hint=f"look at it with `docker inspect {spec.name}` and remove it",
        )
    return container


async def _fetch(
    rooms: Rooms, run: Run, job: Job, ref: str, registries: Sequence[str], wanted: Callable[[], bool]
) -> str | None:
    latest = shown = ""

    def progress(text: str) -> None:  # may be called from another thread
        nonlocal latest
        latest = text

    pull = asyncio.ensure_future(rooms.images.ensure(ref, progress, registries=registries))
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
    binds = [Mount(await in_thread(shared, rooms.store), "/storage")]
    strings: dict[str, str | dict[str, str]] = {}
    folders = []
    for input_name, document in given.items():
        if document["type"] == "string":
            strings[input_name] = document["value"]
        elif document["type"] == "many":
            each = document["of"]
            strings[input_name] = {job: one["value"] for job, one in each.items() if one["type"] == "string"}
            folders.append(f"inputs/{input_name}")
            for job, one in each.items():
                if one["type"] != "string":
                    binds.append(await _bind(rooms, run, name, f"{input_name}/{job}", one))
        else:
            binds.append(await _bind(rooms, run, name, input_name, document))
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
    folders += [mount.target.lstrip("/") for mount in binds if mount.target != "/storage"]
    root = await rooms.scratch.create(run.id, name, exchange.VOLUME)
    outer = await in_thread(
        exchange.fill,
        root,
        strings=strings,
        folders=folders,
        files=task.files,
        secret=task.secret,
        tells=task.tells,
    )
    return [*outer, *task.mounts, *binds]


async def _bind(rooms: Rooms, run: Run, reader: str, place: str, document: Mapping[str, Any]) -> Mount:
    """An input that is a directory, at `/inputs/PLACE`: a dataset read-only, a volume as the reader's own copy."""
    target = f"/inputs/{place}"
    if document["type"] == "dataset":
        version = rooms.datasets.resolve(document["id"])
        return Mount(await rooms.datasets.path(version), target, read_only=True)
    if document["type"] == "shared":
        path = await rooms.scratch.shared(run.id, document["name"])
        await in_thread(exchange.open_to_all, path)
        return Mount(path, target)
    source = (document["run"], document["job"], document["output"])
    try:
        return Mount(await rooms.scratch.clone(source, run=run.id, reader=reader, name=place), target)
    except NotFound:
        raise NotFound(
            f"input {place!r}: the volume {document['output']!r} that job {document['job']!r} made is gone",
            hint="start a new run, which makes it again",
        ) from None
