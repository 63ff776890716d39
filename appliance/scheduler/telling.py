"""What the scheduler says: names of cards, and the events of a lease. Pure but for `record`."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.gpu.types import Inventory
from appliance.state import events
from appliance.state.db import Connection
from appliance.state.leases import LeaseRow

SUBJECT = ("appliance", "gpu")
"""Kind and name of the events that concern no single resource."""
_SHOWN = {"execution": "notebook"}


def card_name(uuid: str, inventory: Inventory) -> str:
    """As `GPU 2 (NVIDIA A100)` or `GPU 2 1g.10gb`; its UUID where it is not there."""
    for device in inventory.devices:
        if device.uuid == uuid:
            return f"GPU {device.index} ({device.name})" if device.name else f"GPU {device.index}"
        for mig in device.migs:
            if mig.uuid == uuid:
                return f"GPU {device.index} {mig.profile}"
    return f"GPU {uuid}"


def card_names(cards: Sequence[str], inventory: Inventory) -> str:
    return ", ".join(card_name(uuid, inventory) for uuid in cards)


def subject(row: LeaseRow) -> tuple[str, str]:
    """Kind and name of the resource whose events a user looks at."""
    return _SHOWN.get(row.kind, row.kind), row.name


def label(row: LeaseRow) -> str:
    """Which of a resource's containers it is about, as the beginning of a sentence."""
    if row.kind == "run":
        return f"job {row.part}: "
    return f"replica {row.part.rpartition('-')[2]}: " if row.kind == "deployment" and row.part else ""


def span(seconds: float) -> str:
    """As `45 s`, `12 min` or `3 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def record(db: Connection, row: LeaseRow, reason: str, words: str, *, now: float, level: events.Level = "info") -> None:
    kind, name = subject(row)
    events.record(db, kind, name, reason, f"{label(row)}{words}", now=now, level=level)


def record_card(db: Connection, reason: str, words: str, *, now: float, level: events.Level = "info") -> None:
    events.record(db, *SUBJECT, reason, words, now=now, level=level)
