"""The GPUs of a notebook's session: asked for, kept from one session to the next, and given back.

A session that gives place, or that has lost its GPU, is named here until it is gone. That is remembered in memory only:
after a restart of the daemon whoever asked for it asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from appliance.errors import GpuRefused
from appliance.notebooks import ending
from appliance.notebooks.plan import LONG_SESSION_S, RESTARTS, Facts, Session, row_of_crashes
from appliance.scheduler.leasing import Leases
from appliance.scheduler.types import LOCAL, Answer, Who
from appliance.spec.models import Notebook
from appliance.state.db import Database
from appliance.state.resources import Resource

Stance = Literal["keep", "place", "ready", "release"]
"""keep: leave it as it is. place: have a place in the queue and no GPU yet. ready: have GPUs. release: have nothing."""
REFUSED_EVERY_S = 30.0
"""After the engine could give a container no GPU, that is tried again."""


def without(document: Mapping[str, Any]) -> bool:
    """The spec says `gpus: 0`: it has none, whatever its machine type is."""
    return document.get("gpus") == 0


def stance(facts: Facts) -> Stance:
    """What is to be had from the scheduler now. Pure."""
    live = max(facts.sessions, key=lambda session: session.number, default=None)
    if facts.deleting or not facts.wanted:
        return "keep" if live else "release"
    if (live and facts.ousted) or len(facts.sessions) > 1:
        return "keep"  # until what was on the GPUs is gone
    if live and live.state == "created":
        return "ready"
    if live and (live.state == "running" or live.closed):
        return "keep"
    if live and live.digest == facts.digest and _stays_down(facts, live):
        return "release"
    if facts.blocked or facts.image in ("busy", "failed"):
        return "place"
    if facts.image == "unknown" and not facts.lease_id:
        return "place"
    return "ready"


def _gives_way(facts: Facts) -> bool:
    """A session of the spec before is about to end for another."""
    return facts.image == "ready" and any(one.digest != facts.digest and one.ready for one in facts.sessions)


def _stays_down(facts: Facts, live: Session) -> bool:
    return facts.asked <= live.ended and not live.interrupted and row_of_crashes(live) > RESTARTS


@dataclass(frozen=True, slots=True)
class _Ousted:
    """The session whose GPUs are of this lease, or the one in this container, is to end."""

    words: str
    lease: str = ""
    container: str = ""

    def meant(self, session: Session) -> bool:
        return session.id == self.container if self.container else session.lease == self.lease


@dataclass(frozen=True, slots=True)
class _Refused:
    words: str
    asked: float
    until: float


class SessionLeases:
    def __init__(
        self,
        leases: Leases,
        db: Database,
        clock: Callable[[], float],
        hint: Callable[[str], None],
        never: Callable[[str, int], str],
    ) -> None:
        """`never`: why this machine can never give that machine type and number of GPUs, in words; empty: it can."""
        self._leases = leases
        self._db = db
        self._clock = clock
        self._hint = hint
        self._never = never
        self._ousted: dict[str, _Ousted] = {}
        self._lost: dict[str, tuple[float, ...]] = {}
        """uid -> when sessions of it lost a GPU lately."""
        self._refused: dict[str, _Refused] = {}
        self._left: dict[str, tuple[str, str]] = {}
        """uid -> the container that goes on without its GPU, and why."""

    def refused(self, notebook: Resource, error: GpuRefused) -> None:
        """The engine could not give its container the GPUs: nothing begins for a while, or until its user asks."""
        words = f"{error.message}; {error.hint}" if error.hint else error.message
        self._refused[notebook.uid] = _Refused(words, notebook.updated, self._clock() + REFUSED_EVERY_S)

    def fill(self, notebook: Resource, spec: Notebook | None, facts: Facts) -> Facts:
        """The facts with where the GPUs stand, after what is to be had now was asked for or given back."""
        facts = replace(
            facts,
            ousted=self._oust(notebook, facts.sessions),
            blocked=facts.blocked or (self._barred(notebook) if facts.wanted else ""),
        )
        held = self._leases.peek(who(notebook, spec))
        facts = replace(facts, lease_id=held.lease)
        self._tell_held(notebook, facts.sessions, held)
        match stance(facts):
            case "release":
                self._leases.release(who(notebook, spec))
                return replace(facts, lease_id="")
            case "place" if spec:
                if held.lease:  # nothing begins: others may have them meanwhile
                    self._leases.release(who(notebook, spec))
                return _with(facts, self.ask(notebook, spec, ready=False))
            case "ready" if spec:
                return _with(facts, self.ask(notebook, spec))
            case "keep" if spec and _gives_way(facts) and not without(notebook.spec):
                if why := self._never(spec.machine, spec.gpus):
                    return replace(facts, lease="impossible", lease_message=why)
        return facts

    def ask(self, notebook: Resource, spec: Notebook, *, ready: bool = True) -> Answer:
        if without(notebook.spec):
            self._leases.release(who(notebook, spec))
            return Answer("unneeded")
        return self._leases.ask(
            who(notebook, spec),
            machine=spec.machine,
            gpus=spec.gpus,
            ready=ready,
            priority=spec.priority,
            bound_s=spec.shutdown_s or None,
            preemptible=spec.preemptible,
        )

    def granted(self, notebook: Resource, spec: Notebook) -> Answer | None:
        """What a session that is made at this moment gets. None: nothing may be made now."""
        if notebook.uid in self._ousted:
            return None
        answer = self.ask(notebook, spec)
        return answer if answer.state in ("granted", "unneeded") else None

    def held(self, notebook: Resource, spec: Notebook, container: str) -> None:
        self._leases.held(who(notebook, spec), container)

    def release(self, notebook: Resource) -> None:
        self._leases.release(who(notebook))

    def note(self, notebook: Resource, spec: Notebook) -> str:
        """What its session was given in place of what it asked for, and what befell it; empty: nothing."""
        container, why = self._left.get(notebook.uid, ("", ""))
        if container and container == notebook.status.get("container"):
            return why
        answer = self._leases.peek(who(notebook, spec))
        return answer.words if answer.state == "granted" else ""

    # -- from the scheduler

    def preempt(self, notebook: Resource, words: str) -> None:
        """Its session makes way: it ends with a snapshot, and another begins when its turn has come again."""
        lease = self._leases.peek(who(notebook)).lease
        before = self._ousted.get(notebook.uid)
        if lease and (before is None or before.lease != lease):
            self._ousted[notebook.uid] = _Ousted(f"it makes way: {words}", lease=lease)
            self._record(notebook, "Preempted", f"{words}; its session ends with a snapshot and begins again later")
        self._hint(notebook.uid)

    def lost(self, notebook: Resource, words: str) -> None:
        """Its session cannot reach its GPU any more: it ends with a snapshot, and another follows.

        Not again and again: after some in a row the session goes on, for what it does without a GPU.
        """
        uid, container = notebook.uid, notebook.status.get("container", "")
        if not container or uid in self._ousted or self._left.get(uid, ("", ""))[0] == container:
            return
        now = self._clock()
        lately = tuple(at for at in self._lost.get(uid, ()) if 0 <= now - at < LONG_SESSION_S)
        if len(lately) < RESTARTS:
            self._lost[uid] = (*lately, now)
            self._ousted[uid] = _Ousted(f"its GPU is lost: {words}", container=container)
            self._record(notebook, "GpuLost", f"{words}; its session ends with a snapshot and another begins")
        else:
            before = f"as those of {len(lately)} sessions before it"
            why = f"its GPU is lost, {before}: {words}; `appliance doctor` tells more"
            self._left[uid] = container, why
            self._record(notebook, "GpuLost", f"{why}; the session goes on without it")
        self._hint(uid)

    def forget(self, uid: str) -> None:
        self._ousted.pop(uid, None)
        self._lost.pop(uid, None)
        self._left.pop(uid, None)
        self._refused.pop(uid, None)

    # -- parts

    def _barred(self, notebook: Resource) -> str:
        found = self._refused.get(notebook.uid)
        if found and found.asked == notebook.updated and self._clock() < found.until:
            return found.words
        self._refused.pop(notebook.uid, None)
        return ""

    def _oust(self, notebook: Resource, sessions: Collection[Session]) -> str:
        """Why its session has to end. Once that is gone, the GPUs for which it made way are given back."""
        found = self._ousted.get(notebook.uid)
        if found is None:
            return ""
        if any(found.meant(session) for session in sessions):
            return found.words
        del self._ousted[notebook.uid]
        if found.lease and self._leases.peek(who(notebook)).lease == found.lease:
            self._leases.release(who(notebook))
        return ""

    def _tell_held(self, notebook: Resource, sessions: Collection[Session], held: Answer) -> None:
        """Which container has the GPUs: also where the daemon was killed before it could tell."""
        for session in sessions:
            if held.lease and session.lease == held.lease and session.state != "ended":
                self._leases.held(who(notebook), session.id)

    def _record(self, notebook: Resource, reason: str, message: str) -> None:
        ending.record(self._db, notebook, reason, message, now=self._clock(), level="warning")


def who(notebook: Resource, spec: Notebook | None = None) -> Who:
    return Who("notebook", notebook.name, notebook.uid, owner=spec.owner if spec and spec.owner else LOCAL)


def _with(facts: Facts, answer: Answer) -> Facts:
    if answer.state == "none":  # nobody may take silence for leave
        return replace(facts, lease="waits", lease_id="", lease_message="its GPU was not asked for yet")
    return replace(facts, lease=answer.state, lease_id=answer.lease, lease_message=answer.words)
