"""The revisions of a deployment: what was declared, what its replicas are made of, and the way back.

Each generation has a row in `rollouts`. A rollback is a new generation with an old one's spec and an old one's pin: the
very image and model versions. To begin afresh is a new generation with the same spec, looked up anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.errors import Conflict, NotFound
from appliance.spec.digest import made_of
from appliance.spec.load import parse
from appliance.spec.models import Deployment, Kind
from appliance.state import events, resources, rollouts
from appliance.state.db import Connection
from appliance.state.resources import Resource
from appliance.state.rollouts import OPEN, Rollout

KIND: Kind = "deployment"


def declare(db: Connection, deployment: Resource, *, now: float, cause: str = "applied") -> Rollout:
    """The row of the newest generation; made where there is none yet.

    Where the spec asks for the same replicas as the revision that serves, or that is under way, it goes on with those
    and with what they were made from.
    """
    if found := rollouts.find(db, deployment.uid, deployment.generation):
        return found
    wanted = made_of(parse_spec(deployment.name, deployment.spec))
    digest, pin = f"{wanted}-{deployment.generation}", None
    if (same := _same(db, deployment, wanted)) is not None:
        digest, pin = same.digest, same.pin
    rollouts.add(db, deployment.uid, deployment.generation, digest=digest, cause=cause, now=now, pin=pin)
    return _row(db, deployment)


def restart(db: Connection, deployment: Resource, *, source: str, now: float) -> Resource:
    """The same spec as a new generation, of which nothing that was made or looked up before is a part."""
    wanted = made_of(parse_spec(deployment.name, deployment.spec))
    resources.renew(db, deployment.uid, source=source, now=now)
    renewed = resources.get(db, KIND, deployment.name)
    digest = f"{wanted}-{renewed.generation}"
    rollouts.add(db, renewed.uid, renewed.generation, digest=digest, cause="restarted", now=now)
    message = f"asked by {source}, generation {renewed.generation}"
    events.record(db, KIND, renewed.name, "StartedAfresh", message, now=now)
    return renewed


def roll_back(db: Connection, deployment: Resource, to: int | None, *, source: str, now: float) -> Resource:
    """Generation `to`, or the last one that served before this, as a new generation: its spec, image and models.

    How many replicas there are stays as it is now. Raises NotFound, Conflict.
    """
    target = _target(db, deployment, to)
    spec = {one.generation: one.spec for one in resources.revisions(db, deployment.uid)}.get(target.generation)
    if spec is None:
        raise NotFound(f"the spec of generation {target.generation} is not kept any more", hint=_history(deployment))
    if target.pin is None:
        raise Conflict(f"generation {target.generation} never came to know its image", hint=_history(deployment))
    document = _with_scale_of(deployment.spec, spec)
    resources.put(db, KIND, deployment.name, document, source=deployment.source, now=now)
    found = resources.get(db, KIND, deployment.name)
    if found.generation == deployment.generation:  # the very same document: what differs is what it stands for
        resources.renew(db, found.uid, source=deployment.source, now=now)
        found = resources.get(db, KIND, deployment.name)
    rollouts.add(
        db,
        found.uid,
        found.generation,
        digest=target.digest,
        cause="rolled back",
        now=now,
        copies=target.generation,
        pin=target.pin,
    )
    message = f"to generation {target.generation}, asked by {source}, as generation {found.generation}"
    events.record(db, KIND, found.name, "RolledBack", message, now=now)
    return found


def parse_spec(name: str, document: Mapping[str, Any]) -> Deployment:
    spec = parse(KIND, name, document)
    assert isinstance(spec, Deployment)
    return spec


def serving(db: Connection, uid: str) -> Rollout | None:
    return next((row for row in rollouts.every(db, uid) if row.phase == "Serving"), None)


def _same(db: Connection, deployment: Resource, wanted: str) -> Rollout | None:
    """The revision that serves, or the newest that is under way, where its replicas are what is wanted."""
    rows = list(rollouts.every(db, deployment.uid))
    candidates = [row for row in rows[:1] if row.phase in OPEN and row.phase != "Failed"]
    candidates += [row for row in rows if row.phase == "Serving"]
    specs = {one.generation: one.spec for one in resources.revisions(db, deployment.uid)}
    for row in candidates:
        if row.generation in specs and made_of(parse_spec(deployment.name, specs[row.generation])) == wanted:
            return row
    return None


def _target(db: Connection, deployment: Resource, to: int | None) -> Rollout:
    rows = list(rollouts.every(db, deployment.uid))
    if to is None:
        now_serving = serving(db, deployment.uid)
        before = [
            row for row in rows if row.ready is not None and (now_serving is None or row.digest != now_serving.digest)
        ]
        if not before:
            raise Conflict("no earlier revision has ever served", hint=_history(deployment))
        return before[0]
    found = next((row for row in rows if row.generation == to), None)
    if found is None:
        raise NotFound(f"{KIND} {deployment.name!r} has no generation {to}", hint=_history(deployment))
    return found


def _with_scale_of(now: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """The document `then`, with as many replicas as `now` says."""
    document = dict(then)
    for key in ("replicas", "autoscaling"):
        inside = {name: value for name, value in dict(document.get("resources") or {}).items() if name != key}
        if key in (now.get("resources") or {}):
            inside[key] = now["resources"][key]
        if inside or "resources" in document:
            document["resources"] = inside
    return document


def _row(db: Connection, deployment: Resource) -> Rollout:
    found = rollouts.find(db, deployment.uid, deployment.generation)
    assert found is not None
    return found


def _history(deployment: Resource) -> str:
    return f"`appliance deployment history {deployment.name}` lists its revisions"
