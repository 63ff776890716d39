"""What is told of a deployment beside its row: how far its rollout is, its scale, what waits at the front door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appliance import revisions, wire
from appliance.api.parts import Parts
from appliance.errors import ApplianceError, SpecError
from appliance.router.meters import Meter
from appliance.scheduler.view import Gpus
from appliance.spec.load import Loaded
from appliance.spec.models import Deployment
from appliance.state import models, resources, rollouts, scales
from appliance.state.db import Connection
from appliance.state.resources import Resource

log = logging.getLogger(__name__)

METERS_S = 2.0
"""So long the front door may take to tell; a listing goes without."""
SHORT_ID = 12
"""Characters of a container's id that name it at the front door."""


async def tell(parts: Parts, deployments: Sequence[Resource], items: Sequence[wire.Item]) -> None:
    """Add it to the items of these deployments."""
    found = await meters(parts) if items else None
    for deployment, item in zip(deployments, items, strict=True):
        rows = list(rollouts.every(parts.db.read, deployment.uid))
        scale = scales.find(parts.db.read, deployment.uid)
        meter = None if found is None else found.get(prefix(deployment))
        item["status"] = status(item["status"], rows, scale, meter, now=parts.clock())


def warnings(db: Connection, spec: Loaded, gpus: Gpus | None = None) -> list[str]:
    """Of a deployment that was applied: what it needs and is not there, and that it did not come to serve before."""
    found = resources.find(db, revisions.KIND, spec.name)
    rows = [] if found is None else list(rollouts.every(db, found.uid))
    return [*revisions.preview(db, spec).missing, *given(spec, gpus), *undone(spec.name, rows)]


def plan(db: Connection, spec: Loaded, gpus: Gpus | None = None) -> list[str]:
    """What would become of a deployment that is applied, a sentence each."""
    return [*revisions.preview(db, spec).sentences, *given(spec, gpus)]


def given(spec: Loaded, gpus: Gpus | None) -> list[str]:
    """What its replicas get in place of what their machine type names, where that is something else."""
    name = spec.spec.machine if isinstance(spec.spec, Deployment) else ""
    said = gpus.instead(name) if gpus and name else ""
    return [said] if said else []


def undone(name: str, rows: Sequence[rollouts.Rollout]) -> list[str]:
    """`rows` newest first. Pure."""
    if not rows or rows[0].phase != "Undone":
        return []
    serving = next((row.generation for row in rows if row.phase == "Serving"), None)
    why = rows[0].message.partition("\n")[0]
    told = [
        f"generation {rows[0].generation} was undone{f': {why}' if why else ''}",
        *([] if serving is None else [f"generation {serving} serves"]),
        f"`appliance deployment restart {name}` tries it once more",
    ]
    return ["; ".join(told)]


def missing(db: Connection, deployment: Resource) -> list[str]:
    """What its spec names and is not there; empty too where the spec cannot be read by this version."""
    try:
        spec = revisions.parse_spec(deployment.name, deployment.spec)
    except SpecError:
        return []
    loaded = Loaded(revisions.KIND, deployment.name, deployment.spec, spec, 1, ())
    return list(revisions.preview(db, loaded).missing)


def served_models(db: Connection, deployment: Resource) -> list[str]:
    """Which models the revision that serves was made with, and whether newer ones are registered; a sentence each.

    Where none serves, of the newest that knows its models.
    """
    rows = [row for row in rollouts.every(db, deployment.uid) if row.pin is not None]
    row = next((row for row in rows if row.phase == "Serving"), next(iter(rows), None))
    specs = {one.generation: one.spec for one in resources.revisions(db, deployment.uid)}
    if row is None or row.pin is None or row.generation not in specs:
        return []
    try:
        spec = revisions.parse_spec(deployment.name, specs[row.generation])
    except SpecError:
        return []
    named = {mount.path: mount.id for mount in spec.models}
    return [
        _served(db, deployment.name, path, str(found), by=named.get(path, ""))
        for path, found in sorted((row.pin.get("models") or {}).items())
    ]


def _served(db: Connection, deployment: str, path: str, model_id: str, *, by: str) -> str:
    model = models.find(db, model_id)
    if model is None:
        return f"{model_id} at {path}, which is gone"
    told, newest = f"{model.name} ({model_id}) at {path}", models.newest(db, model.name)
    if newest is None or newest.id == model_id:
        return told
    takes = f"`appliance deployment restart {deployment}` takes it" if by == model.name else "its spec names this one"
    return f"{told}; a newer one is registered, {newest.id}: {takes}"


async def meters(parts: Parts) -> Mapping[str, Meter] | None:
    """By the path that a deployment has at the front door; None: that does not tell."""
    try:
        async with asyncio.timeout(METERS_S):
            return await parts.meters()
    except (ApplianceError, TimeoutError) as error:
        log.debug("the front door does not tell what is under way: %s", error)
        return None


def prefix(deployment: Resource) -> str:
    return f"/deployments/{deployment.name}"


def status(
    before: Mapping[str, Any],
    rows: Sequence[rollouts.Rollout],
    scale: scales.Scale | None,
    meter: Meter | None,
    *,
    now: float,
) -> dict[str, Any]:
    """The status document with all that is known; `rows` newest first. Pure."""
    return {
        **before,
        "rollout": rollout(rows, before.get("undo_at"), now=now),
        "scale": None if scale is None else _scale(scale),
        "asleep": scale is not None and scale.asleep,
        "held": None if meter is None else meter.held,
        "replicas": [
            {
                **replica,
                "in_flight": in_flight(meter, replica["container"]),
                "leaving_s": max(0.0, replica["leaves_by"] - now) if replica.get("leaves_by") else None,
            }
            for replica in before.get("replicas", ())
        ],
    }


def rollout(rows: Sequence[rollouts.Rollout], undo_at: float | None = None, *, now: float = 0.0) -> wire.Rollout | None:
    """How far the newest revision is; None: nothing has been declared yet."""
    if not rows:
        return None
    newest = rows[0]
    began = newest.ready if newest.phase == "Serving" else newest.began
    return wire.Rollout(
        generation=newest.generation,
        phase=newest.phase,
        message=newest.message,
        cause=newest.cause,
        copies=newest.copies,
        since=newest.ended or began or newest.created,
        serving=next((row.generation for row in rows if row.phase == "Serving"), None),
        undo_s=max(0.0, undo_at - now) if undo_at and newest.phase in rollouts.OPEN else None,
    )


def revision(entry: revisions.Entry, named: Callable[[str], str]) -> wire.Revision:
    """`named` tells a model by its id."""
    return wire.Revision(
        generation=entry.generation,
        cause=entry.cause,
        copies=entry.copies,
        source=entry.source,
        phase=entry.phase,
        message=entry.message,
        words=entry.words,
        image=entry.image,
        image_id=entry.image_id,
        models=[f"{named(model)} at {path}" for path, model in sorted(entry.models.items())],
        created=entry.created,
        ready=entry.ready,
        ended=entry.ended,
        serving=entry.serving,
    )


def difference(found: revisions.Difference) -> wire.RevisionDiff:
    made_of = []
    if found.image:
        made_of.append(f"image: {_or_unknown(found.image[0])} -> {_or_unknown(found.image[1])}")
    for path, (before, after) in found.models.items():
        made_of.append(f"model at {path}: {before or 'none'} -> {after or 'none'}")
    return wire.RevisionDiff(older=found.before, newer=found.after, spec=list(found.spec), made_of=made_of)


def in_flight(meter: Meter | None, container_id: str) -> int | None:
    server = None if meter is None else meter.servers.get(container_id[:SHORT_ID])
    return None if server is None else server.in_flight


def _or_unknown(image_id: str) -> str:
    return image_id or "not looked up"


def _scale(row: scales.Scale) -> wire.Scale:
    return wire.Scale(replicas=row.replicas, reason=row.reason, since=row.since, last_request=row.last_request)
