"""What to do next for one execution. Pure: facts and `now` in, one step out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.state.executions import FINAL, Phase

Verb = Literal["prepare", "begin", "start", "stop", "read", "end", "clear"]
"""prepare: have the image. begin: keep a moment of the files and make the container. start: run it. stop: ask it to
end. read: store the rest of its lines and learn what it said last. end: keep a moment, write down how it ended. clear:
remove what is left of one that is over."""
PROGRESS_EVERY_S = 1.0
QUEUE_EVERY_S = 30.0
"""Who waits for GPUs is told at once when it has them; so often it looks by itself."""
ASKED = 143
"""Exit code of what has ended because it was asked to."""
GONE = "its container disappeared while it ran: somebody removed it; what it had saved is in its file"


@dataclass(frozen=True, slots=True)
class Facts:
    phase: Phase
    canceled: str = ""
    """Why it is to end; empty: it is not."""
    container: Literal["none", "created", "running", "ended"] = "none"
    exit_code: int | None = None
    words: str | None = None
    """How it ended, in words; None: it has not been read out."""
    image: Literal["unknown", "busy", "ready", "failed"] = "unknown"
    image_message: str = ""
    blocked: str = ""
    """Why it cannot begin."""
    waits: str = ""
    """Why it has no GPU yet, in words; empty: it has what it needs."""
    cleared: bool = False
    """Nothing is left to remove."""


@dataclass(frozen=True, slots=True)
class Step:
    phase: Phase
    message: str = ""
    verb: Verb | None = None
    """None: settled for the moment."""
    wake: float | None = None
    """Look again at this time at the latest."""


def decide(facts: Facts, now: float) -> Step:
    if facts.phase in FINAL:
        return Step(facts.phase, verb=None if facts.cleared else "clear")
    if facts.container == "running":
        return Step("Stopping", facts.canceled, "stop") if facts.canceled else Step("Running")
    if facts.container == "ended":
        return _ended(facts)
    if facts.canceled:
        return Step("Canceled", f"{facts.canceled}, before it began", "end")
    if facts.container == "created":
        return Step("Starting", verb="start")
    if facts.phase in ("Running", "Stopping"):
        return Step("Failed", GONE, "end")
    return _missing(facts, now)


def _ended(facts: Facts) -> Step:
    if facts.words is None:
        return Step("Stopping" if facts.canceled else "Running", verb="read")
    if facts.exit_code == 0:
        return Step("Succeeded", facts.words, "end")
    if facts.canceled:
        asked = facts.exit_code == ASKED
        return Step("Canceled", facts.canceled if asked else f"{facts.canceled}: {facts.words}", "end")
    return Step("Failed", facts.words, "end")


def _missing(facts: Facts, now: float) -> Step:
    if facts.blocked:
        return Step("Failed", facts.blocked, "end")
    if facts.image == "ready" and facts.waits:
        return Step("Preparing", facts.waits, wake=now + QUEUE_EVERY_S)
    if facts.image == "ready":
        return Step("Starting", verb="begin")
    if facts.image == "failed":
        return Step("Failed", facts.image_message, "end")
    if facts.image == "busy":
        return Step("Preparing", facts.image_message, wake=now + PROGRESS_EVERY_S)
    return Step("Preparing", verb="prepare")
