"""Who needs a dataset version: told from what runs and is registered, never stored a second time.

A version in use cannot be removed. In use is what an open run has read, was given or names, what is kept of a failed
job, what a live notebook, or a run of one, has mounted, what a model is, what a person holds, and what is being read
at this moment. What the step cache could give to a job is not in use: where it is gone, the job runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from appliance.datasets import finding
from appliance.datasets.ref import parse_ref
from appliance.errors import UsageError
from appliance.state import capsules, executions, holds, models, resources, rollouts, runs, versions
from appliance.state.db import Connection
from appliance.state.executions import Execution
from appliance.state.resources import Resource
from appliance.state.runs import FINAL_PHASES, Run

Key = tuple[str, str]
"""Uid of the dataset, and version."""
HOLDS = "version/"


def target(dataset: str, version: str) -> str:
    """Of a hold."""
    return f"{HOLDS}{dataset}/{version}"


def of_versions(db: Connection) -> Mapping[Key, list[str]]:
    """Version -> who needs it, in words for a person. Versions that nobody needs are not in it."""
    found: defaultdict[Key, list[str]] = defaultdict(list)
    for works in (_of_runs(db), _of_capsules(db), _of_notebooks(db), _of_models(db), _of_content(db), _of_people(db)):
        for key, who in works:
            if who not in found[key]:
                found[key].append(who)
    return found


def of_model(db: Connection, model_id: str) -> list[str]:
    """Deployments whose replicas are made with this model, and notebooks whose session sees it."""
    found = [f"deployment {row.name}" for row in resources.every(db, "deployment") if model_id in _pinned(db, row)]
    found += [f"notebook {row.name}" for row in _live(db) if model_id in row.status.get("models", {}).values()]
    return found + [_executed(one) for one in executions.unfinished(db) if model_id in one.models.values()]


def writers(db: Connection, dataset: str) -> list[str]:
    """Open runs of which a job is going to write a version of the dataset with this uid. In words for a person."""
    found = []
    for run in runs.unfinished(db):
        writing = {name for name, job in run.spec.get("jobs", {}).items() if dataset in _written(db, job)}
        for mark in runs.marks(db, run.id) if writing else ():
            # those of a matrix are NAME-1, NAME-2, ...
            if mark.phase not in FINAL_PHASES and writing & {mark.name, mark.name.rpartition("-")[0]}:
                found.append(f"run {run.workflow}.{run.number}, whose job {mark.name} writes to it")
                break
    return found


def _written(db: Connection, job: Mapping[str, Any]) -> Iterator[str]:
    """Uids of the datasets that a job of a spec writes to."""
    for output in (job.get("outputs") or {}).values():
        if not isinstance(output, Mapping) or output.get("type") != "dataset":
            continue
        inner = output.get("with")
        asked = inner if isinstance(inner, Mapping) else output
        try:
            resource = finding.find(db, parse_ref(str(asked.get("ref") or asked.get("id") or "")))
        except UsageError:
            continue
        if resource:
            yield resource.uid


def resolve(db: Connection, ref: str) -> Key | None:
    """What a reference with an explicit version or tag means; None for any other, also for one that means nothing."""
    try:
        parsed = parse_ref(ref)
    except UsageError:
        return None
    resource = finding.find(db, parsed)
    if resource is None or parsed.is_latest:
        return None
    if versions.find(db, resource.uid, parsed.version):
        return (resource.uid, parsed.version)
    tagged = versions.find_tag(db, resource.uid, parsed.version)
    return (resource.uid, tagged) if tagged else None


def _of_runs(db: Connection) -> Iterator[tuple[Key, str]]:
    for run in runs.unfinished(db):
        name = f"run {run.workflow}.{run.number}"
        for ref in _refs_of_spec(run):
            if key := resolve(db, ref):
                yield key, name
        for job in runs.jobs(db, run.id):
            named = {} if job.phase in FINAL_PHASES else {**job.pins, **job.inputs}
            if job.reused:  # made by another run; the next job may ask for it
                named = job.outputs
            for ref in _refs(named):
                if key := resolve(db, ref):
                    yield key, f"{name}, job {job.name}"
        for written in versions.of_run(db, run.id):
            yield (written.dataset, written.version), f"{name}, which has made it"


def _of_capsules(db: Connection) -> Iterator[tuple[Key, str]]:
    """What a job that failed was given, as long as somebody may look into it."""
    for capsule in capsules.every(db):
        for ref in _refs(capsule.inputs):
            if key := resolve(db, ref):
                run = runs.head(db, capsule.run)
                yield key, f"what is kept of run {run.workflow}.{run.number}, job {capsule.job}"


def _refs_of_spec(run: Run) -> Iterator[str]:
    """What the run was given, and what a job that has not begun will ask for by name."""
    yield from _refs(run.inputs)
    for job in run.spec.get("jobs", {}).values():
        for given in (job.get("inputs") or {}).values():
            if isinstance(given, Mapping) and given.get("type") == "dataset":
                inner = given.get("with")
                asked = inner if isinstance(inner, Mapping) else given
                yield str(asked.get("ref") or asked.get("id") or "")


def _refs(documents: Mapping[str, Any]) -> Iterator[str]:
    for given in documents.values():
        if isinstance(given, Mapping) and given.get("type") == "dataset":
            yield str(given.get("id") or given.get("ref") or "")
        elif isinstance(given, Mapping) and given.get("type") == "many":
            yield from _refs(given["of"])


def _of_notebooks(db: Connection) -> Iterator[tuple[Key, str]]:
    """What was resolved for the session is in its status before the session is made."""
    for row in _live(db):
        for mounted in row.status.get("datasets", {}).values():
            if key := resolve(db, str(mounted)):
                yield key, f"notebook {row.name}"
    for one in executions.unfinished(db):
        for mounted in one.datasets.values():
            if key := resolve(db, mounted):
                yield key, _executed(one)


def _executed(one: Execution) -> str:
    return f"run {one.number} of notebook {one.name}"


def _live(db: Connection) -> Iterator[Resource]:
    """Notebooks with a session, or about to have one."""
    for row in resources.every(db, "notebook"):
        if row.desired == "running" or row.status.get("container"):
            yield row


def _of_models(db: Connection) -> Iterator[tuple[Key, str]]:
    """A model that serves, or that a session sees, is whose it is too: removing the one must name the other."""
    served: defaultdict[str, list[str]] = defaultdict(list)
    for row in resources.every(db, "deployment"):
        for model_id in _pinned(db, row):
            served[model_id].append(f"deployment {row.name}")
    for row in _live(db):
        for model_id in row.status.get("models", {}).values():
            served[str(model_id)].append(f"notebook {row.name}")
    for one in executions.unfinished(db):
        for model_id in one.models.values():
            served[model_id].append(_executed(one))
    for model in models.every(db):
        yield (model.dataset, model.version), f"model {model.name} ({model.id})"
        for who in served[model.id]:
            yield (model.dataset, model.version), who


def _of_content(db: Connection) -> Iterator[tuple[Key, str]]:
    """Versions that a deployment's replicas have mounted."""
    for row in resources.every(db, "deployment"):
        for pin in _pins(db, row):
            for entry in pin.get("content", {}).values():
                if "dataset" in entry:
                    yield (entry["dataset"], entry["version"]), f"deployment {row.name}"


def _of_people(db: Connection) -> Iterator[tuple[Key, str]]:
    for held, rows in holds.every(db, HOLDS).items():
        dataset, _, version = held.removeprefix(HOLDS).partition("/")
        for row in rows:
            yield (dataset, version), f"{row.owner}: {row.reason}" if row.reason else row.owner


def _pinned(db: Connection, deployment: Resource) -> set[str]:
    """Ids of its models."""
    return {str(model_id) for pin in _pins(db, deployment) for model_id in pin.get("models", {}).values()}


def _pins(db: Connection, deployment: Resource) -> list[Mapping[str, Any]]:
    """Of what serves or is under way, and of what served before, where a rollback goes. None while it is off."""
    kept = rollouts.held(list(rollouts.every(db, deployment.uid)))
    if all(row.began is None or row.phase == "Superseded" for row in kept):
        return []
    return [row.pin for row in kept if row.pin]
