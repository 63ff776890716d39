"""Rows of the rooms as documents of the wire. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from appliance import wire
from appliance.datasets.lineage import Lineage
from appliance.datasets.sizes import Size
from appliance.history.pruning import Pruning
from appliance.paths import encode
from appliance.spec.models import Job as JobSpec
from appliance.state.events import Event
from appliance.state.models import Model
from appliance.state.resources import Resource
from appliance.state.runs import Job, Run
from appliance.state.snapshots import Snapshot
from appliance.state.spec_files import SpecFile
from appliance.state.versions import Version
from appliance.storage.trees.tree import TreeEntry
from appliance.telemetry.types import LogLine
from appliance.triggers import ticks

PRIVATE = frozenset({"token"})
"""Status fields that a listing does not show; `/access` does."""


def item(
    resource: Resource, *, front_door: str, problems: Mapping[str, str], full: bool = False, now: float | None = None
) -> wire.Item:
    """`problems`: source -> what is wrong with that spec file. With `now` a workflow has its next run by the clock."""
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
    if resource.kind == "workflow" and now is not None:
        counts = resource.desired == "running" and not resource.deleting
        document["next_run"] = ticks.next_tick(resource.spec, now) if counts else None
    if full:
        document["spec"] = resource.spec
    return document


def run(
    row: Run,
    jobs: Iterable[Job] | None = None,
    declared: Mapping[str, JobSpec] = {},
    *,
    parent: str = "",
    capsules: Collection[str] = (),
) -> wire.Run:
    """`parent` is the name of the run that it goes back to, `capsules` the jobs of which one is kept."""
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
        cause=row.cause,
        source=row.source,
        parent=parent or row.parent,
    )
    if jobs is not None:
        document["jobs"] = [_job(job, declared.get(job.name), capsule=job.name in capsules) for job in jobs]
        document["spec"] = row.spec
    return document


def _job(row: Job, declared: JobSpec | None, *, capsule: bool) -> wire.Job:
    return wire.Job(
        name=row.name,
        phase=row.phase,
        message=row.message,
        exit_code=row.exit_code,
        started=row.started,
        finished=row.finished,
        inputs=row.inputs,
        outputs=row.outputs,
        needs=list(declared.needs) if declared else [],
        attempt=row.attempt,
        next_try=row.not_before if row.phase == "Pending" else None,
        reused=row.reused,
        image=row.image,
        commit_id=row.commit_id,
        matrix=declared.matrix if declared else {},
        capsule=capsule,
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


def version(
    row: Version,
    *,
    dataset: str,
    tags: Mapping[str, str],
    parent: str = "",
    used_by: Iterable[str] = (),
    size: Size | None = None,
) -> wire.Version:
    """`tags`: tag -> version, of the whole dataset. `parent` as `NAME:VERSION`."""
    document = wire.Version(
        ref=f"{dataset}:{row.version}",
        version=row.version,
        message=row.message,
        created=row.committed or row.created,
        bytes=row.bytes,
        run=row.run,
        job=row.job,
        tags=sorted(tag for tag, tagged in tags.items() if tagged == row.version),
        parent=parent,
        digest=row.digest,
        used_by=list(used_by),
    )
    if size is not None:
        document["bytes"] = size.referenced
        document["unique"] = size.unique
        document["shared"] = size.shared
    return document


def lineage(found: Lineage, model_of: Callable[[Model], wire.Model]) -> wire.Lineage:
    return wire.Lineage(
        ref=found.ref,
        run=found.run,
        job=found.job,
        inputs=dict(found.inputs),
        parent=found.parent,
        readers=[
            wire.VersionReader(run=reader.run, job=reader.job, phase=reader.phase, made=list(reader.made))
            for reader in found.readers
        ],
        children=list(found.children),
        models=[model_of(row) for row in found.models],
        used_by=list(found.used_by),
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


def snapshot(row: Snapshot, held: Iterable[str] = ()) -> wire.Snapshot:
    return wire.Snapshot(
        id=row.id,
        cause=row.cause,
        message=row.message,
        created=row.created,
        author=row.author,
        subject=row.subject,
        bytes=row.bytes,
        held=list(held),
    )


def pruning(found: Pruning, held: Mapping[str, Iterable[str]], *, dry_run: bool) -> wire.Pruning:
    items = [
        wire.Verdict(snapshot=snapshot(verdict.moment, held.get(verdict.moment.id, ())), why=verdict.why)
        for verdict in reversed(found.verdicts)
    ]
    reclaim = found.reclaim
    return wire.Pruning(
        items=items, bytes=reclaim.bytes if reclaim else 0, exact=bool(reclaim and reclaim.exact), dry_run=dry_run
    )


def entry(found: TreeEntry) -> wire.Entry:
    document = wire.Entry(name=encode(found.name), kind=found.kind, size=found.size, modified=found.modified)
    if found.target is not None:
        document["target"] = encode(found.target)
    return document
