"""The notebook's status row: what is shown of it, written together with the event that tells of the change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.notebooks import ending
from appliance.notebooks.mounts import Pinned
from appliance.notebooks.plan import Session
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource

Seen = Mapping[Session, Container]
"""What was observed: each session with its container."""

_LEVELS: Mapping[str, events.Level] = {"Failed": "error"}


def describe(before: Mapping[str, Any], seen: Seen, *, image: str, wanted: bool) -> dict[str, Any]:
    """`container` and `ready` are container ids: of the live session, and of the last one that Jupyter answered in.

    `wanted`: a session is. What was said of one that the appliance has stopped by itself then holds no more.
    """
    live = max(seen, key=lambda session: session.number, default=None)
    running = live is not None and live.state == "running"
    ended = live.id if live and live.state == "ended" else None  # one that goes on was not stopped after all
    return {
        **before,
        "session": max(before.get("session", 0), live.number if live else 0),
        "container": live.id if live else "",
        "started": live.started if live and running else None,
        "stopped": before.get("stopped") if ended and before.get("container") == ended else None,
        "image": image or before.get("image", ""),
        "idle": before.get("idle") if running else None,
        ending.RESTED: None if wanted else before.get(ending.RESTED),
    }


def write(
    db: Database, notebook: Resource, *, phase: str, message: str, document: Mapping[str, Any], now: float
) -> bool:
    """Store what changed; another phase is an event too. False: the spec has changed meanwhile, nothing was stored."""
    shown = (notebook.phase, notebook.message, notebook.status, notebook.observed)
    if shown == (phase, message, document, notebook.generation):
        return True
    with db.write() as transaction:
        written = resources.set_status(
            transaction,
            notebook.uid,
            generation=notebook.generation,
            phase=phase,
            message=message,
            status=document,
        )
        if written and phase != notebook.phase:
            level = _LEVELS.get(phase, "info")
            events.record(
                transaction, "notebook", notebook.name, phase, message or _WORDS.get(phase, phase), now=now, level=level
            )
    return written


def remember_pinned(db: Database, notebook: Resource, pinned: Pinned) -> bool:
    """Store which dataset versions and models a session that is about to be made sees: none can be removed any more.

    False: the spec has changed meanwhile, and no session must be made of the one before.
    """
    with db.write() as transaction:
        return resources.set_status(
            transaction,
            notebook.uid,
            generation=notebook.generation,
            phase="Starting",
            status={**notebook.status, "datasets": dict(pinned.datasets), "models": dict(pinned.models)},
        )


def write_problem(db: Database, notebook: Resource, error: ApplianceError, *, now: float) -> None:
    """A step failed and will be tried again. The event comes once for each different problem."""
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    if message == notebook.message:
        return
    # what was said of the generation before must not be read as true of this one
    phase = notebook.phase if notebook.observed == notebook.generation else "Failed"
    with db.write() as transaction:
        resources.set_status(transaction, notebook.uid, generation=notebook.generation, phase=phase, message=message)
        events.record(transaction, "notebook", notebook.name, "Problem", message, now=now, level="error")


_WORDS = {
    "Preparing": "the image is looked for",
    "Starting": "a session begins",
    "Running": "Jupyter answers",
    "Stopping": "the session ends",
    "Stopped": "no session runs; the files are kept",
}
