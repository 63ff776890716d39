"""What is seen of the cards and of what runs on them: by the driver's last answer and the engine's last listing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from appliance.gpu.types import Device, Fault, Inventory, Mig
from appliance.scheduler import draining, programs, telling
from appliance.scheduler.cards import cards as cards_of
from appliance.scheduler.containers import Containers
from appliance.scheduler.leasing import NO_GPU
from appliance.scheduler.programs import Programs
from appliance.scheduler.types import Card
from appliance.state import gpu_cards, leases
from appliance.state.db import Database
from appliance.state.leases import HAS_CARDS, LeaseRow

STALE_S = 30.0
"""Who has told nothing of the cards for so long does not know them: nobody is given one."""
BUSY_S = 10.0
"""A card on which a kernel ran within this time works."""
LOOKING = "the GPUs of this machine are being looked at"


class Watch(Protocol):
    on_inventory: list[Callable[[Inventory], None]]
    on_fault: list[Callable[[Fault], None]]

    known: bool
    """It has had an answer, be it that there is no driver."""

    @property
    def latest(self) -> Inventory: ...

    def retry(self) -> None:
        """Ask all cards anew, now."""


def _answers(device: Device) -> bool:
    told: tuple[Device | Mig, ...] = (device, *device.migs)
    return not device.lost and any(one.used is not None or one.processes is not None for one in told)


class Sight:
    def __init__(
        self,
        db: Database,
        watch: Watch,
        containers: Containers,
        counter: Callable[[], float],
        cgroup: programs.Cgroup = programs.cgroup,
    ) -> None:
        self._db = db
        self._watch = watch
        self._containers = containers
        self._counter = counter
        self._cgroup = cgroup
        self._newest: Inventory | None = None
        self._received = counter()
        self._present = False
        self._busy: dict[str, float] = {}
        self._parents: dict[str, str] = {}
        """Instance -> its card, of all that were seen."""
        self._absences = draining.Absences()
        self.programs = Programs()
        """Whose the programs on the cards are."""
        self.lost: Mapping[str, str] = {}
        """Of the cards that somebody has, those that do not answer any more, and why."""

    @property
    def inventory(self) -> Inventory:
        return self._newest or self._watch.latest

    @property
    def present(self) -> bool:
        """There is a driver, or there was one since this daemon began."""
        return self._present

    @property
    def known(self) -> bool:
        return self._watch.known

    def ask_anew(self) -> None:
        """Somebody has reset a card, or put the driver right."""
        self._watch.retry()

    def look(self) -> None:
        newest = self._watch.latest
        if newest is not self._newest:
            self.see(newest)

    def see(self, inventory: Inventory) -> None:
        now = self._counter()
        self._newest, self._received = inventory, now
        self._present = self._present or (self._watch.known and inventory.present)
        rows = leases.every(self._db.read)
        self.match(rows)
        self.lost = self._absences.look(inventory, [card for row in rows for card in row.cards], now)
        for device in inventory.devices:
            if device.utilisation:
                self._busy[device.uuid] = now
            self._parents |= {mig.uuid: device.uuid for mig in device.migs}

    def match(self, rows: Sequence[LeaseRow]) -> None:
        """Whose the programs are, by all containers that are known by now."""
        self._containers.remember(rows)
        self.programs = programs.look(self.inventory, self._containers.leases().keys(), self._cgroup)

    def cards(self) -> tuple[Card, ...]:
        drained = {one: row.why for one, row in gpu_cards.drained(self._db.read).items()}
        found = cards_of(self.inventory, drained, frozenset(self.programs.containers))
        if not self._parents:
            return found
        rest = self._rests({card.id for card in found})
        why = "it was split, and a container still has an instance of then"
        return tuple(replace(card, state="foreign", why=why) if card.id in rest else card for card in found)

    def _rests(self, there: Collection[str]) -> set[str]:
        """Whole cards of which an instance is still held that the driver does not know any more."""
        rows = (row for row in leases.every(self._db.read) if row.state in HAS_CARDS)
        gone = (card for row in rows for card in row.cards if card not in there)
        return {self._parents[card] for card in gone if card in self._parents}

    def shown_cards(self) -> tuple[Card, ...] | None:
        """As a machine type sees them."""
        return None if self.without() else self.cards()

    def works(self, card: str) -> bool | None:
        for device in self.inventory.devices:
            if device.uuid == card and not device.mig:
                if self._counter() - self._busy.get(card, float("-inf")) < BUSY_S:
                    return True
                return None if device.utilisation is None else False
        return None

    def without(self) -> bool:
        """There is no driver, and there was none."""
        inventory = self.inventory
        return self._watch.known and not self._present and not inventory.present

    def unseen(self) -> bool:
        return self._present and self._counter() - self._received >= STALE_S

    def cannot(self) -> str:
        """Why nobody at all can be given anything now; empty: it can be looked for."""
        inventory = self.inventory
        if self._containers.asked is None:
            return self._containers.trouble or "the Docker engine is asked first what runs"
        if self.without():
            return NO_GPU
        if not self._present:
            return LOOKING if inventory.ok else inventory.message
        if not inventory.devices:
            return inventory.message or "the GPUs' driver does not answer"
        if not inventory.ok and not any(_answers(device) for device in inventory.devices):
            return inventory.message
        if self.unseen():
            return "the GPUs' driver has not answered for a while; see `nvidia-smi`"
        return ""

    def health(self) -> tuple[bool, str]:
        """What the status says of the GPUs."""
        self.look()
        inventory = self.inventory
        said = inventory.message
        bad = [card for card in self.cards() if card.state in ("drained", "lost")]
        told = [
            f"{telling.card_name(card.id, inventory)} {'is drained' if card.state == 'drained' else 'is lost'}"
            + (f": {card.why}" if card.why else "")
            for card in bad
            if not card.why or card.why not in said
        ]
        if inventory.ok and self.unseen():
            told.append("the driver does not answer: nobody is given a GPU; see `nvidia-smi`")
        return inventory.ok and not told, "; ".join((said or LOOKING, *told))
