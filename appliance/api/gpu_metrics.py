"""GPUs in Prometheus' text format. What the driver does not tell has no line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from appliance.gpu.types import Device
from appliance.scheduler.view import Queue

Figure = Callable[[Device], float | None]

FIGURES: tuple[tuple[str, str, Figure], ...] = (
    ("utilisation_ratio", "gauge", lambda gpu: None if gpu.utilisation is None else gpu.utilisation / 100),
    ("memory_bytes", "gauge", lambda gpu: gpu.memory),
    ("memory_used_bytes", "gauge", lambda gpu: gpu.used),
    ("power_watts", "gauge", lambda gpu: gpu.power_w),
    ("energy_joules_total", "counter", lambda gpu: gpu.energy_j),
    ("temperature_celsius", "gauge", lambda gpu: gpu.temperature),
    ("sm_clock_hertz", "gauge", lambda gpu: None if gpu.sm_mhz is None else gpu.sm_mhz * 1e6),
    ("ecc_uncorrected_total", "counter", lambda gpu: gpu.ecc_uncorrected),
    ("lost", "gauge", lambda gpu: int(bool(gpu.lost))),
)


def lines(queue: Queue) -> list[str]:
    """None on a machine without a GPU."""
    devices = queue.inventory.devices
    if not devices:
        return []
    found = []
    for name, kind, figure in FIGURES:
        told = [(device.uuid, value) for device in devices if (value := figure(device)) is not None]
        found += _family(f"appliance_gpu_{name}", kind, [(f'gpu="{_label(uuid)}"', value) for uuid, value in told])
    held = {card for lease in queue.leases for card in lease.held.cards}
    where = {card.id: f'gpu="{_label(card.parent)}",card="{_label(card.id)}"' for card in queue.cards}
    found += _family("appliance_gpu_card_held", "gauge", [(where[card], int(card in held)) for card in where])
    in_service = [(where[card.id], int(card.state == "ok")) for card in queue.cards]
    found += _family("appliance_gpu_card_in_service", "gauge", in_service)
    freeing = sum(lease.held.freeing for lease in queue.leases)
    counts = {"held": len(queue.leases) - freeing, "freeing": freeing, "waiting": len(queue.waiting)}
    found += _family("appliance_gpu_leases", "gauge", [(f'state="{state}"', n) for state, n in counts.items()])
    since = [one.request.asked for one in queue.waiting if one.request.ready and one.wait.place]
    longest = max(0.0, queue.at - min(since)) if since else 0.0
    return [*found, *_family("appliance_gpu_longest_wait_seconds", "gauge", [("", longest)])]


def _family(name: str, kind: str, values: Sequence[tuple[str, float]]) -> list[str]:
    rows = [f"{name}{{{labels}}} {value:.10g}" if labels else f"{name} {value:.10g}" for labels, value in _real(values)]
    return [f"# TYPE {name} {kind}", *rows] if rows else []


def _real(values: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(labels, value) for labels, value in values if math.isfinite(value)]


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
