"""Who has written a dataset's version: followed back from run to run, so that no workflow starts itself for ever."""

from __future__ import annotations

from appliance.datasets.ref import dataset_uid, parse_ref
from appliance.errors import NotFound, UsageError
from appliance.state import resources, runs, versions
from appliance.state.db import Connection
from appliance.state.resources import Resource
from appliance.state.runs import Run

LONGEST_CHAIN = 1000


def own_doing(db: Connection, workflow: str, dataset: str, version: str) -> str:
    """Why a version must not start `workflow`: one of its own runs wrote it, or started the run that did.

    A chain of workflows that start each other ends where it would come back to its beginning.
    """
    through: list[str] = []
    for _ in range(LONGEST_CHAIN):
        found = versions.find(db, dataset, version)
        run = _run(db, found.run) if found else None
        while run is not None and run.workflow != workflow and run.cause != "dataset" and run.parent:
            run = _run(db, run.parent)
        if run is None:
            return ""
        if run.workflow == workflow:
            by = f", by way of {' and '.join(reversed(through))}" if through else ""
            return f"is the work of {workflow}.{run.number} itself{by}; it would start itself for ever"
        through.append(f"{run.workflow}.{run.number}")
        if run.cause != "dataset":
            return ""
        try:
            ref = parse_ref(run.source)
        except UsageError:
            return ""
        before = dataset_of(db, ref.name)
        if before is None:
            return ""
        dataset, version = before.uid, ref.version
    return f"is the last of a chain of {LONGEST_CHAIN} runs that started each other"


def _run(db: Connection, run_id: str) -> Run | None:
    if not run_id:
        return None
    try:
        return runs.get(db, run_id)
    except NotFound:
        return None


def dataset_of(db: Connection, name: str) -> Resource | None:
    """By name or id."""
    if found := resources.find(db, "dataset", name):
        return found
    uid = dataset_uid(name)
    found = resources.find_uid(db, uid) if uid else None
    return found if found and found.kind == "dataset" else None
