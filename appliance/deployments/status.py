"""The deployment's status row: what is shown of it and what must outlive the daemon, written with its events.

`stable`, `pins` and `since` are the controller's memory: the last revision that was ready as a whole, the image and the
model versions that each revision's replicas are made from, and when the newest generation could begin. `afresh` is the
generation that was last asked to begin from nothing (see `apply.start_afresh`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from appliance.apply import AFRESH
from appliance.deployments.plan import Plan, Replica, Revision, describe
from appliance.deployments.replicas import End, port_of
from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.state import events, resources
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource

KIND = "deployment"
_LEVELS: Mapping[str, events.Level] = {"Failed": "error", "Degraded": "error"}


def stable_revision(status: Mapping[str, Any]) -> Revision | None:
    found = status.get("stable")
    return Revision(found["generation"], found["digest"], found["replicas"]) if found else None


def replica_digest(deployment: Resource, made_of: str) -> str:
    """What the replicas of the newest generation carry, where `made_of` is the digest of its spec.

    A generation that begins from nothing has a digest of its own, so that its image is looked up again and none of the
    replicas that failed is one of its own. Those after it with the same spec go on with that.
    """
    status = deployment.status
    if status.get(AFRESH) == deployment.generation:
        return f"{made_of}-{deployment.generation}"
    stable = stable_revision(status)
    known = [*status.get("pins", {}), *([stable.digest] if stable else [])]
    return max((one for one in known if _parted(one)[0] == made_of), key=_parted, default=made_of)


def _parted(digest: str) -> tuple[str, int]:
    made_of, _, generation = digest.partition("-")
    return made_of, int(generation or 0)


def describe_all(
    before: Mapping[str, Any],
    plan: Plan,
    wanted: Revision,
    seen: Mapping[Replica, Container],
    *,
    now: float,
) -> dict[str, Any]:
    stable = wanted if plan.complete else stable_revision(before)
    digests = {revision.digest for revision in (stable, wanted) if revision}
    return {
        **before,
        "replicas": [_replica(replica, seen[replica], now) for replica in sorted(_places(seen), key=_order)],
        "ready": sum(replica.able for replica in plan.serve),
        "since": before.get("since", {}) if wanted.replicas else {},
        "generation_ready": stable.generation if stable else 0,
        "stable": _revision(stable) if stable else None,
        "pins": {digest: pin for digest, pin in before.get("pins", {}).items() if digest in digests},
    }


def write(
    db: Database,
    deployment: Resource,
    *,
    phase: str,
    message: str,
    document: Mapping[str, Any],
    ended: Sequence[tuple[Replica, End]] = (),
    words: str = "",
    now: float,
) -> bool:
    """Store what changed. Another phase is an event, with a log's last `words`, and so is each end of a replica.

    False: the spec has changed meanwhile.
    """
    shown = (deployment.phase, deployment.message, deployment.status, deployment.observed)
    if not ended and shown == (phase, message, document, deployment.generation):
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
        if written and phase != deployment.phase:
            level = _LEVELS.get(phase, "info")
            text = f"{message}\n{words}" if words else message
            events.record(transaction, KIND, deployment.name, phase, text, now=now, level=level)
    return written


def pin(
    db: Database,
    deployment: Resource,
    wanted: Revision,
    made_of: Mapping[str, Any],
    warnings: Sequence[str],
    *,
    now: float,
) -> None:
    """The wanted revision can begin: store what its replicas are made of, and since when."""
    document = {
        **deployment.status,
        "pins": {**deployment.status.get("pins", {}), wanted.digest: made_of},
        "since": {"generation": wanted.generation, "at": now},
        "warnings": list(warnings),
    }
    phase = "Updating" if document.get("ready") else "Preparing"
    message = f"generation {wanted.generation} begins"
    with db.write() as transaction:
        if not write(db, deployment, phase=phase, message=message, document=document, now=now):
            return
        for warning in warnings:
            events.record(transaction, KIND, deployment.name, "NotDone", warning, now=now, level="warning")


def unpin(db: Database, deployment: Resource, revision: Revision) -> None:
    pins = {digest: pin for digest, pin in deployment.status["pins"].items() if digest != revision.digest}
    with db.write() as transaction:
        resources.set_status(
            transaction,
            deployment.uid,
            generation=deployment.generation,
            phase=deployment.phase,
            message=deployment.message,
            status={**deployment.status, "pins": pins, "since": {}},
        )


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
        "message": describe(replica, now),
        "restarts": replica.restarts,
        "container": replica.id,
        "ready": replica.able,
        "started": replica.started or None,
    }


def _places(seen: Collection[Replica]) -> list[Replica]:
    """Without those that have ended and whose successor is made already: they are only not removed yet."""
    last: dict[tuple[str, int], int] = {}
    for one in seen:
        place = (one.digest, one.index)
        last[place] = max(one.restarts, last.get(place, 0))
    return [one for one in seen if one.state != "ended" or one.restarts == last[one.digest, one.index]]


def _revision(revision: Revision) -> dict[str, Any]:
    return {"generation": revision.generation, "digest": revision.digest, "replicas": revision.replicas}


def _order(replica: Replica) -> tuple[int, int, int]:
    return (replica.index, replica.generation, replica.restarts)
