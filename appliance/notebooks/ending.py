"""What is said of a session that nobody uses or whose time is nearly over, and its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from appliance.history.causes import Cause
from appliance.notebooks.idle import Busy, End, Idle, Verdict, Warn
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource

RESTED = "rested"
"""Status key: why the appliance stopped the session by itself, for as long as nobody has started it again."""


@dataclass(frozen=True, slots=True)
class Shown:
    why: str
    """What keeps it, in words; empty: nothing."""
    since: float | None
    """Nothing goes on since then, unix seconds."""
    ends: float | None
    """Then it ends unless something happens, unix seconds."""
    warning: str = ""
    reason: str = ""
    """Of the event that tells of the warning, or of the end."""
    end: str = ""
    """Why it ends now; empty: it goes on."""

    def document(self) -> Mapping[str, Any]:
        return {"since": self.since, "why": self.why, "ends": self.ends}


def describe(notebook: Resource, idle: Verdict, timer: Verdict, *, unix: float, pages: int) -> Shown:
    """`unix`: what makes unix seconds of the verdicts' times. `pages`: connections that are open. Pure."""
    again = f"`appliance notebook start {notebook.name}` starts it again; the files are kept"
    kept = idle.why if isinstance(idle, Busy) else ""
    since = None if isinstance(idle, Busy) else float(round(unix + idle.since))
    ends = [unix + one.ends for one in (idle, timer) if isinstance(one, Idle | Warn)]
    first = float(round(min(ends))) if ends else None
    if isinstance(timer, End):
        words = f"its time since the start of the session, {clock(unix + timer.since)}, is over; {again}"
        return Shown(kept, since, None, reason="ShutDown", end=words)
    if isinstance(idle, End):
        words = f"nothing has gone on since {clock(unix + idle.since)}{_open(pages)}; {again}"
        return Shown(kept, since, None, reason="Idle", end=words)
    if isinstance(timer, Warn) and (not isinstance(idle, Warn) or timer.ends <= idle.ends):
        words = f"its time is over at {clock(unix + timer.ends)}, then it is stopped with a snapshot"
        return Shown(kept, since, first, warning=words, reason="ShutDownWarning")
    if isinstance(idle, Warn):
        words = (
            f"it stops at {clock(unix + idle.ends)}, with a snapshot; use it, or `appliance notebook start"
            f" {notebook.name}`, to keep it: nothing has gone on since {clock(unix + idle.since)}{_open(pages)}"
        )
        return Shown(kept, since, first, warning=words, reason="IdleWarning")
    return Shown(kept, since, first)


def blind(name: str, shown: Shown) -> Shown:
    """Nobody can see whether it is used, for a while now."""
    words = f"it is not stopped when nobody uses it: {shown.why}; `appliance logs notebook/{name}` may tell more"
    return replace(shown, warning=words, reason="IdleUnknown")


def write(db: Database, notebook: Resource, shown: Shown | None) -> None:
    """Store what changed. The caller has looked whether a pass of the controller is under way: none is."""
    document = dict(shown.document()) if shown else None
    if notebook.status.get("idle") == document:
        return
    with db.write() as transaction:
        resources.set_status(
            transaction,
            notebook.uid,
            generation=notebook.generation,
            phase=notebook.phase,
            message=notebook.message,
            status={**notebook.status, "idle": document},
        )


def end(db: Database, notebook: Resource, shown: Shown, now: float) -> bool:
    """Its session is wanted no more. False: the spec has changed meanwhile, nothing was done."""
    rested = {"reason": shown.reason, "words": shown.end}
    with db.write() as transaction:
        done = resources.set_status(
            transaction,
            notebook.uid,
            generation=notebook.generation,
            phase=notebook.phase,
            message=notebook.message,
            status={**notebook.status, "idle": None, RESTED: rested},
        )
        if done:
            resources.set_desired(transaction, notebook.uid, "stopped", now=now)
            events.record(transaction, "notebook", notebook.name, shown.reason, shown.end, now=now)
    return done


def cause(notebook: Resource) -> Cause:
    """Of the moment after a session that is being stopped."""
    return "idle" if (notebook.status.get(RESTED) or {}).get("reason") in ("Idle", "IdleGpu") else "stop"


def words(notebook: Resource) -> str:
    """Why it was stopped; empty where its user did."""
    return str((notebook.status.get(RESTED) or {}).get("words", ""))


def record(
    db: Database, notebook: Resource, reason: str, message: str, *, now: float, level: events.Level = "info"
) -> None:
    with db.write() as transaction:
        events.record(transaction, "notebook", notebook.name, reason, message, now=now, level=level)


def clock(at: float) -> str:
    """Local time of this machine, with the date: it may be read days later."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(round(at)))


def _open(pages: int) -> str:
    if not pages:
        return ""
    return f", though {pages} connection{'s' if pages > 1 else ''} to its kernels {'are' if pages > 1 else 'is'} open"
