"""What of the machine's GPUs can be leased: each whole one, or each instance of one that was split."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal

from appliance.gpu.types import Device, Inventory, Process
from appliance.scheduler.types import Card
from appliance.scheduler.words import size

FOREIGN_BYTES = 500 * 2**20
"""A program that holds less of a card disturbs nobody: a desktop's helpers, a monitor."""


def cards(inventory: Inventory, drained: Mapping[str, str], ours: Collection[int]) -> tuple[Card, ...]:
    """In the driver's order. `drained`: UUID of a card or an instance -> why. `ours`: pids in our containers."""
    return tuple(card for device in inventory.devices for card in _of(device, drained, ours))


def _of(device: Device, drained: Mapping[str, str], ours: Collection[int]) -> list[Card]:
    whole = Card(device.uuid, device.uuid, "whole", "", device.memory, device.name)
    if device.lost:
        return [_as(whole, "lost", device.lost)]
    if not device.mig:
        return [_judged(whole, device.processes, drained, ours)]
    # split and without an instance there is nothing in it that a container could be given
    return [
        _judged(Card(mig.uuid, device.uuid, "mig", mig.profile, mig.memory, device.name), mig.processes, drained, ours)
        for mig in device.migs
    ]


def _judged(
    card: Card, processes: tuple[Process, ...] | None, drained: Mapping[str, str], ours: Collection[int]
) -> Card:
    for uuid in (card.id, card.parent):
        if uuid in drained:
            return _as(card, "drained", drained[uuid])
    for process in processes or ():
        # what it holds may not be told: a program that computes is taken for one that disturbs
        small = process.memory is not None and process.memory <= FOREIGN_BYTES
        if not (process.graphics or small or process.pid in ours):
            amount = f" with {size(process.memory)}" if process.memory is not None else ""
            return _as(card, "foreign", f"process {process.pid}, which is not of the appliance, computes on it{amount}")
    return card


def _as(card: Card, state: Literal["drained", "lost", "foreign"], why: str) -> Card:
    return replace(card, state=state, why=why)
