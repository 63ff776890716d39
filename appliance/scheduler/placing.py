"""Gives what can be given, and tells who waits why: each placement is one transaction with its events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from math import inf
from statistics import median

from appliance.errors import Conflict
from appliance.scheduler import records, telling, words
from appliance.scheduler.fitting import Board, needs
from appliance.scheduler.placement import place
from appliance.scheduler.sight import Sight
from appliance.scheduler.types import Placement, Policy, Who
from appliance.state import gpu_cards, leases, ledger
from appliance.state.db import Database
from appliance.state.leases import HAS_CARDS, LeaseRow

log = logging.getLogger(__name__)

TOLD_S = 10.0
"""Between two tellings of other words to who waits all the same."""
USED_S = 30.0
"""Between two looks at what the owners have had."""
FADED_S = 10 * records.HALF_LIFE_S


class Placing:
    def __init__(
        self,
        db: Database,
        sight: Sight,
        policy: Policy,
        clock: Callable[[], float],
        counter: Callable[[], float],
        on_change: Callable[[Who], None],
        on_preempt: Callable[[Who, str], None],
    ) -> None:
        self._db = db
        self._sight = sight
        self._policy = policy
        self._clock = clock
        self._counter = counter
        self._on_change = on_change
        self._on_preempt = on_preempt
        self.words: dict[str, str] = {}
        """Request -> why it waits."""
        self.last = Placement()
        self.never: frozenset[str] = frozenset()
        """Requests that this machine cannot fulfil, were all cards well and free."""
        self._shown: dict[str, str] = {}
        """Request -> what who waits was told last, and when by the counter."""
        self._told: dict[str, float] = {}
        self._used: tuple[float, Mapping[str, float]] | None = None

    def place(self, but: str = "") -> None:
        """Give what can be given. `but`: who asks at this moment, and needs no telling."""
        rows = leases.every(self._db.read)
        requests = records.waiting(rows)
        if not requests and not self.words:
            self.last = Placement()
            return
        by_id = {row.id: row for row in rows}
        if why := self._sight.cannot():
            self._told.clear()  # what is said from now on is of another kind
            self._tell({one.id: why for one in requests}, by_id, but)
            self._told.clear()
            return
        now = self._clock()
        leaving = {row.id for row in rows if row.preempted and row.state in HAS_CARDS}
        held = records.held(rows)
        cards = self._sight.cards()
        found = place(
            *(cards, held, requests, self._faded(now), self._policy),
            now=now,
            expected=self._expected(rows),
            leaving=leaving,
        )
        granted = self._grant(found, by_id, now)
        self.last = found
        board = Board(cards, (), self._policy, now)
        beside = [asked for asked in requests if any(w.request == asked.id and not w.place for w in found.waits)]
        self.never = frozenset(one.id for one in beside if len(board.like(one.shape)) < needs(one.shape))
        asked = {one.id: one for one in requests}
        self._tell({one.request: words.said(one, asked[one.request], now) for one in found.waits}, by_id, but)
        for one in granted:
            if one.id != but:
                self._on_change(records.who_of_row(one))
        for preempt in found.preempts:
            if preempt.request in by_id:
                with self._db.write() as db:
                    leases.change(db, preempt.request, preempted=1)
                self._on_preempt(records.who_of_row(by_id[preempt.request]), preempt.words)

    def _grant(self, found: Placement, rows: Mapping[str, LeaseRow], now: float) -> list[LeaseRow]:
        """One transaction with the events; also of who is told for the first time that it waits."""
        asked = {wait.request: wait for wait in found.waits}
        fresh = [rows[one] for one in asked if one in rows and not rows[one].told and rows[one].ready is not None]
        granted: list[LeaseRow] = []
        if not found.grants and not fresh:
            return granted
        with self._db.write() as db:
            for grant in found.grants:
                row = rows[grant.request]
                try:
                    leases.take(db, row.id, grant.cards, alone=not records.shape_of_row(row).share)
                except Conflict as error:
                    log.error("%s", error)
                    continue
                leases.change(db, row.id, state="Granted", granted=now, counted=now)
                given = telling.card_names(grant.cards, self._sight.inventory)
                since = f" after {telling.span(now - row.asked)}" if row.told else ""
                more = f"; {row.message}" if row.message else ""
                telling.record(db, row, "Granted", f"has {given}{since}{more}", now=now)
                granted.append(row)
            for row in fresh:
                leases.change(db, row.id, told=1)
                sentence = words.said(asked[row.id], records.request(row), now)
                telling.record(db, row, "Waits", sentence, now=now)
        return granted

    def _tell(self, said: Mapping[str, str], rows: Mapping[str, LeaseRow], but: str) -> None:
        """Each grant changes the place of all who wait: those who were told lately are told of it later."""
        before, self.words = self.words, dict(said)
        now = self._counter()
        self._told = {request: at for request, at in self._told.items() if request in said}
        for request, sentence in said.items():
            if self._shown.get(request) == sentence or request not in rows:
                continue
            if request != but and before.get(request) and now - self._told.get(request, -inf) < TOLD_S:
                continue
            self._told[request], self._shown[request] = now, sentence
            if request != but:
                self._on_change(records.who_of_row(rows[request]))
        self._shown = {request: sentence for request, sentence in self._shown.items() if request in said}

    def _expected(self, rows: Sequence[LeaseRow]) -> Mapping[str, float]:
        found = {}
        for row in rows:
            if (key := records.again_and_again(row)) and (lately := gpu_cards.durations(self._db.read, key)):
                found[row.id] = median(lately)
        return found

    def _faded(self, now: float) -> Mapping[str, float]:
        counter = self._counter()
        if self._used is None or counter - self._used[0] >= USED_S:
            had = ledger.held_by_owner(self._db.read, since=now - FADED_S)
            self._used = (counter, records.faded(((one, hour + ledger.HOUR_S / 2, s) for one, hour, s in had), now))
        return self._used[1]
