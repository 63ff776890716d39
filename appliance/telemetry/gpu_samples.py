"""What GPUs did, a row for each card and ten seconds. None: the driver does not tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from appliance.gpu import reasons
from appliance.gpu.types import Device, Inventory
from appliance.telemetry.database import GPU_SAMPLES

WINDOW_S = 10
"""A second of eight cards would be 700,000 rows a day."""
MOST_CARDS = 256


@dataclass(slots=True)
class _Card:
    """Of one card and window."""

    samples: int = 0
    busy: list[int] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    power: list[float] = field(default_factory=list)
    temperature: list[int] = field(default_factory=list)
    sm_mhz: list[int] = field(default_factory=list)
    energy_j: float | None = None
    reasons: int = 0
    lost: bool = False

    def add(self, device: Device) -> None:
        self.samples += 1
        if device.lost:
            self.lost = True
            return
        told: tuple[tuple[list[Any], float | None], ...] = (
            (self.busy, device.utilisation),
            (self.memory, device.used),
            (self.power, device.power_w),
            (self.temperature, device.temperature),
            (self.sm_mhz, device.sm_mhz),
        )
        for values, value in told:
            if value is not None:
                values.append(value)
        self.energy_j = self.energy_j if device.energy_j is None else device.energy_j
        self.reasons |= device.reasons or 0

    def row(self) -> tuple[Any, ...]:
        return (
            *(self.samples, _mean(self.busy), max(self.busy, default=None), max(self.memory, default=None)),
            *(_mean(self.power), max(self.temperature, default=None), _mean(self.sm_mhz), self.energy_j),
            *(reasons.kind(self.reasons), self.lost),
        )


class Samples:
    """Looks at the cards that are not stored yet."""

    def __init__(self) -> None:
        self._window: int | None = None
        self._cards: dict[str, _Card] = {}

    def add(self, inventory: Inventory) -> dict[str, list[tuple[Any, ...]]]:
        """The rows by table of the windows that are over now; mostly none."""
        window = int(inventory.at // WINDOW_S)
        over = self.take() if self._window not in (None, window) else {}
        self._window = window
        for device in inventory.devices[:MOST_CARDS]:
            self._cards.setdefault(device.uuid, _Card()).add(device)
        return over

    def take(self) -> dict[str, list[tuple[Any, ...]]]:
        """What there is, though its window goes on."""
        if self._window is None or not self._cards:
            return {}
        moment = datetime.fromtimestamp(self._window * WINDOW_S, UTC).replace(tzinfo=None)
        rows = [(moment, uuid, *card.row()) for uuid, card in self._cards.items()]
        self._cards = {}
        return {GPU_SAMPLES: rows}


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
