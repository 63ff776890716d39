"""What to do next for one notebook. Pure: facts and `now` in, one step out; no effect, no clock.

A session is one container of the notebook; it is never started twice, so its files outside the mounts end with it.
The controller carries out the step, looks again and asks again, until there is nothing left to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["Pending", "Preparing", "Starting", "Running", "Stopping", "Stopped", "Failed"]
Verb = Literal["prepare", "begin", "start", "probe", "halt", "clear", "rest", "destroy"]
"""prepare: have the image. begin: make a session. start: run a session that was made but never ran. probe: ask whether
Jupyter answers. halt: unpublish, stop, snapshot, clear. clear: store the rest of an ended session's log, remove its
container. rest: note that the user wants no session any more. destroy: the notebook and its files go."""

RESTARTS = 3
"""A session that ends by itself is followed by another at most so often in a row."""
BACKOFF_S = (2.0, 10.0, 30.0)
LONG_SESSION_S = 600.0
"""A session that lived so long ends the row of quick endings before it."""
START_DEADLINE_S = 300.0
"""After this the silence of Jupyter is called a failure; it is still asked, more slowly."""
PROBE_EVERY_S = 0.1
PROBE_LATE_EVERY_S = 5.0
PROGRESS_EVERY_S = 1.0
BLOCKED_EVERY_S = 5.0
QUEUE_EVERY_S = 30.0
"""Who waits for GPUs is told at once when it has them; so often it looks by itself."""


@dataclass(frozen=True, slots=True)
class Session:
    """A container of the notebook, as observed."""

    id: str
    number: int
    """Counts the notebook's sessions; the newest is the live one."""
    digest: str
    """Of what it was made from."""
    state: Literal["created", "running", "ended"]
    crashes: int = 0
    """Quick endings in a row before this session began."""
    ready: bool = False
    """Jupyter has answered in this session."""
    started: float = 0.0
    ended: float = 0.0
    ending: str = ""
    """Why it ended, in words."""
    closed: bool = False
    """It ended because its user shut Jupyter down from inside."""
    interrupted: bool = False
    """It ended with the appliance, the engine or the machine."""
    lease: str = ""
    """Id of the lease that its GPUs are from; empty: it was made without any."""


@dataclass(frozen=True, slots=True)
class Facts:
    wanted: bool
    """The user wants it to run."""
    deleting: bool
    digest: str
    """Of what a session must be made from; empty where none is wanted."""
    asked: float
    """When the user last asked for anything, unix seconds."""
    sessions: tuple[Session, ...] = ()
    image: Literal["unknown", "busy", "ready", "failed"] = "unknown"
    image_message: str = ""
    image_retry_at: float = 0.0
    blocked: str = ""
    """Why no session may begin at present; empty: one may."""
    lease: Literal["unneeded", "waits", "granted", "impossible"] = "unneeded"
    """Where its request for GPUs stands."""
    lease_id: str = ""
    """Of the GPUs that it has; empty: none."""
    lease_message: str = ""
    """Why it has none yet, in words."""
    ousted: str = ""
    """Why its session has to end though one is wanted, in words; empty: it may go on."""
    note: str = ""
    """What is said of a session that runs; empty: nothing."""
    rested: str = ""
    """Why no session is wanted, where the appliance has decided that by itself."""
    silence: str = ""
    """What the last probe said, where Jupyter did not answer."""


@dataclass(frozen=True, slots=True)
class Step:
    phase: Phase
    message: str = ""
    verb: Verb | None = None
    """None: settled for the moment."""
    session: Session | None = None
    crashes: int = 0
    """For `begin`: the row of quick endings so far."""
    wake: float | None = None
    """Look again at this unix time at the latest; None: when something changes."""


def decide(facts: Facts, now: float) -> Step:
    """The next step. Following the steps ends in a settled one: Running, Stopped, Failed or gone."""
    live = max(facts.sessions, key=lambda session: session.number, default=None)
    for session in facts.sessions:
        if session is not live:
            return _leave(session, "Starting" if facts.wanted else "Stopping")
    if facts.deleting or not facts.wanted:
        if live:
            return _leave(live, "Stopping")
        return Step("Stopping", verb="destroy") if facts.deleting else Step("Stopped", facts.rested)
    if live is None:
        return _missing(facts, now) or Step("Starting", verb="begin")
    if facts.ousted:
        return _leave(live, "Stopping", facts.ousted)
    if live.state == "ended":
        return _after_end(facts, live, now)
    if live.digest != facts.digest:
        return _replace(facts, live, now)
    if live.state == "created":
        if live.lease != facts.lease_id:
            message = "the GPUs that it was made with are not its own any more: it is made again"
            return Step("Starting", message, verb="halt", session=live)
        return Step("Starting", verb="start", session=live)
    if live.ready:
        return Step("Running", facts.note, session=live)
    return _await_answer(facts, live, now)


def row_of_crashes(ended: Session) -> int:
    """How many sessions ended quickly in a row, this one included; a long one begins a new row."""
    return 1 if ended.ended - ended.started >= LONG_SESSION_S else ended.crashes + 1


def _leave(session: Session, phase: Phase, message: str = "") -> Step:
    return Step(phase, message, verb="clear" if session.state == "ended" else "halt", session=session)


def _missing(facts: Facts, now: float) -> Step | None:
    """What has to come before a session can begin; None: nothing."""
    if facts.blocked:
        return Step("Pending", facts.blocked, wake=now + BLOCKED_EVERY_S)
    if facts.image == "ready":
        return _gpus_missing(facts, now)
    if facts.image == "busy":
        return Step("Preparing", facts.image_message, wake=now + PROGRESS_EVERY_S)
    if facts.image == "failed" and now < facts.image_retry_at:
        return Step("Failed", facts.image_message, wake=facts.image_retry_at)
    return Step("Preparing", verb="prepare")


def _gpus_missing(facts: Facts, now: float) -> Step | None:
    if facts.lease in ("waits", "impossible"):
        return Step("Pending", facts.lease_message, wake=now + QUEUE_EVERY_S)
    return None


def _replace(facts: Facts, live: Session, now: float) -> Step:
    """The spec has changed. A session that serves goes on until its successor's image is here."""
    missing = _missing(facts, now)
    if missing is None:
        return Step("Starting", "the spec has changed: another session begins", verb="halt", session=live)
    if not live.ready:
        return missing
    message = f"the session of the spec before goes on; {missing.message or 'the image is being prepared'}"
    return Step("Running", message, verb=missing.verb, session=live, wake=missing.wake)


def _after_end(facts: Facts, live: Session, now: float) -> Step:
    if facts.asked > live.ended or live.digest != facts.digest:
        return Step("Starting", verb="clear", session=live)
    if live.closed:
        return Step("Stopping", "Jupyter was shut down from inside", verb="rest", session=live)
    if live.interrupted:
        return _missing(facts, now) or Step("Starting", f"{live.ending}; another session begins", verb="begin")
    crashes = row_of_crashes(live)
    if crashes > RESTARTS:
        message = f"{live.ending}; {crashes} endings in a row, it stays down until it is started again"
        return Step("Failed", message, session=live)
    again = live.ended + BACKOFF_S[min(crashes, len(BACKOFF_S)) - 1]
    if now < again:
        message = f"{live.ending}; restart {crashes} of {RESTARTS} in {again - now:.0f} s"
        return Step("Failed", message, session=live, wake=again)
    return _missing(facts, now) or Step("Starting", verb="begin", crashes=crashes)


def _await_answer(facts: Facts, live: Session, now: float) -> Step:
    waited = now - live.started
    said = facts.silence or "no answer yet"
    if waited < START_DEADLINE_S:
        message = f"Jupyter is starting: {said}"
        return Step("Starting", message, verb="probe", session=live, wake=now + PROBE_EVERY_S)
    message = f"Jupyter has not answered for {START_DEADLINE_S / 60:.0f} minutes: {said}"
    return Step("Failed", message, verb="probe", session=live, wake=now + PROBE_LATE_EVERY_S)
