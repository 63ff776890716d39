"""Who holds more of a shared card than it asked for is told, and ended where it goes on: nothing else would stop it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from appliance.scheduler import programs, records, telling
from appliance.scheduler.budgets import Budget, judge
from appliance.scheduler.sight import Sight
from appliance.state.db import Database
from appliance.state.leases import LeaseRow


class Sharing:
    def __init__(self, db: Database, sight: Sight, clock: Callable[[], float], counter: Callable[[], float]) -> None:
        self._db = db
        self._sight = sight
        self._clock = clock
        self._counter = counter
        self._budgets: dict[str, Budget] = {}
        """Lease -> how it stood at the last look; an event is written where that is another state."""

    def look(self, rows: Sequence[LeaseRow]) -> list[tuple[LeaseRow, str]]:
        """Those whose container is to be ended now, each told once, and why."""
        over = []
        budgets: dict[str, Budget] = {}
        for row in rows:
            share = records.shape_of_row(row).share
            if not share or row.state != "Held" or not row.container:
                continue
            before = self._budgets.get(row.id, Budget())
            now = budgets[row.id] = judge(share, self._used(row), before, now=self._counter())
            if now.state != before.state and now.words:
                level: Literal["warning", "error"] = "error" if now.state == "kill" else "warning"
                with self._db.write() as db:
                    telling.record(db, row, "GpuShare", now.words, now=self._clock(), level=level)
                if now.state == "kill":
                    over.append((row, now.words))
        self._budgets = budgets
        return over

    def _used(self, row: LeaseRow) -> int | None:
        """Bytes that its container holds on its cards; None: the driver does not tell."""
        used = 0
        for card in row.cards:
            processes = programs.on_card(self._sight.inventory, card)
            own = self._sight.programs.on(processes, {row.container})
            if processes is None or own is None:
                return None
            for process in processes:
                if process.pid in own:
                    if process.memory is None:
                        return None
                    used += process.memory
        return used
