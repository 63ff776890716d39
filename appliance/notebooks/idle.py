"""Whether a session may end because nobody uses it, or because its time is over. Pure.

Only what was seen counts: a row of looks that all found nothing, without a gap, and a warning that was out long enough
within that row. So a daemon that restarts, a machine that sleeps and a clock that is set end nothing: the row begins
anew. Times are of a clock that counts seconds and is never set, unless they are called unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LOOK_EVERY_S = 10.0
MOST_GAP_S = 60.0
"""After a longer time without a look nobody knows what went on: idleness is counted anew."""


@dataclass(frozen=True, slots=True)
class Policy:
    after_s: float
    """Without activity, seconds; 0: never."""
    warn_s: float
    shutdown_s: float = 0.0
    """After the session's start, whatever goes on; 0: never."""

    @property
    def any(self) -> bool:
        return bool(self.after_s or self.shutdown_s)


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at one look."""

    busy: str = ""
    """What keeps the session, in words; empty: nothing was found."""
    doubt: bool = False
    """Something may have begun just now: nothing ends at this look."""
    blind: bool = False
    """It is kept because something cannot be seen, not because something was."""


@dataclass(frozen=True, slots=True)
class Course:
    """What is remembered of the looks at one session."""

    looked: float | None = None
    since: float | None = None
    """First look of the row that found nothing."""
    warned: float | None = None
    """When the warning of this row was given."""


@dataclass(frozen=True, slots=True)
class Busy:
    why: str


@dataclass(frozen=True, slots=True)
class Idle:
    since: float
    ends: float


@dataclass(frozen=True, slots=True)
class Warn:
    since: float
    ends: float


@dataclass(frozen=True, slots=True)
class End:
    since: float


Verdict = Busy | Idle | Warn | End


def judge(course: Course, policy: Policy, look: Look, now: float) -> tuple[Course, Verdict]:
    """The verdict after a look at `now`, and what to remember. Warn stands for as long as the warning does."""
    if look.busy or not policy.after_s:
        return Course(looked=now), Busy(look.busy)
    broken = course.looked is None or not 0 <= now - course.looked <= MOST_GAP_S
    since = now if broken or course.since is None else course.since
    course = Course(looked=now, since=since, warned=None if broken else course.warned)
    warned, verdict = _count_down(since, policy.after_s, policy.warn_s, course.warned, now)
    if isinstance(verdict, End) and look.doubt:
        verdict = Warn(since, now)
    return replace(course, warned=warned), verdict


@dataclass(frozen=True, slots=True)
class Timer:
    """What is remembered of a session whose time is bounded."""

    began: float | None = None
    looked: float | None = None
    warned: float | None = None


def judge_timer(timer: Timer, policy: Policy, ran_s: float, now: float) -> tuple[Timer, Verdict]:
    """`ran_s`: how long the session has run by unix time, which counts at the first look only."""
    if not policy.shutdown_s:
        return Timer(), Busy("")
    broken = timer.looked is None or not 0 <= now - timer.looked <= MOST_GAP_S
    began = now - max(0.0, ran_s) if timer.began is None else timer.began
    warned, verdict = _count_down(began, policy.shutdown_s, policy.warn_s, None if broken else timer.warned, now)
    return Timer(began, now, warned), verdict


def _count_down(
    since: float, after_s: float, warn_s: float, warned: float | None, now: float
) -> tuple[float | None, Verdict]:
    """The warning comes at half the time at the earliest: else each short pause would be warned of."""
    warn_s = min(warn_s, after_s / 2)
    if now < since + after_s - warn_s:
        return None, Idle(since, since + after_s)
    warned = now if warned is None else warned
    ends = max(since + after_s, warned + warn_s)
    return warned, Warn(since, ends) if now < ends or warned == now else End(since)
