"""A deploy@v1 job that is canceled, or whose time is over, leaves the deployment as it was declared before.

Who stops a roll-out does not want it to take the traffic an hour later. So what the job found before its first attempt
is declared again, document, source and switch, which costs nothing while its replicas serve. A deployment that the job
itself has made is stopped; its row, its events and the logs stay, and the next deploy@v1 starts it again. Where
somebody else has touched it since, nothing is taken back. What another job had declared and has given up is no place to
go back to: then it is what that one found. A generation that fails is another matter: it stays declared, since whoever
looks into it needs it, and takes no traffic; where nothing served before it, it takes over once it is ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from appliance.apply import withdraw
from appliance.errors import NotFound
from appliance.spec.models import DeployAction
from appliance.state import events, resources, runs
from appliance.state.db import Connection
from appliance.state.resources import Json, Resource
from appliance.state.runs import Job, Run
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions, begun
from appliance.workflows.steps.begun import NOTHING, Before, Begun
from appliance.workflows.steps.deploying import KIND, is_ready

Became = Literal["stays", "stopped", "restored"]


def take_back(rooms: Rooms, run: Run, job: Job, action: DeployAction, mine: Begun) -> str | None:
    """What became of the deployment, in words; None: its generation was ready before, and stays. May be repeated."""
    if mine.became is not None:
        return mine.became
    name, now = action.name, rooms.clock()
    with rooms.db.write() as db:
        found = resources.find_uid(db, mine.uid)
        if found is None or found.deleting:
            return ""
        if is_ready(found, mine.generation):
            return None
        became, said = _restore(db, found, mine, begun.source_of(run, job), now)
        given_up = str(mine.given_up(said))
        runs.move_job(db, run.id, job.name, job.phase, job.phase, message=job.message, begun=given_up)
        if became != "stays":
            told = f"{actions.subject(run)}/{job.name} ended before generation {mine.generation} was ready: {said}"
            events.record(db, KIND, name, "TakenBack", told, now=now, level="warning")
    if became != "stays":
        rooms.hint(KIND, mine.uid)
    return said


def _restore(db: Connection, found: Resource, mine: Begun, source: str, now: float) -> tuple[Became, str]:
    name = f"deployment {found.name}"
    documents = {one.generation: one.spec for one in resources.revisions(db, found.uid)}
    if found.source != source or found.desired != "running" or found.spec != documents.get(mine.generation):
        return "stays", f"{name} was changed by somebody else since, and stays as it is"
    before = _before(db, found, mine, documents)
    if before == NOTHING:
        withdraw(db, KIND, found.name, source=source, now=now)
        return "stopped", f"{name}, which this job has made, is stopped"
    if before is None or before.generation not in documents:
        return "stays", f"{name} stays as it is: what was declared before is not known"
    resources.put(db, KIND, found.name, documents[before.generation], source=before.source, now=now)
    if before.desired != found.desired:
        resources.set_desired(db, found.uid, before.desired, now=now)
        return "stopped", f"{name} is stopped again, as it was before"
    if documents[before.generation] == found.spec:
        return "stays", f"{name} stays as it was declared before, and may yet become ready"
    return (
        "restored",
        f"{name} is as it was in generation {before.generation}, and generation {mine.generation} is given up",
    )


def _before(db: Connection, found: Resource, mine: Begun, documents: Mapping[int, Json]) -> Before | None:
    """What to go back to: what the job found, or where that was given up by the job that declared it, what that found.

    What is whole serves, whoever has given it up, and is never gone past.
    """
    whole = int(found.status.get("generation_ready", 0))
    before, seen = mine.before, set[str]()
    while before and before.source not in seen and before.generation != whole:
        seen.add(before.source)
        other = _begun_as(db, before.source)
        if other is None or not other.over or other.uid != found.uid:
            break
        if documents.get(other.generation) != documents.get(before.generation):
            break
        before = other.before
    return before


def _begun_as(db: Connection, source: str) -> Begun | None:
    """What the job that declares as `source` has begun last; None: it is no job's, or that is gone."""
    run, _, job = source.removeprefix("run:").partition("/")
    workflow, _, number = run.rpartition(".")
    if not source.startswith("run:") or not number.isdecimal():
        return None
    try:
        row = runs.job(db, runs.by_number(db, workflow, int(number)).id, job)
    except NotFound:
        return None
    return begun.read(row.begun) if row.begun else None
