"""Jobs whose program did not end by itself, and whether that burns one of their attempts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.interrupted import BY_MACHINE, Outages
from appliance.engine.types import Container
from appliance.state.runs import Job

MOST_UNCOUNTED = 3
"""Restarts of the machine that burn no attempt of a job: one that brings it down each time must come to an end."""


@dataclass(frozen=True, slots=True)
class Interruption:
    message: str
    at: float
    """Unix time until when it may have run: what it was allowed is judged by that."""
    counts: bool = False
    """It burns an attempt."""


class Interruptions:
    """`booted`: when the machine began to run, unix time; 0: not known. `grace_s`: of a stop, before the kill."""

    def __init__(self, booted: float, grace_s: float) -> None:
        self._outages = Outages(booted, grace_s)

    def lost(self, at: float) -> None:
        """The engine does not answer."""
        self._outages.lost(at)

    def back(self, at: float) -> None:
        """It answers again; whatever it stopped has ended before."""
        self._outages.back(at)

    def of(self, job: Job, container: Container) -> Interruption | None:
        """Of a container that has ended. None: it ended by itself, or nobody knows better."""
        found = self._outages.of(container, job.stopped)
        if found is None:
            return None
        counts = found.message == BY_MACHINE and job.interrupted >= MOST_UNCOUNTED
        return Interruption(found.message, found.at, counts)
