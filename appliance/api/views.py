"""Rows of the rooms as documents of the wire. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from appliance import wire
from appliance.state.events import Event
from appliance.state.models import Model
from appliance.state.resources import Resource
from appliance.state.runs import Job, Run
from appliance.state.snapshots import Snapshot
from appliance.state.spec_files import SpecFile
from appliance.state.versions import Version
from appliance.telemetry.types import LogLine

PRIVATE = frozenset({"token"})
"""Status fields that a listing does not show; `/access` does."""


def item(resource: Resource, *, front_door: str, problems: Mapping[str, str], full: bool = False) -> wire.Item:
    """`problems`: source -> what is wrong with that spec file."""
    url_path = resource.status.get("url_path", "")
    document = wire.Item(
        kind=resource.kind,
        name=resource.name,
        uid=resource.uid,
        phase="Deleting" if resource.deleting else resource.phase,
        message=resource.message,
        generation=resource.generation,
        observed=resource.observed,
        source=resource.source,
        desired=resource.desired,
        deleting=resource.deleting,
        problem=problems.get(resource.source, ""),
        url=f"{front_door}{url_path}" if url_path else "",
        created=resource.created,
        updated=resource.updated,
        status={key: value for key, value in resource.status.items() if key not in PRIVATE},
    )
    if full:
        document["spec"] = resource.spec
    return document


def run(row: Run, jobs: list[Job] | None = None) -> wire.Run:
    document = wire.Run(
        kind="run",
        name=f"{row.workflow}.{row.number}",
        id=row.id,
        workflow=row.workflow,
        number=row.number,
        phase="Canceling" if row.cancel and row.finished is None else row.phase,
        message=row.message,
        created=row.created,
        started=row.started,
        finished=row.finished,
        inputs=row.inputs,
    )
    if jobs is not None:
        declared = row.spec.get("jobs", {})
        document["jobs"] = [_job(job, list(declared.get(job.name, {}).get("needs", ()))) for job in jobs]
        document["spec"] = row.spec
    return document


def _job(row: Job, needs: list[str]) -> wire.Job:
    return wire.Job(
        name=row.name,
        phase=row.phase,
        message=row.message,
        exit_code=row.exit_code,
        started=row.started,
        finished=row.finished,
        inputs=row.inputs,
        outputs=row.outputs,
        needs=needs,
    )


def event(row: Event) -> wire.Event:
    return wire.Event(
        id=row.id, at=row.at, kind=row.kind, name=row.name, level=row.level, reason=row.reason, message=row.message
    )


def log_line(row: LogLine) -> wire.LogLine:
    return wire.LogLine(
        seq=row.seq, at=row.at, kind=row.kind, name=row.name, part=row.part, stream=row.stream, line=row.line
    )


def spec_file(row: SpecFile) -> wire.SpecFile:
    declares = [f"{kind}/{name}" for kind, name in row.declares]
    return wire.SpecFile(name=row.path, problem=row.problem, declares=declares, updated=row.updated)


def version(row: Version, *, dataset: str, tags: Mapping[str, str]) -> wire.Version:
    """`tags`: tag -> version, of the whole dataset."""
    return wire.Version(
        ref=f"{dataset}:{row.version}",
        version=row.version,
        message=row.message,
        created=row.committed or row.created,
        bytes=row.bytes,
        run=row.run,
        job=row.job,
        tags=sorted(tag for tag, tagged in tags.items() if tagged == row.version),
    )


def model(row: Model, *, dataset: str) -> wire.Model:
    return wire.Model(
        id=row.id,
        name=row.name,
        type=row.type,
        dataset=dataset,
        version=row.version,
        run=row.run,
        created=row.created,
    )


def snapshot(row: Snapshot) -> wire.Snapshot:
    return wire.Snapshot(id=row.id, cause=row.cause, message=row.message, created=row.created)
