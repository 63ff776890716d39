"""What each holder of GPUs has had of them, gathered from the samples and written as rows of an hour.

Seconds held come from the lease itself and are exact, also over a time in which no daemon ran: `counted` of a lease
says until when they are in the ledger, and both are written in one transaction. What only a sample tells (seconds
used, memory, energy) is lost for the time in which nobody looked, and of a daemon that is killed for up to FLUSH_S.

A GPU-second is one of a whole GPU: an instance counts as its slices, a shared card as the memory that was promised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from appliance.gpu.types import Inventory
from appliance.scheduler.attribution import IDLE, SLICES, UNATTRIBUTED, Share, shares, slices
from appliance.scheduler.types import Held, Who
from appliance.state import leases, ledger
from appliance.state.db import Connection, Database
from appliance.state.ledger import HOUR_S, Entry

FLUSH_S = 30.0
DRIFT_S = 5.0
IDLE_FLUSH_S = 600.0
"""The same, where nobody holds a card: a disk that sleeps may go on to."""

Key = tuple[int, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Profile:
    """As much of a shape as tells which part of a card it is."""

    mig: str = ""
    share: int = 0
    memory: int | None = None
    """Bytes of the card, where known."""


class Ledger:
    """On the event loop's thread."""

    def __init__(self, db: Database, counter: Callable[[], float] | None = None) -> None:
        """`counter` counts seconds and is never set: by it the time does not count by which somebody sets the clock."""
        self._db = db
        self._counter = counter
        self._ahead: float | None = None
        """By how much the clock was ahead of the counter at the last flush, seconds."""
        self._before: Inventory | None = None
        self._pending: dict[Key, Entry] = {}
        self._flushed: float | None = None
        self.newest: tuple[Share, ...] = ()
        """What the last two samples came to, for whoever shows who uses what at present."""
        self.sampled_s = 0.0
        """So far those were apart."""

    def sampled(self, inventory: Inventory, held: Sequence[Held], tenants: Mapping[int, str]) -> None:
        """A fresh look at the cards, and who has held them since the one before. Writes nothing.

        `tenants`: pid -> id of the lease of the container that it runs in.
        """
        if not inventory.devices:
            return  # a driver that is away for a moment: the counters go on behind it
        before, self._before = self._before, inventory
        if before is None or inventory.at == before.at:
            return
        self.sampled_s = inventory.at - before.at
        self.newest = shares(before, inventory, held, tenants)
        whose = {lease.request.id: lease.request.who for lease in held}
        for share in self.newest:
            self._put(entry(share, whose.get(share.lease), inventory.at))

    def due(self, now: float, *, busy: bool) -> bool:
        """`busy`: somebody holds a card."""
        if self._flushed is None or now < self._flushed:
            self._flushed = now
        if self._ahead is None and self._counter:
            self._ahead = now - self._counter()
        return now - self._flushed >= (FLUSH_S if busy else IDLE_FLUSH_S)

    def flush(self, now: float) -> None:
        """One transaction. Where it fails, all of it stays for the next one."""
        pending = list(self._pending.values())
        with self._db.write() as db:
            if pending:
                ledger.add(db, pending)
            for row in leases.every(db):
                if row.state in leases.HAS_CARDS:
                    self._settle(db, row, now)
        self._pending.clear()
        self._flushed = now
        if self._counter:
            self._ahead = now - self._counter()

    def settle(self, db: Connection, lease: str, until: float) -> None:
        """The last of a lease's time, in the transaction in which its row goes. No lease of this id: nothing."""
        if row := leases.find(db, lease):
            self._settle(db, row, until)

    def _settle(self, db: Connection, row: leases.LeaseRow, until: float) -> None:
        since = row.granted if row.counted is None else row.counted
        if since is None:
            return
        moved = self._set_by(until)
        seconds = until - since - moved
        if seconds > 0:
            ledger.add(db, held(row, until - seconds, until, self._memories(row.cards)))
        if seconds > 0 or moved:
            leases.change(db, row.id, counted=until)

    def _set_by(self, now: float) -> float:
        """Seconds by which somebody has set the clock since the last flush; what a clock drifts by is none."""
        if self._counter is None or self._ahead is None:
            return 0.0
        moved = now - self._counter() - self._ahead
        return moved if abs(moved) > DRIFT_S else 0.0

    def _memories(self, cards: Sequence[str]) -> Mapping[str, int | None]:
        devices = self._before.devices if self._before else ()
        return {device.uuid: device.memory for device in devices if device.uuid in cards}

    def _put(self, one: Entry) -> None:
        key = (one.hour, one.device, one.kind, one.uid, one.part, one.owner)
        there = self._pending.get(key)
        self._pending[key] = one if there is None else added(there, one)


def held(row: leases.LeaseRow, since: float, until: float, memories: Mapping[str, int | None]) -> list[Entry]:
    """A row for each card and hour. GPU-seconds."""
    mig, share = str(row.shape.get("mig", "")), int(row.shape.get("share", 0))
    return [
        Entry(hour, card, row.kind, row.name, row.uid, row.part, row.owner, held_s=seconds * part)
        for card in row.cards
        for part in (part_of(Profile(mig, share, memories.get(card))),)
        for hour, seconds in hours(since, until)
    ]


def part_of(profile: Profile) -> float:
    """Of a whole GPU."""
    if profile.mig:
        return min(1.0, slices(profile.mig) / SLICES)
    if profile.share and profile.memory:
        return min(1.0, profile.share / profile.memory)
    return 1.0


def hours(since: float, until: float) -> Iterator[tuple[int, float]]:
    """Each hour's beginning and the seconds of it that lie between."""
    hour = int(since // HOUR_S) * HOUR_S
    while hour < until:
        yield hour, min(until, hour + HOUR_S) - max(since, hour)
        hour += HOUR_S


def entry(share: Share, who: Who | None, at: float) -> Entry:
    """Counted to the hour in which the sample ended. The owner of what is nobody's stands in brackets."""
    if who is None:
        kind = share.lease if share.lease in (IDLE, UNATTRIBUTED) else UNATTRIBUTED
        who_is = (kind, "", "", "", f"({kind})")
    else:
        who_is = (who.kind, who.name, who.uid, who.part, who.owner)
    return Entry(
        int(at // HOUR_S) * HOUR_S,
        share.card,
        *who_is,
        used_s=share.used_s,
        memory_gb_s=share.memory_gb_s,
        energy_j=share.energy_j,
        measured=share.measured,
    )


def added(one: Entry, other: Entry) -> Entry:
    """What is None on both sides stays unknown."""
    return replace(
        one,
        name=other.name,
        held_s=one.held_s + other.held_s,
        used_s=_sum(one.used_s, other.used_s),
        memory_gb_s=_sum(one.memory_gb_s, other.memory_gb_s),
        energy_j=_sum(one.energy_j, other.energy_j),
        measured=one.measured and other.measured,
    )


def _sum(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
