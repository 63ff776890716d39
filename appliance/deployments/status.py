"""The deployment's status row: what is shown of it and what must outlive the daemon, written with its events.

`generation_ready` is the last generation that was ready as a whole. What the controller remembers of its revisions is
in `rollouts`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from appliance.deployments.plan import Plan, Replica, Revision, describe, restart_at
from appliance.deployments.progress import Move
from appliance.deployments.replicas import End, port_of
from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.state import events, resources, rollouts
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource
from appliance.state.rollouts import OPEN, Rollout

KIND = "deployment"
_FORMER = {"stable", "pins", "since", "afresh", "warnings"}
"""Keys of a status document that an earlier version wrote."""
_ENDED = ("Failed", "Undone")
_LEVELS: Mapping[str, events.Level] = {"Failed": "error", "Degraded": "error"}


def describe_all(
    before: Mapping[str, Any],
    plan: Plan,
    wanted: Revision,
    seen: Mapping[Replica, Container],
    *,
    undone: Rollout | None = None,
    now: float,
) -> dict[str, Any]:
    kept = {key: value for key, value in before.items() if key not in (*_FORMER, "undone")}
    if undone:
        kept["undone"] = {"generation": undone.generation, "message": undone.message}
    return {
        **kept,
        "replicas": [_replica(replica, seen[replica], now) for replica in sorted(_places(seen), key=_order)],
        "ready": sum(replica.able for replica in plan.serve),
        "generation_ready": wanted.generation if plan.complete else before.get("generation_ready", 0),
    }


def write(
    db: Database,
    deployment: Resource,
    *,
    phase: str,
    message: str,
    document: Mapping[str, Any],
    moves: Sequence[Move] = (),
    ended: Sequence[tuple[Replica, End]] = (),
    words: str = "",
    now: float,
) -> bool:
    """Store what changed. Another phase is an event, with a log's last `words`, and so is each end of a replica.

    False: the spec has changed meanwhile.
    """
    shown = (deployment.phase, deployment.message, deployment.status, deployment.observed)
    if not ended and not moves and shown == (phase, message, document, deployment.generation):
        return True
    with db.write() as transaction:
        for replica, end in ended:
            _record_end(transaction, deployment, replica, end, now)
        written = resources.set_status(
            transaction,
            deployment.uid,
            generation=deployment.generation,
            phase=phase,
            message=message,
            status=document,
        )
        for move in moves if written else ():
            _move(transaction, deployment, move, words if move.phase in _ENDED else "", now)
        if written and phase != deployment.phase:
            level = _LEVELS.get(phase, "info")
            text = f"{message}\n{words}" if words else message
            events.record(transaction, KIND, deployment.name, phase, text, now=now, level=level)
    return written


def begin(
    db: Database,
    deployment: Resource,
    wanted: Revision,
    pin: Mapping[str, Any],
    *,
    swap: str = "",
    now: float,
) -> None:
    """The wanted revision can begin: store what its replicas are made of, and since when.

    `swap`: why it has no room beside those that run, and begins when they are gone; empty: it begins beside them.
    """
    phase = "Updating" if deployment.status.get("ready") else "Preparing"
    message = f"generation {wanted.generation} begins"
    with db.write() as transaction:
        if not write(db, deployment, phase=phase, message=message, document=deployment.status, now=now):
            return
        rollouts.set_pin(transaction, deployment.uid, wanted.generation, pin, began=now)
        row = rollouts.find(transaction, deployment.uid, wanted.generation)
        if row and row.phase in OPEN:
            phase_now: rollouts.Phase = "Swapping" if swap else "Rolling"
            rollouts.set_phase(transaction, deployment.uid, wanted.generation, phase_now, now=now, message=swap)
            if swap:
                text = f"generation {wanted.generation} begins when the others have left, and requests wait: {swap}"
                events.record(transaction, KIND, deployment.name, "Swapping", text, now=now)


def unpin(db: Database, deployment: Resource, revision: Revision, why: str, *, now: float) -> None:
    """What its replicas were made of is gone: it has to be looked up again, and what is found may be another."""
    message = f"generation {revision.generation} is looked up anew: {why}"
    with db.write() as transaction:
        row = rollouts.find(transaction, deployment.uid, revision.generation)
        if row is None or row.pin is None:
            return  # said of another replica already
        events.record(transaction, KIND, deployment.name, "LookedUpAnew", message, now=now, level="warning")
        rollouts.set_pin(transaction, deployment.uid, revision.generation, None, began=None)


def write_problem(db: Database, deployment: Resource, error: ApplianceError, *, now: float) -> None:
    """A pass failed and will be tried again. The event comes once for each different problem."""
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    if message == deployment.message:
        return
    # what was said of the generation before must not be read as true of this one
    phase = deployment.phase
    if deployment.observed != deployment.generation:
        phase = "Degraded" if deployment.status.get("ready") else "Failed"
    with db.write() as transaction:
        resources.set_status(
            transaction, deployment.uid, generation=deployment.generation, phase=phase, message=message
        )
        events.record(transaction, KIND, deployment.name, "Problem", message, now=now, level="error")


def record(
    db: Database, deployment: Resource, reason: str, message: str, *, now: float, level: events.Level = "warning"
) -> None:
    with db.write() as transaction:
        events.record(transaction, KIND, deployment.name, reason, message, now=now, level=level)


def _move(db: Connection, deployment: Resource, move: Move, words: str, now: float) -> None:
    rollouts.set_phase(db, deployment.uid, move.generation, move.phase, now=now, message=move.message, words=words)
    if move.rest:
        rollouts.rest(db, deployment.uid, move.generation)
    if move.phase == "Undone":
        text = f"generation {move.generation} was undone: {move.message}" + (f"\n{words}" if words else "")
        events.record(db, KIND, deployment.name, "Undone", text, now=now, level="error")


def _record_end(db: Connection, deployment: Resource, replica: Replica, end: End, now: float) -> None:
    message = f"replica {replica.part}: {end.why}" + (f"\n{end.tail}" if end.tail else "")
    events.record(db, KIND, deployment.name, "ReplicaEnded", message, now=now, level="warning")


def _replica(replica: Replica, container: Container, now: float) -> dict[str, Any]:
    state: str = "starting" if replica.state == "created" else replica.state
    if replica.state == "running":
        state = "ready" if replica.able else "unhealthy" if replica.sick else "starting"
    return {
        "id": replica.part,
        "state": state,
        "port": port_of(container),
        "generation": replica.generation,
        "message": replica.ending if replica.state == "ended" else describe(replica, now),
        "restarts": replica.restarts,
        "container": replica.id,
        "ready": replica.able,
        "started": replica.started or None,
        "restart_at": restart_at(replica) if replica.state == "ended" else None,
    }


def _places(seen: Collection[Replica]) -> list[Replica]:
    """Without those that have ended and whose successor is made already: they are only not removed yet."""
    last: dict[tuple[str, int], int] = {}
    for one in seen:
        place = (one.digest, one.index)
        last[place] = max(one.restarts, last.get(place, 0))
    return [one for one in seen if one.state != "ended" or one.restarts == last[one.digest, one.index]]


def _order(replica: Replica) -> tuple[int, int, int]:
    return (replica.index, replica.generation, replica.restarts)
