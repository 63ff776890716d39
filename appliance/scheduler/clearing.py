"""What ends leases: a container that is gone, an owner that has forgotten it, a card that is lost before it was used.

And what begins one behind the scheduler's back: a container with a label of a lease that nobody knows, as after a
backup was restored. It is adopted with its cards, for they are not free, whatever the rows say.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from appliance.engine.labels import GPUS, Owner, owner_of
from appliance.engine.types import Container
from appliance.gpu.types import Inventory
from appliance.scheduler import programs, records, telling
from appliance.scheduler.containers import Containers
from appliance.scheduler.freeing import Freeing, free
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.programs import Programs
from appliance.scheduler.types import LOCAL, Card, Who
from appliance.state import events, gpu_cards, leases
from appliance.state.db import Connection, Database
from appliance.state.leases import LeaseRow

log = logging.getLogger(__name__)

WAITING_FORGET = 3
"""Who only waits is forgotten after so many times the time after which who has cards is."""
_RUNS = ("running", "paused", "restarting")
_KINDS = ("notebook", "execution", "run", "deployment")
UNKNOWN_END = "whether its container is gone is not known yet"


class Clearing:
    def __init__(
        self,
        db: Database,
        containers: Containers,
        ledger: Ledger,
        clock: Callable[[], float],
        counter: Callable[[], float],
        forget_s: float,
    ) -> None:
        self._db = db
        self._containers = containers
        self._ledger = ledger
        self._clock = clock
        self._counter = counter
        self._forget_s = forget_s
        self._began = counter()
        self._wanted: dict[str, float] = {}
        """Lease -> when its owner asked last, in seconds of the counter."""
        self._released: dict[str, float] = {}
        self.words: dict[str, str] = {}
        """Lease -> why it is still there though it was let go."""

    def wanted(self, lease: str) -> None:
        self._wanted[lease] = self._counter()

    def let_go(self, lease: str) -> None:
        """What the engine told before this moment says nothing of a container that was being made then."""
        self._released[lease] = self._counter()

    def blind(self) -> None:
        """The engine does not answer: whoever cannot ask for that reason is not forgotten meanwhile."""
        self._began = self._counter()
        self._wanted.clear()

    def work(self, inventory: Inventory, seen: Programs, cards: Sequence[Card], lost: Mapping[str, str]) -> list[Who]:
        """Who has another answer now. Each step is a transaction of its own."""
        changed = [*self._adopt(), *self._forget()]
        rows = leases.every(self._db.read)
        self.words = {lease: told for lease, told in self.words.items() if any(row.id == lease for row in rows)}
        bad = {card.id: card.why or card.state for card in cards if card.state == "drained"} | dict(lost)
        for row in rows:
            if row.state == "Freeing":
                changed += self._free(row, inventory, seen, bad)
            elif row.state == "Granted" and (why := next((bad[card] for card in row.cards if card in bad), "")):
                changed += self._take_back(row, why, inventory)
            elif row.state == "Promised" and not any(other.id == row.follows for other in rows):
                with self._db.write() as db:
                    leases.change(db, row.id, state="Waiting", follows="")
        return changed

    # -- containers with a label

    def _adopt(self) -> Iterator[Who]:
        rows = {row.id: row for row in leases.every(self._db.read)}
        for lease, found in self._containers.found.items():
            row = rows.get(lease)
            running = next((one for one in found if one.state in _RUNS), None)
            if row is None and running is not None:
                yield from self._take_in(lease, running)
            elif row is not None and row.state == "Granted" and found:
                # it was made, and the daemon killed before it could be told
                with self._db.write() as db:
                    leases.change(db, row.id, state="Held", container=(running or found[0]).id)

    def _take_in(self, lease: str, container: Container) -> Iterator[Who]:
        owner = owner_of(container.labels)
        cards = tuple(card for card in container.labels.get(GPUS, "").split(",") if card)
        if owner is None or owner.kind not in _KINDS or not cards:
            return
        now = self._clock()
        begun = min(container.started or now, now)
        part = _part_of(owner)
        live = leases.live(self._db.read, owner.kind, owner.uid, part)
        # of two whose containers both run the one that is written down stays the owner's
        late = live is not None and live.state == "Held" and self._containers.life(live) == "running"
        row = LeaseRow(
            id=lease,
            kind=owner.kind,
            name=owner.name,
            uid=owner.uid,
            part=part,
            owner=LOCAL,
            machine=records.ADOPTED,
            gpus=len(cards),
            shape={"gpus": len(cards)},
            priority=records.PRIORITIES[owner.kind],  # type: ignore[index]  # one of _KINDS
            preemptible=False,
            bound_s=None,
            state="Freeing" if late else "Held",
            asked=begun,
            ready=begun,
            granted=now,
            released=now if late else None,
            counted=now,
            container=container.id,
            told=True,
            cards=cards,
        )
        with self._db.write() as db:
            if live is not None and not late:
                self._give_way(db, live, now)
            leases.add(db, row)
            leases.adopt(db, lease, cards)
            words = f"its container {container.id[:12]} has GPUs that nobody had written down; they are its own"
            telling.record(db, row, "Adopted", words, now=now, level="warning")
        log.warning("container %s has GPUs of lease %s, which nobody knew: adopted", container.id[:12], lease)
        yield records.who_of_row(row)

    def _give_way(self, db: Connection, live: LeaseRow, now: float) -> None:
        """What it asked for, or had in another life, it has in its container already."""
        if live.state in leases.HAS_CARDS:
            leases.change(db, live.id, state="Freeing", released=now)
            self.let_go(live.id)
        else:
            leases.remove(db, live.id)

    # -- owners that do not ask any more

    def _forget(self) -> Iterator[Who]:
        """A lease whose container runs is never forgotten; nor one that is let go, which has its own end."""
        rows = leases.every(self._db.read)
        self._wanted = {lease: at for lease, at in self._wanted.items() if any(row.id == lease for row in rows)}
        for row in rows:
            silent = self._counter() - self._wanted.get(row.id, self._began)
            if row.state in ("Waiting", "Promised"):
                if silent >= WAITING_FORGET * self._forget_s:
                    with self._db.write() as db:
                        leases.remove(db, row.id)
                    yield records.who_of_row(row)
            elif silent >= self._forget_s and row.state != "Freeing" and self._containers.life(row) != "running":
                with self._db.write() as db:
                    leases.change(db, row.id, state="Freeing", released=self._clock())
                self.let_go(row.id)
                yield records.who_of_row(row)

    # -- cards that come free

    def _free(self, row: LeaseRow, inventory: Inventory, seen: Programs, bad: Mapping[str, str]) -> Sequence[Who]:
        found = self._judge(row, inventory, seen)
        if not found.free:
            self.words[row.id] = found.words
            return ()
        now = self._clock()
        follower = next((one for one in leases.every(self._db.read) if one.follows == row.id), None)
        told: list[Who] = []
        with self._db.write() as db:
            self._ledger.settle(db, row.id, now)
            if row.container and row.granted is not None and (key := records.again_and_again(row)):
                gpu_cards.add_duration(db, key, max(0.0, (row.released or now) - row.granted))
            names = telling.card_names(row.cards, inventory)
            had = f" after {telling.span(now - row.granted)}" if row.granted is not None else ""
            if follower is not None:
                self._pass_on(db, row, follower, inventory, bad, now)
                told.append(records.who_of_row(follower))
            leases.remove(db, row.id)
            words = f"gives back {names}{had}" + (f"; {found.words}" if found.words else "")
            level: events.Level = "warning" if found.words else "info"
            telling.record(db, row, "Freed", words, now=now, level=level)
        self.words.pop(row.id, None)
        return told

    def _judge(self, row: LeaseRow, inventory: Inventory, seen: Programs) -> Freeing:
        asked = self._containers.asked
        if asked is None or asked < self._released.get(row.id, float("-inf")):
            return Freeing(False, self._containers.trouble or UNKNOWN_END)
        life = self._containers.life(row)
        if life == "running":
            return free(container=life, pids=(), since=0.0, now=0.0)
        if self._containers.trouble:
            return Freeing(False, self._containers.trouble)
        end = self._containers.end(row)
        return free(
            container=life, pids=self._pids(row, inventory, seen, end.clock), since=end.counter, now=self._counter()
        )

    def _pids(self, row: LeaseRow, inventory: Inventory, seen: Programs, end: float) -> Sequence[int] | None:
        """Programs of its containers on its cards; None: a look from before its end says nothing of them."""
        if inventory.at < end:
            return None
        ours = self._containers.of(row)
        found: list[int] = []
        blind = False
        for card in row.cards:
            pids = seen.on(programs.on_card(inventory, card), ours)
            blind |= pids is None
            found += pids or ()
        return None if blind and not found else sorted(set(found))

    @staticmethod
    def _pass_on(
        db: Connection,
        row: LeaseRow,
        follower: LeaseRow,
        inventory: Inventory,
        bad: Mapping[str, str],
        now: float,
    ) -> None:
        if any(card in bad for card in row.cards):
            leases.change(db, follower.id, state="Waiting", follows="")
            return
        leases.hand_over(db, row.id, follower.id)
        leases.change(db, follower.id, state="Granted", follows="", granted=now, counted=now)
        words = f"takes over {telling.card_names(row.cards, inventory)}"
        telling.record(db, follower, "Granted", words, now=now)

    def _take_back(self, row: LeaseRow, why: str, inventory: Inventory) -> Sequence[Who]:
        """No container has it yet. The request goes on under another id: a container that is being made has the old."""
        now = self._clock()
        waiting = replace(row, state="Waiting", granted=None, counted=None, cards=(), preempted=False)
        again = replace(waiting, id=uuid.uuid4().hex[:12])
        with self._db.write() as db:
            self._ledger.settle(db, row.id, now)
            leases.remove(db, row.id)
            leases.add(db, again)
            words = f"does not get {telling.card_names(row.cards, inventory)} after all: {why}; it waits for another"
            telling.record(db, row, "TakenBack", words, now=now, level="warning")
        self.wanted(again.id)
        return (records.who_of_row(row),)


def _part_of(owner: Owner) -> str:
    """As whoever runs the container calls it when it asks for GPUs."""
    if owner.kind == "deployment":  # GENERATION-INDEX-..., and what it was made from
        return f"{owner.digest}-{[*owner.part.split('-'), ''][1]}"
    return owner.part if owner.kind == "run" else ""
