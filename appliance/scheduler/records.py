"""From the rows of leases to the terms of the placement, and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from appliance.scheduler.types import Held, Kind, Request, Who
from appliance.spec.machines import Shape
from appliance.state.leases import HAS_CARDS, LeaseRow

PRIORITIES: Mapping[Kind, int] = {"deployment": 50, "execution": 11, "notebook": 10, "run": 0}
"""Where neither the spec nor its machine type says: first what somebody waits for."""
HALF_LIFE_S = 86_400.0
"""What an owner has had counts half as much in the fair order after this."""

ADOPTED = "*"
"""Machine type of a lease that was found with its container: it is kept, whatever its owner asks for."""

_SHAPE = {field.name for field in fields(Shape)}


def needs(shape: Shape) -> bool:
    """It is given a GPU, or a part of one."""
    return bool(shape.gpus or shape.mig or shape.share)


def shape_document(shape: Shape) -> dict[str, Any]:
    """What differs from a shape that asks for nothing."""
    return {name: value for name, value in asdict(shape).items() if value != getattr(Shape(), name)}


def shape_of_row(row: LeaseRow) -> Shape:
    """A row of an older or newer appliance may name what is not known here."""
    return Shape(**{name: value for name, value in row.shape.items() if name in _SHAPE})


def who_of_row(row: LeaseRow) -> Who:
    return Who(row.kind, row.name, row.uid, row.part, row.owner)  # type: ignore[arg-type]  # as it was written


def key_of(who: Who) -> tuple[str, str, str]:
    return (who.kind, who.uid, who.part)


def request(row: LeaseRow) -> Request:
    return Request(
        id=row.id,
        who=who_of_row(row),
        shape=shape_of_row(row),
        priority=row.priority,
        asked=row.asked,
        ready=row.ready is not None,
        bound_s=row.bound_s,
        preemptible=row.preemptible,
    )


def held(rows: Iterable[LeaseRow]) -> tuple[Held, ...]:
    return tuple(
        Held(request(row), tuple(row.cards), row.granted or row.asked, row.state == "Freeing", row.released)
        for row in rows
        if row.state in HAS_CARDS
    )


def waiting(rows: Iterable[LeaseRow]) -> tuple[Request, ...]:
    return tuple(request(row) for row in rows if row.state == "Waiting")


def again_and_again(row: LeaseRow) -> str:
    """What its duration is remembered under; empty: how long it takes says nothing of the next one.

    A run is named `WORKFLOW.NUMBER`. Notebooks and deployments end when somebody wants it.
    """
    if row.kind not in ("run", "execution"):
        return ""
    name = re.sub(r"\.\d+$", "", row.name) if row.kind == "run" else row.name
    part = row.part if row.kind == "run" else ""
    return f"{row.kind}/{name}/{part}"


def faded(had: Iterable[tuple[str, float, float]], now: float) -> dict[str, float]:
    """Owner -> the GPU seconds that count of it; given as owner, moment, seconds."""
    found: dict[str, float] = {}
    for owner, at, seconds in had:
        found[owner] = found.get(owner, 0.0) + seconds * 0.5 ** (max(0.0, now - at) / HALF_LIFE_S)
    return found
