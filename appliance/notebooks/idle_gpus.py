"""GPUs that a session has and does not use: told after a while, and taken for who waits for them where that is set.

Only what was seen counts, as for whole sessions (`idle`): a GPU of which nobody can say whether it works is in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.notebooks.ending import Shown, clock
from appliance.notebooks.idle import Course, End, Idle, Look, Policy, Warn, judge
from appliance.notebooks.leasing import who
from appliance.scheduler.leasing import Leases
from appliance.settings import Settings
from appliance.state.resources import Resource

FAR_S = 1e9
"""A time that does not come: nobody waits."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Seconds without use; 0: never."""

    tell_s: float
    stop_s: float
    warn_s: float


def describe(
    name: str, course: Course, rule: Rule, *, busy: bool, waited: str, now: float, unix: float
) -> tuple[Course, Shown | None]:
    """What is said of the GPUs, and what to remember; None: nothing is to be said. Pure.

    `waited`: who waits for such, in words. `unix`: what makes unix seconds of `now`.
    """
    policy = Policy(after_s=rule.stop_s if rule.stop_s and waited else FAR_S, warn_s=rule.warn_s)
    course, verdict = judge(course, policy, Look(busy="its GPU works" if busy else ""), now)
    if not isinstance(verdict, Idle | Warn | End):
        return course, None
    since = unix + verdict.since
    unused = f"its GPU has done nothing since {clock(since)}"
    if isinstance(verdict, End):
        again = f"`appliance notebook start {name}` starts it again, in its turn; the files are kept"
        return course, Shown("", since, None, reason="IdleGpu", end=f"{unused}, and {waited} waits for one; {again}")
    if isinstance(verdict, Warn):
        ends = unix + verdict.ends
        words = (
            f"it stops at {clock(ends)}, with a snapshot, unless its GPU is used: {unused}, and {waited} waits for one"
        )
        return course, Shown("", since, float(round(ends)), warning=words, reason="IdleGpuWarning")
    if rule.tell_s and now - verdict.since >= rule.tell_s:
        words = f"{unused}; `appliance notebook stop {name}` gives it to others"
        return course, Shown("", since, None, warning=words, reason="GpuUnused")
    return course, None


class IdleGpus:
    """`waited_for`: uid -> who waits for such GPUs as this one has, in words; empty: nobody."""

    def __init__(self, leases: Leases, settings: Settings, waited_for: Callable[[str], str]) -> None:
        self._leases = leases
        self._rule = Rule(settings.idle_gpu_after_s, settings.idle_gpu_stop_s, settings.idle_warn_s)
        self._waited_for = waited_for

    def look(self, notebook: Resource, course: Course, *, now: float, unix: float) -> tuple[Course, Shown | None]:
        if not (self._rule.tell_s or self._rule.stop_s) or self._leases.peek(who(notebook)).state != "granted":
            return Course(), None
        busy = self._leases.gpu_busy(notebook.uid) is not False
        waited = self._waited_for(notebook.uid)
        return describe(notebook.name, course, self._rule, busy=busy, waited=waited, now=now, unix=unix)
