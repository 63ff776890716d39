"""What the revisions of a deployment were, what is between two of them, and which are let go."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.errors import NotFound
from appliance.revisions.declaring import KIND
from appliance.spec.dump import to_blocks
from appliance.state import models, resources, rollouts
from appliance.state.db import Connection
from appliance.state.resources import Resource
from appliance.state.rollouts import Rollout

SERVED = 10
"""So many of the last ones that have served are kept whatever their age."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision; times in unix seconds."""

    generation: int
    source: str
    """Who asked for it; else as in `Resource.source`."""
    cause: str
    """`applied`, `restarted`, `scaled` or `rolled back`; empty where it was declared before that was written down."""
    copies: int | None
    phase: str
    """Of its rollout; empty where there was none."""
    message: str
    words: str
    """The last lines of what failed; may be empty."""
    spec: Mapping[str, Any]
    image: str
    """As the spec names it."""
    image_id: str
    """What that meant; empty: never looked up."""
    models: Mapping[str, str]
    """Mount path -> model id."""
    created: float
    began: float | None
    ready: float | None
    ended: float | None
    serving: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """From generation `before` to `after`."""

    before: int
    after: int
    spec: Sequence[str]
    """Lines of a unified diff of the specs, as YAML; empty: they are equal."""
    image: tuple[str, str] | None
    """Image ids, before and after; None: the same. An empty one was never looked up."""
    models: Mapping[str, tuple[str, str]]
    """Mount path -> the model before and after, as `NAME (ID)`; those that differ. Empty: none is mounted there."""


def history(db: Connection, deployment: Resource) -> list[Entry]:
    """Newest first."""
    rows = {row.generation: row for row in rollouts.every(db, deployment.uid)}
    return [_entry(revision, rows.get(revision.generation)) for revision in resources.revisions(db, deployment.uid)]


def diff(db: Connection, deployment: Resource, a: int, b: int) -> Difference:
    """Raises NotFound."""
    found = {one.generation: one for one in history(db, deployment)}
    for wanted in (a, b):
        if wanted not in found:
            raise NotFound(
                f"{KIND} {deployment.name!r} has no generation {wanted}",
                hint=f"`appliance deployment history {deployment.name}` lists its revisions",
            )
    before, after = found[a], found[b]
    lines = difflib.unified_diff(
        _lines(before.spec), _lines(after.spec), f"generation {a}", f"generation {b}", lineterm=""
    )
    paths = sorted({*before.models, *after.models})
    changed = {path: (before.models.get(path, ""), after.models.get(path, "")) for path in paths}
    return Difference(
        before=a,
        after=b,
        spec=tuple(lines),
        image=None if before.image_id == after.image_id else (before.image_id, after.image_id),
        models={path: (_model(db, one), _model(db, two)) for path, (one, two) in changed.items() if one != two},
    )


def forget_old(db: Connection, uid: str, keep: int) -> None:
    """Only the newest `keep` stay, those that serve or may come to, and the last that have served."""
    rows = list(rollouts.every(db, uid))
    needed = {row.generation for row in rollouts.held(rows)}
    needed |= {row.generation for row in [row for row in rows if row.ready is not None][:SERVED]}
    declared = [one.generation for one in resources.revisions(db, uid)]
    for generation in declared[keep:]:
        if generation not in needed:
            resources.forget_revision(db, uid, generation)
            rollouts.remove(db, uid, generation)


def _entry(revision: resources.Revision, row: Rollout | None) -> Entry:
    pin = (row.pin if row else None) or {}
    return Entry(
        generation=revision.generation,
        source=revision.source,
        cause=row.cause if row else "",
        copies=row.copies if row else None,
        phase=row.phase if row else "",
        message=row.message if row else "",
        words=row.words if row else "",
        spec=revision.spec,
        image=_image(revision.spec),
        image_id=str(pin.get("image", "")),
        models={str(path): str(model) for path, model in pin.get("models", {}).items()},
        created=revision.created,
        began=row.began if row else None,
        ready=row.ready if row else None,
        ended=row.ended if row else None,
        serving=row is not None and row.phase == "Serving",
    )


def _image(spec: Mapping[str, Any]) -> str:
    """Of a document in any dialect; a spec that cannot be read any more still has a history."""
    return str(spec.get("image") or "")


def _lines(spec: Mapping[str, Any]) -> list[str]:
    return to_blocks(dict(spec)).splitlines()


def _model(db: Connection, model_id: str) -> str:
    found = models.find(db, model_id) if model_id else None
    return f"{found.name} ({model_id})" if found else model_id
