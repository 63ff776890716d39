"""Generations of a deployment: declared, begun afresh, scaled, and brought back.

Each generation has a row in `rollouts`. A rollback is a new generation with an old one's spec and an old one's pin: the
very image and model versions. To begin afresh is a new generation with the same spec, looked up anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.errors import Conflict, NotFound, UsageError
from appliance.spec.digest import made_of
from appliance.spec.load import parse
from appliance.spec.models import Deployment, Kind
from appliance.state import events, models, resources, rollouts
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
    spec = parse_spec(deployment.name, deployment.spec)
    wanted = made_of(spec)
    digest, pin = f"{wanted}-{deployment.generation}", None
    if (same := _same(db, deployment, wanted)) is not None and not _lacks_content(spec, same):
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


def scale(db: Connection, deployment: Resource, replicas: int, *, source: str, now: float) -> Resource:
    """Another number of replicas as a new generation, which replaces none of those that run.

    Raises UsageError, Conflict, and SpecError where the spec cannot be read by this version.
    """
    where, spec = f"{KIND} {deployment.name}", parse_spec(deployment.name, deployment.spec)
    if replicas < 0:
        raise UsageError(f"{replicas} is not a number of replicas", where=where, hint="0 stops it; 1 and more serve")
    if spec.autoscaling and replicas > spec.autoscaling.most:
        raise UsageError(
            f"{replicas} replicas are more than its autoscaling allows, {spec.autoscaling.most}",
            where=where,
            hint="raise `resources.autoscaling.maxReplicas` in its spec and apply it",
        )
    row = declare(db, deployment, now=now)
    if row.phase == "Undone":
        good = serving(db, deployment.uid)
        to = f" --to {good.generation}" if good else ""
        raise Conflict(
            f"generation {row.generation} was undone: to scale its spec would begin it again",
            where=where,
            hint=f"`appliance deployment rollback {deployment.name}{to}` first, then scale",
        )
    document = dict(deployment.spec)
    document["resources"] = {**(document.get("resources") or {}), "replicas": replicas}
    parse_spec(deployment.name, document)
    found, change = resources.put(db, KIND, deployment.name, document, source=deployment.source, now=now)
    if change != "unchanged":
        declare(db, found, now=now, cause="scaled")
        message = f"from {spec.replicas} to {replicas} replicas, asked by {source}, as generation {found.generation}"
        events.record(db, KIND, found.name, "Scaled", message, now=now)
    return found


def roll_back(db: Connection, deployment: Resource, to: int | None, *, source: str, now: float) -> Resource:
    """Generation `to`, or the last one that served before this, as a new generation: its spec, image and models.

    Where another than the declared one serves, because that one is under way or was undone, it is the one that serves.
    How many replicas there are, and who may call, stays as it is now. Raises NotFound, Conflict, and
    SpecError where that makes no spec that this version can read.
    """
    target = _target(db, deployment, to)
    specs = {one.generation: one.spec for one in resources.revisions(db, deployment.uid)}
    spec = specs.get(target.generation)
    if spec is None:
        raise NotFound(f"the spec of generation {target.generation} is not kept any more", hint=_history(deployment))
    if target.pin is None:
        raise Conflict(f"generation {target.generation} never came to know its image", hint=_history(deployment))
    gone = [model for model in target.pin.get("models", {}).values() if models.find(db, model) is None]
    if gone:
        raise Conflict(
            f"generation {target.generation} was made with the model {gone[0]}, which is gone",
            hint=f"{_history(deployment)}; or apply a spec with a model that is there",
        )
    another = _another_serves(db, deployment)
    scaled = specs.get(another.generation, deployment.spec) if another else deployment.spec
    document = _with_access_of(deployment.spec, _with_scale_of(scaled, spec))
    parse_spec(deployment.name, document)
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


def _lacks_content(spec: Deployment, row: Rollout) -> bool:
    """It was made by a version that fetched none of what the spec names."""
    return bool(spec.integrations or spec.repositories) and row.pin is not None and "content" not in row.pin


def _target(db: Connection, deployment: Resource, to: int | None) -> Rollout:
    rows = list(rollouts.every(db, deployment.uid))
    if to is None:
        if another := _another_serves(db, deployment):
            return another
        before = rollouts.before(rows)
        if before is None:
            raise Conflict("no earlier revision has ever served", hint=_history(deployment))
        return _running(db, deployment, [row for row in rows if row.digest == before.digest]) or before
    found = next((row for row in rows if row.generation == to), None)
    if found is None:
        raise NotFound(f"{KIND} {deployment.name!r} has no generation {to}", hint=_history(deployment))
    return found


def _another_serves(db: Connection, deployment: Resource) -> Rollout | None:
    """What serves, where that is made of something else than what is declared."""
    newest, found = next(rollouts.every(db, deployment.uid), None), serving(db, deployment.uid)
    return found if newest and found and newest.digest != found.digest else None


def _running(db: Connection, deployment: Resource, rows: list[Rollout]) -> Rollout | None:
    """Of rows that are made of the very same: the newest that is not switched off."""
    specs = {one.generation: one.spec for one in resources.revisions(db, deployment.uid)}
    found = (row for row in rows if row.pin is not None and row.generation in specs)
    return next((row for row in found if parse_spec(deployment.name, specs[row.generation]).enabled), None)


def _with_scale_of(now: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """The document `then`, with as many replicas as `now` says."""
    document = dict(then)
    inside, declared = dict(document.get("resources") or {}), now.get("resources") or {}
    for key in ("replicas", "autoscaling"):
        if key in declared:
            inside[key] = declared[key]  # in its place: a document that is equal stays equal
        else:
            inside.pop(key, None)
    if inside or "resources" in document:
        document["resources"] = inside
    return document


def _with_access_of(now: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """The document `then`, which lets in whom `now` does: a way back opens no door, and no key that was taken away."""
    document = dict(then)
    inside, declared = dict(document.get("endpoint") or {}), now.get("endpoint") or {}
    for there, key, here in ((inside, "keys", declared), (document, "basicAuthKey", now)):
        if key in here:
            there[key] = here[key]
        else:
            there.pop(key, None)
    if inside:
        document["endpoint"] = inside
    else:
        document.pop("endpoint", None)
    return document


def _row(db: Connection, deployment: Resource) -> Rollout:
    found = rollouts.find(db, deployment.uid, deployment.generation)
    assert found is not None
    return found


def _history(deployment: Resource) -> str:
    return f"`appliance deployment history {deployment.name}` lists its revisions"
