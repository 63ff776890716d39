"""Where the jobs of one run stand and which may start, kept up to date change by change.

A look then costs what has changed since the last one, and not the whole run. Pure memory: it is built from the rows
once, is told of every change of a row, and `plan` asks it.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import replace
from graphlib import TopologicalSorter

from appliance.spec.models import Workflow
from appliance.state.runs import FINAL_PHASES, Mark

ACTIVE_PHASES = frozenset({"Starting", "Running"})
PASSED_PHASES = frozenset({"Succeeded", "Skipped"})
FAILED_PHASES = frozenset({"Failed", "Error"})
BLOCKING_PHASES = FINAL_PHASES - PASSED_PHASES
"""What needs a job that ended so never starts."""


class Board:
    def __init__(self, workflow: Workflow, marks: Iterable[Mark]) -> None:
        found = {mark.name: mark for mark in marks}
        self.needs = {name: tuple(dict.fromkeys(workflow.jobs[name].needs)) for name in found}
        self.needed_by: dict[str, list[str]] = {name: [] for name in found}
        for name, needs in self.needs.items():
            for need in needs:
                self.needed_by[need].append(name)
        self.rank = {name: rank for rank, name in enumerate(TopologicalSorter(self.needs).static_order())}
        """Of each job, above those of all jobs that it needs."""
        self.active: set[str] = set()
        self.doomed: set[str] = set()
        """Pending jobs with a need that has ended and not succeeded."""
        self.open = len(found)
        """How many jobs are not over."""
        self._place = {name: place for place, name in enumerate(found)}
        self._marks = {name: Mark(name, "Pending") for name in found}
        self._missing = {name: len(needs) for name, needs in self.needs.items()}
        self._ready: list[tuple[int, str]] = []
        self._waits: list[tuple[float, int, str]] = []
        self._untold: set[str] = set()
        self._told = ""
        for mark in self._marks.values():
            self._enter(mark)
        for mark in found.values():
            self.moved(mark)

    def __getitem__(self, name: str) -> Mark:
        return self._marks[name]

    def __iter__(self) -> Iterator[Mark]:
        """In the order of the file."""
        return iter(self._marks.values())

    def moved(self, mark: Mark) -> None:
        """What is stored of this job now. A job that is over stays so."""
        before = self._marks[mark.name]
        if before.phase in FINAL_PHASES:
            return
        self._leave(before)
        self._marks[mark.name] = mark
        if mark.phase in FINAL_PHASES:
            self._ended(mark)
        elif mark.phase in ACTIVE_PHASES:
            self.active.add(mark.name)
        else:
            self._enter(mark)
            if any(self._marks[need].phase in BLOCKING_PHASES for need in self.needs[mark.name]):
                self.doomed.add(mark.name)

    def startable(self, now: float) -> Iterator[str]:
        """Pending jobs whose needs have all passed and that wait for no later time, in the order of the file."""
        due = sorted((place, name) for _, place, name in self._waits[: self._due(now)])
        return (name for _, name in heapq.merge(self._ready, due))

    def count_startable(self, now: float) -> int:
        return len(self._ready) + self._due(now)

    def next_wait(self, now: float) -> float | None:
        """Unix time at which the next job may start that waits for a time."""
        later = self._waits[self._due(now) :]
        return later[0][0] if later else None

    def untold(self, message: str, now: float) -> list[str]:
        """Startable jobs that do not say `message` yet. Say it and call `tell`: each is answered once."""
        if message != self._told:
            self._untold.update(self.startable(now))
        waits = (self._marks[name] for name in self._untold)
        return [mark.name for mark in waits if mark.not_before is None or mark.not_before <= now]

    def tell(self, message: str, names: Iterable[str]) -> None:
        self._told = message
        for name in names:
            self._untold.discard(name)
            self._marks[name] = replace(self._marks[name], message=message)

    def _ended(self, mark: Mark) -> None:
        self.open -= 1
        for name in self.needed_by[mark.name]:
            if mark.phase in PASSED_PHASES:
                self._missing[name] -= 1
                self._enter(self._marks[name])
            elif self._marks[name].phase == "Pending":
                self.doomed.add(name)

    def _enter(self, mark: Mark) -> None:
        if mark.phase != "Pending" or self._missing[mark.name]:
            return
        place = self._place[mark.name]
        if mark.not_before is None:
            insort(self._ready, (place, mark.name))
        else:
            insort(self._waits, (mark.not_before, place, mark.name))
        self._untold.add(mark.name)

    def _leave(self, mark: Mark) -> None:
        self.active.discard(mark.name)
        self.doomed.discard(mark.name)
        self._untold.discard(mark.name)
        if mark.phase != "Pending" or self._missing[mark.name]:
            return
        place = self._place[mark.name]
        if mark.not_before is None:
            del self._ready[bisect_left(self._ready, (place, mark.name))]
        else:
            del self._waits[bisect_left(self._waits, (mark.not_before, place, mark.name))]

    def _due(self, now: float) -> int:
        return bisect_right(self._waits, now, key=lambda wait: wait[0])
