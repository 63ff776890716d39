"""Who has the GPUs: the only one that writes leases.

The database is the truth: each step is one transaction, nothing of it is kept beside it in memory, and a daemon that is
killed between two of them goes on from there. In memory is only what can be seen again: the containers, the programs on
the cards, the words of who waits. Where nothing changes nothing is written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.gpu.types import Fault, Inventory
from appliance.scheduler import draining, programs, records, telling, words
from appliance.scheduler.asking import Asking
from appliance.scheduler.clearing import Clearing
from appliance.scheduler.containers import Containers
from appliance.scheduler.fitting import Board, needs
from appliance.scheduler.leasing import NO_GPU
from appliance.scheduler.ledger import Ledger
from appliance.scheduler.placing import Placing
from appliance.scheduler.sharing import Sharing
from appliance.scheduler.sight import Sight, Watch
from appliance.scheduler.types import Answer, Card, Held, Policy, Request, Who
from appliance.scheduler.view import Lease, Queue, Waiting
from appliance.spec.machines import Shape, shape_of
from appliance.state import gpu_cards, leases
from appliance.state.db import Database
from appliance.state.leases import HAS_CARDS

log = logging.getLogger(__name__)

TICK_S = 1.0
LIST_S = 30.0
"""Between two listings of the containers while somebody has cards."""
LIST_SOON_S = 2.0
"""The same, while cards come free."""
MOST_FREE = 256
"""So many containers that could begin are counted at most: of small shares there may be thousands."""


def _nobody(*_: object) -> None:
    pass


class Scheduler:
    """On the event loop's thread. It is the `Leases` of the controllers and the `Gpus` of the API."""

    def __init__(
        self,
        *,
        db: Database,
        containers: Callable[[], Awaitable[Sequence[Container]]],
        watch: Watch,
        machines: Mapping[str, Shape] | None = None,
        machine: str = "",
        policy: Policy | None = None,
        forget_s: float = 120.0,
        clock: Callable[[], float] = time.time,
        counter: Callable[[], float] = time.monotonic,
        cgroup: programs.Cgroup = programs.cgroup,
    ) -> None:
        """`machine`: what a type that nobody knows gets; `forget_s`: who has cards, no container and asks for nothing
        for so long, has them no more."""
        policy, machines = policy or Policy(), machines or {}
        self._db = db
        self._machines = machines
        self._machine = machine
        self._policy = policy
        self._clock = clock
        self._counter = counter
        self.on_change: Callable[[Who], None] = _nobody
        """Its answer is another one now."""
        self.on_preempt: Callable[[Who, str], None] = _nobody
        self.on_lost: Callable[[Who, str], None] = _nobody
        """It cannot use its cards any more, for no fault of its program."""
        self.on_fault: Callable[[Who, str], None] = _nobody
        """Its program has failed on the card."""
        self.on_over: Callable[[str], None] = _nobody
        """The container with this id holds more than its share of a card and is to be ended."""
        self._containers = Containers(containers, clock, counter)
        self._ledger = Ledger(db, counter)
        self._clearing = Clearing(db, self._containers, self._ledger, clock, counter, forget_s)
        self._sight = Sight(db, watch, self._containers, counter, cgroup)
        self._placing = Placing(
            *(db, self._sight, policy, clock, counter),
            on_change=lambda who: self.on_change(who),
            on_preempt=lambda who, why: self.on_preempt(who, why),
        )
        self._asking = Asking(
            db=db,
            sight=self._sight,
            placing=self._placing,
            clearing=self._clearing,
            ledger=self._ledger,
            machines=machines,
            machine=machine,
            clock=clock,
            noticed=self.noticed,
        )
        self._stirred = asyncio.Event()
        self._list_due = True
        self._sharing = Sharing(db, self._sight, clock, counter)
        self._told_lost: set[tuple[str, str]] = set()
        self._repeats = draining.Repeats()
        watch.on_inventory.append(self._sampled)
        watch.on_fault.append(self._failed)

    # -- Leases

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
        return self._asking.ask(
            who,
            machine=machine,
            gpus=gpus,
            ready=ready,
            priority=priority,
            bound_s=bound_s,
            preemptible=preemptible,
        )

    def peek(self, who: Who) -> Answer:
        return self._asking.peek(who)

    def held(self, who: Who, container: str) -> None:
        self._asking.held(who, container)

    def release(self, who: Who, *, successor: Who | None = None) -> None:
        self._asking.release(who, successor=successor)

    def free(self, machine: str, gpus: int = 0) -> int | None:
        self._sight.look()
        shape, _ = shape_of(machine, gpus, self._machines, self._sight.shown_cards(), default=self._machine)
        return self.free_cards(shape) if records.needs(shape) else None

    def gpu_busy(self, uid: str) -> bool | None:
        return self._asking.gpu_busy(uid)

    # -- Gpus

    def snapshot(self) -> Queue:
        self._sight.look()
        rows = leases.every(self._db.read)
        byid = {one.request.id: one for one in records.held(rows)}
        asked = {one.id: one for one in records.waiting(rows)}
        held = tuple(
            Lease(byid[row.id], row.container, self._clearing.words.get(row.id, "") or row.message)
            for row in rows
            if row.id in byid
        )
        waits = self._placing.last.waits
        waiting = tuple(Waiting(asked[wait.request], wait) for wait in waits if wait.request in asked)
        faults = draining.faults(gpu_cards.newest_faults(self._db.read))
        newest, sampled_s = self._ledger.newest, self._ledger.sampled_s
        seen = self._sight
        return Queue(self._clock(), seen.inventory, seen.cards(), held, waiting, faults, newest, sampled_s)

    def cards(self) -> tuple[Card, ...]:
        """What can be leased, as it is now."""
        self._sight.look()
        return self._sight.cards()

    def drain(self, uuid: str, why: str) -> None:
        draining.known(uuid, self._sight.inventory)
        with self._db.write() as db:
            draining.drain(db, uuid, why, self._sight.inventory, self._clock())
        self._placing.place()

    def resume(self, uuid: str) -> None:
        with self._db.write() as db:
            draining.resume(db, uuid, self._sight.inventory, self._clock())
        self._sight.ask_anew()
        self._placing.place()

    def free_cards(self, shape: Shape) -> int | None:
        self._sight.look()
        if self._sight.without():
            return None
        rows = leases.every(self._db.read)
        now = self._clock()
        kept = {card for claim in self._placing.last.claims.values() for card in claim}
        cards = [card for card in self._sight.cards() if card.id not in kept]
        board = Board(cards, records.held(rows), self._policy, now)
        count = 0
        while records.needs(shape) and count < MOST_FREE and (given := board.pick(shape)):
            count += 1
            some = Request(f"free {count}", Who("notebook", "", f"free {count}"), shape)
            board.put(Held(some, given, now))
        return count

    def waited_for(self, uid: str) -> str:
        """Who waits for such a card as this notebook, run or deployment has, in words; empty: nobody."""
        rows = leases.every(self._db.read)
        mine = {card for row in rows if row.uid == uid and row.state in HAS_CARDS for card in row.cards}
        if not mine:
            return ""
        board = Board(self._sight.cards(), (), self._policy, self._clock())
        asked = {one.id: one for one in records.waiting(rows) if one.ready and one.who.uid != uid}
        queue = [asked[wait.request] for wait in self._placing.last.waits if wait.request in asked and wait.place]
        first = next((one for one in queue if any(card.id in mine for card in board.like(one.shape))), None)
        return words.who(first.who) if first else ""

    def instead(self, machine: str, gpus: int = 0) -> str:
        """What this machine gives in place of that, or why it never can; empty: just that."""
        self._sight.look()
        _, warning = shape_of(machine, gpus, self._machines, self._sight.shown_cards(), default=self._machine)
        return warning or self.never(machine, gpus)

    def never(self, machine: str, gpus: int) -> str:
        """Why this machine can never give that, in words; empty: it can, or that is not known."""
        self._sight.look()
        shape, _ = shape_of(machine, gpus, self._machines, self._sight.shown_cards(), default=self._machine)
        if not records.needs(shape) or not self._sight.known:
            return ""
        if self._sight.without():
            return NO_GPU
        board = Board(self._sight.cards(), (), self._policy, self._clock())
        like, need = len(board.like(shape)), needs(shape)
        return words.impossible(shape, need, board.cards, like) if board.cards and like < need else ""

    def health(self) -> tuple[bool, str]:
        """What the status says of the GPUs."""
        return self._sight.health()

    # -- in the background

    async def run(self) -> None:
        await self.begin()
        while True:
            self._stirred.clear()
            await self.tick()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """What was used since the last look is written down."""
        self._ledger.flush(self._clock())

    async def begin(self) -> None:
        """Adopt what was there before this daemon, and see what is free by now."""
        self._list_due = True
        for row in leases.every(self._db.read):
            if row.preempted and row.state in ("Granted", "Held"):  # a daemon that was killed may not have said it
                self.on_preempt(records.who_of_row(row), "work of a higher priority waits for its GPU")
        await self.tick()

    def noticed(self, container: str, action: str) -> None:
        """The engine told something of a container with a lease: it is looked at soon."""
        self._list_due = True
        self._stirred.set()

    async def tick(self) -> None:
        self._sight.look()
        if self._listing_due():
            self._list_due = False
            if await self._containers.look():
                self._sight.match(leases.every(self._db.read))
            else:
                self._list_due = True
                self._clearing.blind()
        self._clear()
        for row, why in self._sharing.look(leases.every(self._db.read)):
            self.on_fault(records.who_of_row(row), why)
            self.on_over(row.container)
        self._placing.place()
        now = self._clock()
        if self._ledger.due(now, busy=any(row.state in HAS_CARDS for row in leases.every(self._db.read))):
            self._ledger.flush(now)

    def _listing_due(self) -> bool:
        asked = self._containers.asked
        if asked is None:
            return True
        states = {row.state for row in leases.every(self._db.read)}
        passed = self._counter() - asked
        if "Freeing" in states and (self._list_due or passed >= LIST_SOON_S):
            return True
        return (self._list_due and self._sight.present) or (bool(states.intersection(HAS_CARDS)) and passed >= LIST_S)

    def _clear(self) -> None:
        """What is over is over: its cards are free, or somebody else's."""
        if self._containers.asked is None:
            return
        seen = self._sight
        for who in self._clearing.work(seen.inventory, seen.programs, seen.cards(), seen.lost):
            self.on_change(who)
        rows = leases.every(self._db.read)
        self._told_lost = {(lease, card) for lease, card in self._told_lost if any(row.id == lease for row in rows)}
        for row in rows:
            lost = {card: why for card in row.cards if (why := self._sight.lost.get(card))}
            for card, why in lost.items():
                if row.state == "Held" and (row.id, card) not in self._told_lost:
                    self._told_lost.add((row.id, card))
                    self.on_lost(records.who_of_row(row), f"{telling.card_name(card, self._sight.inventory)}: {why}")

    def _sampled(self, inventory: Inventory) -> None:
        if inventory is not self._sight.inventory:
            self._sight.see(inventory)
        owners = self._containers.leases()
        tenants = {pid: owners[one] for pid, one in self._sight.programs.containers.items() if one in owners}
        self._ledger.sampled(inventory, records.held(leases.every(self._db.read)), tenants)

    def _failed(self, fault: Fault) -> None:
        if self._repeats.told(fault, self._counter()):
            return
        inventory = self._sight.inventory
        touched = draining.concerned(fault, inventory)
        hit = draining.holders(leases.every(self._db.read), touched)
        try:
            with self._db.write() as db:
                draining.note(db, fault, hit, inventory, self._clock())
        except ApplianceError as error:
            log.error("a fault of a GPU is not written down: %s: %s", fault.words, error)
        if fault.kind != "note" and fault.xid != draining.KILLED_XID:
            tell = self.on_lost if fault.kind == "card" else self.on_fault
            for row in hit:
                tell(records.who_of_row(row), fault.words)
        self._stirred.set()
