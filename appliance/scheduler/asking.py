"""What the rooms that run containers ask, and the rows that come of it: the scheduler's `Leases`."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from appliance.scheduler import records, words
from appliance.scheduler.clearing import Clearing
from appliance.scheduler.leasing import NO_GPU
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.placing import Placing
from appliance.scheduler.sight import LOOKING, Sight
from appliance.scheduler.types import Answer, Who
from appliance.spec.machines import Shape, shape_of
from appliance.state import leases
from appliance.state.db import Database
from appliance.state.leases import HAS_CARDS, LeaseRow

log = logging.getLogger(__name__)


class Asking:
    """`noticed` is called with a container that is to be looked at soon."""

    def __init__(
        self,
        *,
        db: Database,
        sight: Sight,
        placing: Placing,
        clearing: Clearing,
        ledger: Ledger,
        machines: Mapping[str, Shape],
        machine: str,
        clock: Callable[[], float],
        noticed: Callable[[str, str], None],
    ) -> None:
        """`machine`: what a type that nobody knows gets."""
        self._db = db
        self._sight = sight
        self._placing = placing
        self._clearing = clearing
        self._ledger = ledger
        self._machines = machines
        self._machine = machine
        self._clock = clock
        self._noticed = noticed
        self._places: dict[tuple[str, str, str], float] = {}
        """Who made way, or left a bad card -> when it had asked: it keeps its place."""

    def ask(
        self,
        who: Who,
        *,
        machine: str,
        gpus: int = 0,
        ready: bool,
        priority: int | None = None,
        bound_s: float | None = None,
        preemptible: bool | None = None,
    ) -> Answer:
        self._sight.look()
        row = self._live(who)
        if row is not None and ready and self._is_bad(row):
            self._places[records.key_of(who)] = row.asked
            self.release(who)
            row = None
        same = row is not None and (row.machine == records.ADOPTED or (row.machine, row.gpus) == (machine, gpus))
        if row is not None and same and row.state != "Waiting":
            return self._answer(self._terms(row, who, priority, bound_s, preemptible))
        shape, warning = shape_of(machine, gpus, self._machines, self._sight.shown_cards(), default=self._machine)
        if not records.needs(shape):
            self.release(who)
            return Answer("unneeded", words=warning)
        if self._sight.without():
            self.release(who)
            return Answer("waits", words=NO_GPU)
        if row is not None and not same:
            self.release(who)
            row = None
        now = self._clock()
        wanted: dict[str, Any] = {
            "name": who.name,
            "owner": who.owner,
            "shape": records.shape_document(shape),
            "priority": self._priority(who, shape, priority),
            "preemptible": shape.preemptible if preemptible is None else preemptible,
            "bound_s": bound_s,
            "message": warning,
        }
        if row is None:
            asked = min(now, self._places.pop(records.key_of(who), now))
            row = LeaseRow(
                id=uuid.uuid4().hex[:12],
                kind=who.kind,
                uid=who.uid,
                part=who.part,
                machine=machine,
                gpus=gpus,
                state="Waiting",
                asked=asked,
                ready=now if ready else None,
                **wanted,
            )
            with self._db.write() as db:
                leases.add(db, row)
        else:
            if (row.ready is not None) != ready:
                wanted["ready"] = now if ready else None
            changed = {name: value for name, value in wanted.items() if getattr(row, name) != value}
            if not changed:
                return self._answer(row)
            with self._db.write() as db:
                leases.change(db, row.id, **changed)
        self._clearing.wanted(row.id)
        self._placing.place(but=row.id)
        return self._answer(self._live(who))

    def peek(self, who: Who) -> Answer:
        return self._answer(self._live(who))

    def held(self, who: Who, container: str) -> None:
        row = self._live(who)
        if row is None or row.state not in ("Granted", "Held"):
            log.warning("container %s was made with GPUs that %s has no more", container[:12], words.who(who))
            self._noticed(container, "start")  # it is found by its label
            return
        if row.state != "Held" or row.container != container:
            with self._db.write() as db:
                leases.change(db, row.id, state="Held", container=container)

    def release(self, who: Who, *, successor: Who | None = None) -> None:
        row = self._live(who)
        if row is None:
            return
        now = self._clock()
        with self._db.write() as db:
            other = self._live(successor) if successor else None
            if other is not None and (
                other.state != "Waiting" or (other.machine, other.gpus) != (row.machine, row.gpus)
            ):
                successor = None
            if row.state in HAS_CARDS:
                leases.change(db, row.id, state="Freeing", released=now)
            else:
                leases.remove(db, row.id)
            if successor is not None:
                if other is not None:
                    leases.remove(db, other.id)
                leases.add(db, self._follower(row, successor, other))
        if row.preempted:
            self._places[records.key_of(who)] = row.asked
        if row.state in HAS_CARDS:
            self._clearing.let_go(row.id)
            self._noticed(row.container, "release")

    def gpu_busy(self, uid: str) -> bool | None:
        held = [row for row in leases.every(self._db.read) if row.uid == uid and row.state in HAS_CARDS]
        told = [self._sight.works(card) for row in held for card in row.cards]
        if True in told:
            return True
        return None if None in told else False

    def _is_bad(self, row: LeaseRow) -> bool:
        """It has a card that nothing new is put on: whoever begins anew is given another."""
        bad = {card.id for card in self._sight.cards() if card.state in ("drained", "lost")} | self._sight.lost.keys()
        return row.state in HAS_CARDS and not bad.isdisjoint(row.cards)

    def _live(self, who: Who) -> LeaseRow | None:
        row = leases.live(self._db.read, who.kind, who.uid, who.part)
        if row is not None:
            self._clearing.wanted(row.id)
        return row

    def _terms(
        self, row: LeaseRow, who: Who, priority: int | None, bound_s: float | None, preemptible: bool | None
    ) -> LeaseRow | None:
        """Of one that has its cards: what may be another without a place in the queue."""
        shape = records.shape_of_row(row)
        wanted = {
            "name": who.name,
            "owner": who.owner,
            "priority": self._priority(who, shape, priority),
            "preemptible": shape.preemptible if preemptible is None else preemptible,
            "bound_s": bound_s,
        }
        changed = {name: value for name, value in wanted.items() if getattr(row, name) != value}
        if not changed:
            return row
        with self._db.write() as db:
            if row.state in HAS_CARDS and changed.get("owner"):
                self._ledger.settle(db, row.id, self._clock())
            leases.change(db, row.id, **changed)
        return self._live(who)

    @staticmethod
    def _priority(who: Who, shape: Shape, said: int | None) -> int:
        return said if said is not None else shape.priority or records.PRIORITIES[who.kind]

    @staticmethod
    def _follower(row: LeaseRow, who: Who, other: LeaseRow | None) -> LeaseRow:
        """Who gets the cards of `row`, or its place where that still waits; `other`: what it had asked itself."""
        like = other or row
        return LeaseRow(
            id=uuid.uuid4().hex[:12],
            kind=who.kind,
            name=who.name,
            uid=who.uid,
            part=who.part,
            owner=who.owner,
            machine=row.machine,
            gpus=row.gpus,
            shape=row.shape,
            priority=like.priority,
            preemptible=like.preemptible,
            bound_s=like.bound_s,
            state="Promised" if row.state in HAS_CARDS else "Waiting",
            asked=row.asked,
            ready=like.ready,
            told=like.told,
            follows=row.id if row.state in HAS_CARDS else "",
            message=row.message,
        )

    def _answer(self, row: LeaseRow | None) -> Answer:
        if row is None:
            return Answer("none")
        if row.state in ("Granted", "Held"):
            return Answer("granted", tuple(row.cards), row.id, row.granted or 0.0, row.message)
        if row.state == "Promised":
            return Answer("waits", words=self._clearing.words.get(row.follows) or "it takes over what is being freed")
        return Answer(
            "impossible" if row.id in self._placing.never else "waits", words=self._placing.words.get(row.id, LOOKING)
        )
