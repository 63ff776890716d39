"""Whose program did not end by itself: the appliance, the engine or the machine was stopped under it. Pure.

What `appliance stop --all` stops, it marks before, so that is certain for as long as the stop of a container takes.
That command may itself be killed before it comes to it, and the program goes on: a later end is its own. A restart is
told from when the container began and ended: one that has begun before the machine did has not outlived that, and one
that was killed while the engine did not answer was killed with it.

Beyond a stop's own time only an end by a signal counts of a job, so that a program that failed in those seconds is not
excused. A service that was asked to end may do so in good order. What the kernel killed for want of memory is not
excused either.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.types import Container

BY_STOP = "interrupted: the appliance was stopped while it ran"
BY_MACHINE = "interrupted: the machine or the engine was restarted while it ran"
KILLED_CODES = frozenset({137, 143, 255})
"""SIGKILL, SIGTERM, and what the engine writes where it does not know."""
BEFORE_S = 5.0
"""So long before the engine was missed it may have begun to stop its containers."""
MOST_ABSENCES = 32
SLOW_STOP_S = 20.0
"""Beyond its grace, a stop on a busy machine may take so long until the container has ended."""


@dataclass(frozen=True, slots=True)
class Interruption:
    message: str
    at: float
    """Unix time until when it may have run."""


class Outages:
    """`booted`: when the machine began to run, unix time; 0: not known. `grace_s`: of a stop, before the kill."""

    def __init__(self, booted: float, grace_s: float) -> None:
        self._booted = booted
        self._stop_s = grace_s + SLOW_STOP_S
        self._absences: list[tuple[float, float]] = []
        """From when until when the engine did not answer, the last ones."""

    def lost(self, at: float) -> None:
        """The engine does not answer."""
        if not self._absences or self._absences[-1][1] != float("inf"):
            self._absences = [*self._absences[1 - MOST_ABSENCES :], (at, float("inf"))]

    def back(self, at: float) -> None:
        """It answers again; whatever it stopped has ended before."""
        if self._absences and self._absences[-1][1] == float("inf"):
            self._absences[-1] = (self._absences[-1][0], at)

    def of(self, container: Container, stopped: float | None, *, service: bool = False) -> Interruption | None:
        """Of a container that has ended. None: it ended by itself, or nobody knows better.

        `stopped`: when it was about to be stopped with the appliance, unix seconds. `service`: it never ends of its
        own accord in good order.
        """
        finished, code = container.finished, container.exit_code
        if container.oom_killed or finished is None:
            return None
        killed = code in KILLED_CODES or (service and code == 0)
        if stopped is not None and stopped <= finished and (killed or finished <= stopped + self._stop_s):
            return Interruption(BY_STOP, stopped)
        if container.started is None:
            return None
        if container.started < self._booted and (killed or service):
            # told after the boot, the end is the engine's guess
            return Interruption(BY_MACHINE, finished if finished < self._booted else container.started)
        if killed and any(lost - BEFORE_S <= finished <= back for lost, back in self._absences):
            return Interruption(BY_MACHINE, finished)
        return None


def boot_time(stat: str) -> float:
    """Of the text of /proc/stat."""
    found = [line.split()[1] for line in stat.splitlines() if line.startswith("btime ")]
    return float(found[0]) if found else 0.0
