"""All that is known of the cards, put together from looks and from what did not answer. Pure.

A card that was seen once stays in the inventory: a lease may be on it. One that does not answer is `lost`, in words,
and whatever might have changed since is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from appliance.gpu.types import Device, Inventory

GONE = "is no longer among the cards that the driver lists"


@dataclass(slots=True)
class Sight:
    known: dict[str, Device] = field(default_factory=dict)
    """By uuid, as each was when it answered last."""
    silent: dict[str, str] = field(default_factory=dict)
    """Cards that are not asked any more, by uuid, and why."""
    silent_index: dict[int, str] = field(default_factory=dict)
    """The same for those that hung before they told who they are."""
    there: bool = False
    """A driver has spoken, be it to say that it does not work: this is no machine without one."""
    driver: str | None = None
    cuda: str | None = None

    def seen(self, found: Inventory, unreadable: Mapping[int, str], at: float) -> Inventory:
        """A look. `unreadable`: places of cards that did not tell who they are."""
        self.there = True
        self.driver, self.cuda = found.driver, found.cuda
        told: dict[str, Device] = {}
        for device in found.devices:
            before = self.known.get(device.uuid, device)
            if device.lost:
                words = self.silent.get(device.uuid, device.lost)
                told[device.uuid] = replace(blank(before), index=device.index, lost=words)
            else:
                told[device.uuid] = self.known[device.uuid] = device
        nameless = {index: self.silent_index.get(index, words) for index, words in unreadable.items()}
        for uuid, before in self.known.items():
            if uuid not in told:
                told[uuid] = replace(blank(before), lost=nameless.pop(before.index, GONE))
        return self._told(told.values(), at, tuple(f"GPU {index} {words}" for index, words in sorted(nameless.items())))

    def failed(self, words: str, at: float, *, driver: bool = False) -> Inventory:
        """The driver as a whole does not answer (`driver`: so it says itself), or whoever asks it does not.

        No card is lost by that: the programs on them may well go on.
        """
        self.there = self.there or driver
        devices = tuple(blank(one) for one in self._ordered(self.known.values()))
        return Inventory(at, devices, self.driver, self.cuda, message=words, ok=False, present=self.there)

    def absent(self, words: str, at: float) -> Inventory:
        """No driver, which is fine, unless there was one a moment ago."""
        if self.known:
            return self.failed(f"the NVIDIA driver is gone: {words}", at)
        return Inventory(at, message=words)

    def hung(self, index: int, uuid: str, words: str, at: float) -> Inventory:
        """A card that did not answer in time; it is not asked again until `forgive`."""
        if uuid and uuid not in self.silent:
            self.silent[uuid] = words
        else:  # it hung before it told who it is, or although it was not to be asked more than that
            self.silent_index[index] = words
        lost = [uuid] if uuid else [one.uuid for one in self.known.values() if one.index == index]
        devices = [replace(blank(one), lost=words) if one.uuid in lost else one for one in self.known.values()]
        return self._told(devices, at, () if lost else (f"GPU {index} {words}",))

    def forgive(self) -> None:
        """All cards are asked anew."""
        self.silent.clear()
        self.silent_index.clear()

    def _told(self, devices: Iterable[Device], at: float, beside: tuple[str, ...]) -> Inventory:
        ordered = self._ordered(devices)
        lost = (*(f"GPU {one.index} ({one.uuid}) {one.lost}" for one in ordered if one.lost), *beside)
        cards = summary(ordered, self.driver, self.cuda) if ordered or not lost else ""
        message = "; ".join(filter(None, (cards, *lost)))
        return Inventory(at, ordered, self.driver, self.cuda, message=message, ok=not lost, present=True)

    @staticmethod
    def _ordered(devices: Iterable[Device]) -> tuple[Device, ...]:
        return tuple(sorted(devices, key=lambda one: (one.index, one.uuid)))


def blank(device: Device) -> Device:
    """What stays true of a card while nobody hears of it."""
    return replace(
        Device(device.uuid, device.index),
        name=device.name,
        minor=device.minor,
        bus=device.bus,
        serial=device.serial,
        memory=device.memory,
        mig=device.mig,
        migs=tuple(replace(one, used=None, processes=None) for one in device.migs),
    )


def summary(devices: Iterable[Device], driver: str | None, cuda: str | None) -> str:
    """As `2 x NVIDIA A100, driver 580.65, CUDA 13.0`."""
    names = Counter(device.name or "a GPU without a name" for device in devices)
    if not names:
        return "the driver sees no GPU"
    cards = ", ".join(name if number == 1 else f"{number} x {name}" for name, number in names.items())
    return ", ".join(filter(None, (cards, f"driver {driver}" if driver else "", f"CUDA {cuda}" if cuda else "")))
