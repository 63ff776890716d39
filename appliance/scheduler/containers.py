"""What the engine says of the containers that have leases. It is asked when something depends on it, not all the time.

A container is found by its label, so one that was made just before the daemon was killed is found too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.scheduler.leasing import LEASE
from appliance.state.leases import LeaseRow

Life = Literal["running", "ended", "gone"]
MADE_S = 60.0
"""A container that was made and is not started may be at any moment; after so long nobody will."""
_RUNS = ("running", "paused", "restarting", "removing")


@dataclass(frozen=True, slots=True)
class End:
    """When a lease was first seen without a container that runs."""

    counter: float
    clock: float


class Containers:
    def __init__(
        self,
        every: Callable[[], Awaitable[Sequence[Container]]],
        clock: Callable[[], float],
        counter: Callable[[], float],
    ) -> None:
        self._every = every
        self._clock = clock
        self._counter = counter
        self.asked: float | None = None
        """When the newest listing that was answered was asked for, in seconds of the counter; None: never."""
        self.trouble = ""
        """Why the engine did not answer last; empty: it did."""
        self.found: dict[str, list[Container]] = {}
        """Lease -> its containers."""
        self._states: dict[str, str] = {}
        self._seen: dict[str, str] = {}
        """Container -> its lease, also of those that are gone: their last programs may not be."""
        self._made: dict[str, float] = {}
        self._ends: dict[str, End] = {}

    async def look(self) -> bool:
        """False: the engine did not answer, and what was known stays."""
        asked = self._counter()
        try:
            listed = await self._every()
        except ApplianceError as error:
            self.trouble = error.message
            return False
        self.trouble, self.asked = "", asked
        self.found = {}
        for container in listed:
            if lease := container.labels.get(LEASE, ""):
                self.found.setdefault(lease, []).append(container)
                self._seen[container.id] = lease
        self._states = {container.id: container.state for container in listed}
        made = {one for one, state in self._states.items() if state == "created" and one in self._seen}
        self._made = {one: self._made.get(one, asked) for one in made}
        return True

    def remember(self, rows: Sequence[LeaseRow]) -> None:
        """Which of them are of a lease; what is known of leases that are over is forgotten."""
        ids = {row.id for row in rows}
        self._seen = {one: lease for one, lease in self._seen.items() if lease in ids or one in self._states}
        self._seen |= {row.container: row.id for row in rows if row.container}
        self._ends = {lease: end for lease, end in self._ends.items() if lease in ids}

    def leases(self) -> dict[str, str]:
        """Container -> lease."""
        return dict(self._seen)

    def of(self, row: LeaseRow) -> set[str]:
        return {one for one, lease in self._seen.items() if lease == row.id} | ({row.container} - {""})

    def life(self, row: LeaseRow) -> Life:
        """Of all containers of a lease together, as of the newest listing."""
        states = {one: self._states[one] for one in self.of(row) if one in self._states}
        if any(state in _RUNS or self._may_start(one, state) for one, state in states.items()):
            self._ends.pop(row.id, None)
            return "running"
        return "ended" if states else "gone"

    def _may_start(self, container: str, state: str) -> bool:
        return state == "created" and self._counter() - self._made.get(container, self._counter()) < MADE_S

    def end(self, row: LeaseRow) -> End:
        """Of a lease whose containers do not run."""
        return self._ends.setdefault(row.id, End(self._counter(), self._clock()))
