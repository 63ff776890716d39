"""The health of cards: what a fault means for whom, and which cards nothing new is put on until somebody says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from appliance.errors import Conflict, NotFound
from appliance.gpu.types import Fault, Inventory
from appliance.scheduler import telling
from appliance.state import events, gpu_cards
from appliance.state.db import Connection
from appliance.state.gpu_cards import Drained, FaultRow
from appliance.state.leases import HAS_CARDS, LeaseRow

SAME_S = 60.0
"""A fault that comes again within this time is not told again: a card that dies may tell hundreds."""
LOST_S = 5.0
"""A card that does not answer for so long is lost to whoever holds it; for less, it was only slow."""
KILLED_XID = 45
"""The driver tells it of every program that is killed: by itself it says nothing."""


@dataclass
class Repeats:
    """Which faults were told lately. Seconds of a counter."""

    _told: dict[tuple[object, ...], float] = field(default_factory=dict)

    def told(self, fault: Fault, now: float) -> bool:
        key = (fault.uuid, fault.gi, fault.kind, fault.xid)
        before = self._told.get(key)
        self._told = {key: at for key, at in self._told.items() if now - at < SAME_S} | {key: now}
        return before is not None and now - before < SAME_S


def concerned(fault: Fault, inventory: Inventory) -> tuple[str, ...]:
    """UUIDs of what can be leased and is hit by it: of a split card its instances, or the one that the fault names."""
    device = next((one for one in inventory.devices if one.uuid == fault.uuid), None)
    if device is None or not device.migs:
        return (fault.uuid,)
    some = tuple(mig.uuid for mig in device.migs if fault.gi is not None and mig.gi == fault.gi)
    return some or (fault.uuid, *(mig.uuid for mig in device.migs))


def holders(rows: Sequence[LeaseRow], cards: Sequence[str]) -> list[LeaseRow]:
    return [row for row in rows if row.state in HAS_CARDS and not set(cards).isdisjoint(row.cards)]


def note(db: Connection, fault: Fault, hit: Sequence[LeaseRow], inventory: Inventory, now: float) -> None:
    """Remember it and tell it: those who are on the card, or everybody."""
    gpu_cards.add_fault(db, FaultRow(now, fault.uuid, fault.kind, fault.words, fault.xid, fault.gi))
    if fault.xid == KILLED_XID and fault.kind != "card":
        return
    name = telling.card_name(fault.uuid, inventory)
    if fault.kind == "card":
        touched = concerned(fault, inventory)
        target = touched[0] if fault.gi is not None and len(touched) == 1 else fault.uuid
        drain(db, target, fault.words, inventory, now, stays="what runs there is moved where that can be")
    elif not hit or fault.kind == "note":
        level: events.Level = "info" if fault.kind == "note" else "warning"
        telling.record_card(db, "GpuFault", f"{name}: {fault.words}", now=now, level=level)
    if fault.kind != "note":
        for row in hit:
            if row.kind == "run":
                continue  # whoever runs jobs tells it of them
            telling.record(db, row, "GpuFault", f"{name}: {fault.words}", now=now, level="warning")


def drain(
    db: Connection, uuid: str, why: str, inventory: Inventory, now: float, *, stays: str = "what runs there goes on"
) -> bool:
    """Nothing new is put there, also after a restart. False: so it was before.

    `stays`: what becomes of who is there.
    """
    if not gpu_cards.drain(db, Drained(uuid, why, now)):
        return False
    words = (
        f"{telling.card_name(uuid, inventory)}: {why}; nothing new is put on it, {stays}; "
        f"`appliance gpu resume {uuid}` gives it again"
    )
    telling.record_card(db, "CardDrained", words, now=now, level="warning")
    return True


def resume(db: Connection, uuid: str, inventory: Inventory, now: float) -> None:
    """Raises NotFound, and Conflict where it still does not answer."""
    lost = next((one.lost for one in inventory.devices if one.lost and uuid in _ids(one.uuid, inventory)), "")
    if lost:
        raise Conflict(
            f"{telling.card_name(uuid, inventory)} does not answer: {lost}",
            where="gpus",
            hint="reset the card or restart the machine first",
        )
    if not gpu_cards.resume(db, uuid):
        known(uuid, inventory)
        return  # it is given already
    words = f"{telling.card_name(uuid, inventory)} is given again"
    telling.record_card(db, "CardBack", words, now=now)


def known(uuid: str, inventory: Inventory) -> None:
    """Raises NotFound where it is neither a card nor an instance of one."""
    if not any(uuid in _ids(device.uuid, inventory) for device in inventory.devices):
        raise NotFound(f"there is no GPU {uuid}", where="gpus", hint="`appliance gpu list` shows their UUIDs")


def _ids(uuid: str, inventory: Inventory) -> tuple[str, ...]:
    device = next(one for one in inventory.devices if one.uuid == uuid)
    return (uuid, *(mig.uuid for mig in device.migs))


@dataclass
class Absences:
    """Since when cards do not answer. Seconds of a counter."""

    _since: dict[str, float] = field(default_factory=dict)

    def look(self, inventory: Inventory, cards: Sequence[str], now: float) -> Mapping[str, str]:
        """Of these cards those that are lost, and why in words.

        A driver that tells of no card, or of none that it can read, says nothing of a single one.
        """
        if all(device.lost for device in inventory.devices) and not any(
            card in _ids(device.uuid, inventory) for device in inventory.devices for card in cards
        ):
            return {}
        there = {uuid: device.lost for device in inventory.devices for uuid in _ids(device.uuid, inventory)}
        bad = {card: why for card in cards if (why := there.get(card, "it is not there any more"))}
        self._since = {card: self._since.get(card, now) for card in bad}
        return {card: bad[card] for card, since in self._since.items() if now - since >= LOST_S}


def faults(rows: Sequence[FaultRow]) -> tuple[Fault, ...]:
    return tuple(Fault(row.at, row.uuid, row.kind, row.words, row.xid, row.gi) for row in rows)  # type: ignore[arg-type]
