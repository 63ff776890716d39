"""Where a version comes from and what came of it, told from the rows of runs, versions and models. Reads only.

Names are as users write them: `NAME:VERSION` of a dataset version, `WORKFLOW.NUMBER` of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.datasets import uses
from appliance.errors import NotFound
from appliance.state import models, resources, runs, versions
from appliance.state.db import Connection
from appliance.state.models import Model
from appliance.state.runs import Job, Run
from appliance.state.versions import Version


@dataclass(frozen=True, slots=True)
class Reader:
    """A job that was given a version, and the versions that it made."""

    run: str
    job: str
    phase: str
    made: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    ref: str
    run: str
    """That made it; empty: a person did."""
    job: str
    inputs: Mapping[str, str]
    """Of that job: input -> version it was given."""
    parent: str
    """The version that it was branched from or that was its base."""
    readers: tuple[Reader, ...]
    children: tuple[str, ...]
    """Branches of it, and versions that had it as their base."""
    models: tuple[Model, ...]
    """That are this version."""
    used_by: tuple[str, ...]


def of_version(db: Connection, version: Version) -> Lineage:
    ref = ref_of(db, version.dataset, version.version)
    maker = _maker(db, version)
    dataset, _, parent = version.parent.partition(":")
    return Lineage(
        ref=ref,
        run=subject(maker[0]) if maker else version.run,
        job=version.job,
        inputs=_given(maker[1].inputs) if maker and maker[1] else {},
        parent=ref_of(db, dataset, parent) if parent else "",
        readers=tuple(_reader(db, run, job) for run, job in runs.readers(db, ref)),
        children=tuple(
            ref_of(db, child.dataset, child.version)
            for child in versions.children(db, f"{version.dataset}:{version.version}")
        ),
        models=tuple(model for model in models.of_dataset(db, version.dataset) if model.version == version.version),
        used_by=tuple(uses.of_versions(db).get((version.dataset, version.version), ())),
    )


def of_model(db: Connection, model: Model) -> tuple[Lineage, str, Mapping[str, str]]:
    """Of the version it is; the run that registered it, if any; and what that run was given."""
    version = versions.find(db, model.dataset, model.version)
    if version is None:
        raise NotFound(f"the content of model {model.name!r} is gone", where=model.id, hint="register the model again")
    run = _run(db, model.run)
    return of_version(db, version), subject(run) if run else model.run, _given(run.inputs) if run else {}


def ref_of(db: Connection, dataset: str, version: str) -> str:
    """`NAME:VERSION`; of a dataset that is gone with its id."""
    found = resources.find_uid(db, dataset)
    return f"{found.name if found else dataset}:{version}"


def subject(run: Run) -> str:
    return f"{run.workflow}.{run.number}"


def _maker(db: Connection, version: Version) -> tuple[Run, Job | None] | None:
    run = _run(db, version.run)
    if run is None:
        return None
    return run, next((job for job in runs.jobs(db, run.id) if job.name == version.job), None)


def _run(db: Connection, run_id: str) -> Run | None:
    """None: there was none, or its row is gone."""
    if not run_id:
        return None
    try:
        return runs.get(db, run_id)
    except NotFound:
        return None


def _reader(db: Connection, run: Run, job: Job) -> Reader:
    made = [str(found["id"]) for found in job.outputs.values() if found.get("type") == "dataset" and found.get("id")]
    return Reader(subject(run), job.name, job.phase, tuple(made))


def _given(documents: Mapping[str, Any]) -> Mapping[str, str]:
    return {
        name: str(found["id"]) for name, found in documents.items() if found.get("type") == "dataset" and "id" in found
    }
