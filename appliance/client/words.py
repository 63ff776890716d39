"""What the documents of a deployment tell, in words: the CLI and the TUI say it alike. Pure.

Messages in it come from outside: whoever shows a sentence cleans it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]

UNDER_WAY = {
    "Waiting": "waits",
    "Preparing": "is prepared",
    "Rolling": "rolls out",
    "Swapping": "takes the place of the one before",
}
SETTLED = frozenset({"Ready", "Failed", "Degraded", "Disabled", "Asleep"})
"""Phases of a deployment in which nothing more comes by itself soon."""
_STALE = re.compile(r"(; restart \d+) in \d+ s")
"""In a message, which stands still; `restart_at` of the replica tells how long it still is."""


def span(seconds: float) -> str:
    """`42s`, `5m`, `3h`, `2d`."""
    seconds = max(0.0, seconds)
    for limit, unit, size in ((120, "s", 1), (7200, "m", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds / size)}{unit}"
    return f"{int(seconds / 86_400)}d"


def detail(item: Document, now: float) -> str:
    """Of a deployment in a list, in one line: the most urgent first."""
    status = item["status"]
    moving = (status.get("rollout") or {}).get("phase") in UNDER_WAY and not status.get("asleep")
    told = [
        held(status),
        rollout(status, now) if moving else "",
        asleep(status, now),
        "" if status.get("asleep") else _first_line(message(item, now)),
        scale(status, now),
    ]
    return item["problem"] or "; ".join(part for part in told if part) or str(item["url"])


def message(item: Document, now: float) -> str:
    """What its controller said last, with the countdown to the next restart of a replica as it is now."""
    left = countdown(item["status"], now)
    if not left:
        return str(item["message"])
    first, newline, rest = _STALE.sub(r"\1", item["message"]).partition("\n")
    return f"{first}{'; ' if first else ''}{left}{newline}{rest}"


def rollout(status: Document, now: float, *, said: str = "") -> str:
    """How far the newest revision is; empty: nothing is known. A reason that is in `said` is not told again."""
    found = status.get("rollout")
    if not found:
        return ""
    name, phase, took = f"generation {found['generation']}", found["phase"], span(now - found["since"])
    serving = found["serving"]
    goes_on = f"; generation {serving} serves" if serving not in (None, found["generation"]) else ""
    if phase in UNDER_WAY:
        left = found.get("undo_s")
        until = "" if left is None else f"; it has {span(left)} more to become ready, else it is undone"
        return f"{name}{_cause(found)} {UNDER_WAY[phase]} for {took}{goes_on}{until}"
    if phase == "Serving":
        return f"{name}{_cause(found)} serves for {took}"
    reason = _first_line(found["message"])
    why = f": {reason}" if reason and reason not in said else ""
    if phase == "Undone":
        return f"{name} was undone {took} ago{goes_on}{why}"
    return f"{name} is {phase.lower()}{goes_on}{why}"


def asleep(status: Document, now: float) -> str:
    if not status.get("asleep"):
        return ""
    since = (status.get("scale") or {}).get("since")
    return f"asleep{f' for {span(now - since)}' if since else ''}: the next request wakes it"


def scale(status: Document, now: float) -> str:
    """How many replicas the load asks for, and why; empty: it is not asked, or it sleeps."""
    found = status.get("scale")
    if not found or status.get("asleep"):
        return ""
    why = f": {_first_line(found['reason'])}" if found["reason"] else ""
    return f"the load asks for {replicas(found['replicas'])} for {span(now - found['since'])}{why}"


def held(status: Document) -> str:
    waiting = status.get("held") or 0
    return f"{waiting} request{'' if waiting == 1 else 's'} wait{'s' if waiting == 1 else ''}" if waiting else ""


def countdown(status: Document, now: float) -> str:
    """When the next replica that ended is made again; empty: none has to be."""
    due = [row["restart_at"] for row in status.get("replicas", ()) if row.get("restart_at")]
    return f"next restart in {max(0.0, min(due) - now):.0f} s" if due else ""


def replica(row: Document, now: float) -> str:
    """What is wrong with a replica, and when it is made again; of one that leaves, for how long at most it is there."""
    due = row.get("restart_at")
    told = [f"restart in {max(0.0, due - now):.0f} s" if due else "", _leaves(row), row.get("message", "")]
    return "; ".join(part for part in told if part)


def _leaves(row: Document) -> str:
    left = row.get("leaving_s") if row.get("state") == "leaving" else None
    if left is None:
        return ""
    return f"at most {math.ceil(left)} s more" if left > 0 else "it ends now"


def traffic(found: Document) -> str:
    """Of a Traffic, in one line."""
    took = max(1.0, found["until"] - found["since"])
    if not found["requests"]:
        return f"none in {span(took)}"
    told = [f"{found['requests'] / took:.3g} a second over {span(took)}"]
    quantiles = [(name, found[f"{name}_s"]) for name in ("p50", "p95", "p99")]
    told += [f"{name} {seconds(value)}" for name, value in quantiles if value is not None]
    told.append(f"{found['errors']} error{'' if found['errors'] == 1 else 's'}")
    if found["longest_held_s"]:
        told.append(f"longest wait for a replica {seconds(found['longest_held_s'])}")
    return ", ".join(told)


def seconds(value: float) -> str:
    """`20 ms`, `1.5 s`."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def cause(row: Document) -> str:
    """Of a Revision or a Rollout: what made it."""
    return f"{row['cause']} to {row['copies']}" if row["copies"] else str(row["cause"])


def revision(row: Document) -> str:
    """Of a Revision, in one line: why it is where it is. One that never served is no way back."""
    never = "never served" if row["phase"] == "Superseded" and row["ready"] is None else ""
    return "; ".join(part for part in (never, _first_line(row["message"])) if part)


def doubts(row: Document) -> str:
    """Why the revision that a rollback brings back may not serve; empty: it has served, and was not undone."""
    if row["phase"] == "Undone":
        why = f": {_first_line(row['message'])}" if row["message"] else ""
        return f"generation {row['generation']} was undone{why}"
    return "" if row["ready"] is not None else f"generation {row['generation']} never served"


def _cause(found: Document) -> str:
    return "" if found["cause"] == "applied" else f" ({cause(found)})"


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
