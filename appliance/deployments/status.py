"""The deployment's status row: what is shown of it and what must outlive the daemon, written with its events.

`generation_ready` is the last generation that was ready as a whole; `whole` says whether the wanted one is now. What
the controller remembers of its revisions is in `rollouts`. `undo_at` is when the wanted one is given up, unix seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from appliance.deployments.facts import Plan, Replica, Revision
from appliance.deployments.plan import describe, restart_at
from appliance.deployments.progress import Move
from appliance.deployments.replicas import End, port_of
from appliance.deployments.serving import short
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
    leaving: Mapping[Replica, float] = MappingProxyType({}),
    *,
    silent: Mapping[str, str] = MappingProxyType({}),
    undone: Rollout | None = None,
    now: float,
) -> dict[str, Any]:
    """`leaving`: those on their way out, and when their requests are cut at the latest. `silent`: by the short id of
    its container, what is told of a replica that ends no request."""
    kept = {key: value for key, value in before.items() if key not in (*_FORMER, "undone")}
    stopped = {row["container"]: row.get("stopped") for row in before.get("replicas", ())}
    if undone:
        kept["undone"] = {"generation": undone.generation, "message": undone.message}
    return {
        **kept,
        "replicas": [
            _replica(
                replica,
                seen[replica],
                now,
                stopped=stopped.get(replica.id) if replica.state == "ended" else None,
                said=silent.get(short(seen[replica]), ""),
            )
            for replica in sorted(_places(seen), key=_order)
        ]
        + [_way_out(replica, leaving[replica]) for replica in sorted(leaving, key=_order)],
        "ready": sum(replica.able for replica in plan.serve),
        "generation_ready": wanted.generation if plan.complete else before.get("generation_ready", 0),
        "whole": plan.complete,
        "undo_at": plan.undo_at,
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
            rollouts.set_phase(transaction, deployment.uid, wanted.generation, "Rolling", now=now)
            if swap:
                _swap(transaction, deployment, wanted, swap, now)


def swap_after_all(db: Database, deployment: Resource, wanted: Revision, why: str, *, now: float) -> None:
    """It began beside the others and has no room there: it begins when they are gone."""
    with db.write() as transaction:
        _swap(transaction, deployment, wanted, why, now)


def _swap(transaction: Connection, deployment: Resource, wanted: Revision, why: str, now: float) -> None:
    rollouts.set_phase(transaction, deployment.uid, wanted.generation, "Swapping", now=now, message=why)
    text = f"generation {wanted.generation} begins when the others have left, and requests wait: {why}"
    events.record(transaction, KIND, deployment.name, "Swapping", text, now=now)


def begin_to_ask(db: Database, deployment: Resource, revision: Revision, pin: Mapping[str, Any], *, now: float) -> None:
    """An earlier version let everybody call a revision whose spec asks for a password or a key: no more."""
    message = (
        f"generation {revision.generation} was made by an earlier version, which let everybody call it: from now on"
        " only who has its password or key (`basicAuthKey`, `endpoint.keys`); others get 401"
    )
    with db.write() as transaction:
        row = rollouts.find(transaction, deployment.uid, revision.generation)
        began = row.began if row else None
        rollouts.set_pin(transaction, deployment.uid, revision.generation, pin, began=began)
        events.record(transaction, KIND, deployment.name, "KeysAsked", message, now=now, level="warning")


def unpin(db: Database, deployment: Resource, revision: Revision, why: str, *, now: float) -> None:
    """What its replicas were made of is gone: it has to be looked up again, and what is found may be another."""
    message = f"generation {revision.generation} is looked up anew: {why}"
    with db.write() as transaction:
        row = rollouts.find(transaction, deployment.uid, revision.generation)
        if row is None or row.pin is None:
            return  # said of another replica already
        events.record(transaction, KIND, deployment.name, "LookedUpAnew", message, now=now, level="warning")
        rollouts.set_pin(transaction, deployment.uid, revision.generation, None, began=None)


def write_problem(db: Database, deployment: Resource, error: ApplianceError, *, before: str, now: float) -> str:
    """A pass failed and will be tried again. The problem in words; it is an event unless it was so `before` too."""
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    if message == deployment.message:
        return message
    # what was said of the generation before must not be read as true of this one
    phase = deployment.phase
    if deployment.observed != deployment.generation:
        phase = "Degraded" if deployment.status.get("ready") else "Failed"
    with db.write() as transaction:
        resources.set_status(
            transaction, deployment.uid, generation=deployment.generation, phase=phase, message=message
        )
        if message != before:
            events.record(transaction, KIND, deployment.name, "Problem", message, now=now, level="error")
    return message


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
    level: events.Level = "info" if end.interrupted else "warning"
    events.record(db, KIND, deployment.name, "ReplicaEnded", message, now=now, level=level)


def _replica(replica: Replica, container: Container, now: float, *, stopped: float | None, said: str) -> dict[str, Any]:
    state: str = "starting" if replica.state == "created" else replica.state
    if replica.state == "running":
        state = "ready" if replica.able else "unhealthy" if replica.sick else "starting"
    return {
        "id": replica.part,
        "state": state,
        "port": port_of(container),
        "generation": replica.generation,
        "message": replica.ending if replica.state == "ended" else describe(replica, now) or said,
        "restarts": replica.failures,
        "container": replica.id,
        "ready": replica.able,
        "started": replica.started or None,
        "restart_at": restart_at(replica) if replica.state == "ended" and not replica.interrupted else None,
        "stopped": stopped,
    }


def _way_out(replica: Replica, until: float) -> dict[str, Any]:
    return {
        "id": replica.part,
        "state": "leaving",
        "port": None,
        "generation": replica.generation,
        "message": "",
        "restarts": replica.failures,
        "container": replica.id,
        "ready": False,
        "started": replica.started or None,
        "restart_at": None,
        "stopped": None,
        "leaves_by": until,
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
