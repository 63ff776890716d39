"""What jobs of the tests do, and what their runs have told."""

from __future__ import annotations

from appliance.state import events, resources
from tests.unit.workflows.fakes import Bench, Body, Inside


def write(target: str, text: str) -> Body:
    def body(inside: Inside) -> int:
        inside.path(target).write_text(text)
        return 0

    return body


def forever(inside: Inside) -> None:
    return None


def events_of(bench: Bench, reason: str) -> list[events.Event]:
    return [event for event in events.newest(bench.db.read, kind="run", limit=1000) if event.reason == reason]


def remove_dataset(bench: Bench, uid: str) -> None:
    """As though it had been deleted before anybody looked at who writes to it."""
    with bench.db.write() as db:
        resources.remove(db, uid)
