"""What the scheduler knows, as the API's documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance import wire
from appliance.gpu.reasons import throttled
from appliance.gpu.types import Device, Mig, Process
from appliance.scheduler import words
from appliance.scheduler.attribution import Share
from appliance.scheduler.types import Card
from appliance.scheduler.view import Lease, Queue, Waiting
from appliance.spec.machines import Shape
from appliance.state.ledger import Total

HOUR_S = 3600


def gpus(queue: Queue) -> wire.Gpus:
    found, cards = queue.inventory, {card.id: card for card in queue.cards}
    faults = {fault.uuid: fault.words for fault in queue.faults}
    holders = {card.uuid: _holders(card.uuid, queue) for device in found.devices for card in _parts(device)}
    return wire.Gpus(
        at=found.at,
        driver=found.driver,
        cuda=found.cuda,
        message=found.message,
        ok=found.ok,
        items=[_gpu(device, cards, holders, faults.get(device.uuid, "")) for device in found.devices],
    )


def leases(queue: Queue) -> list[wire.GpuLease]:
    """Those who have GPUs, then those who wait, in their order."""
    return [_held(lease) for lease in queue.leases] + [_waiting(one) for one in queue.waiting]


def use(row: Total) -> wire.GpuUse:
    memory = None if row.memory_gb_s is None else row.memory_gb_s / HOUR_S
    return wire.GpuUse(
        key=row.key.rstrip("/"),
        held_s=row.held_s,
        used_s=row.used_s,
        memory_gb_h=memory,
        energy_j=row.energy_j,
        measured=row.measured,
    )


def asks(shape: Shape) -> str:
    if shape.mig:
        return f"{shape.gpus} x {shape.mig}" if shape.gpus > 1 else shape.mig
    if shape.share:
        return f"{words.size(shape.share)} of a GPU"
    return "1 GPU" if shape.gpus == 1 else f"{shape.gpus} GPUs"


def _gpu(
    device: Device, cards: Mapping[str, Card], holders: Mapping[str, list[wire.GpuHolder]], fault: str
) -> wire.Gpu:
    processes = device.processes
    return wire.Gpu(
        id=device.uuid,
        uuid=device.uuid,
        index=device.index,
        name=device.name,
        bus=device.bus,
        serial=device.serial,
        memory=device.memory,
        used=device.used,
        split=device.mig,
        utilisation=device.utilisation,
        memory_utilisation=device.memory_utilisation,
        power_w=device.power_w,
        limit_w=device.limit_w,
        energy_j=device.energy_j,
        temperature=device.temperature,
        sm_mhz=device.sm_mhz,
        memory_mhz=device.memory_mhz,
        fan=device.fan,
        throttled=list(throttled(device.reasons)),
        ecc_corrected=device.ecc_corrected,
        ecc_uncorrected=device.ecc_uncorrected,
        pcie=device.pcie,
        persistence=device.persistence,
        lost=device.lost,
        fault=fault,
        processes=None if processes is None else [_process(one) for one in processes],
        cards=[_card(part, cards.get(part.uuid), holders[part.uuid]) for part in _parts(device)],
    )


def _process(one: Process) -> wire.GpuProcess:
    return wire.GpuProcess(pid=one.pid, memory=one.memory, sm=one.sm, graphics=one.graphics)


def _parts(device: Device) -> Sequence[Device | Mig]:
    return device.migs if device.mig else (device,)


def _card(part: Device | Mig, card: Card | None, holders: list[wire.GpuHolder]) -> wire.GpuCard:
    lost = part.lost if isinstance(part, Device) else ""
    return wire.GpuCard(
        uuid=part.uuid,
        profile="" if isinstance(part, Device) else part.profile,
        memory=part.memory,
        used=part.used,
        state=card.state if card else "lost" if lost else "ok",
        why=card.why if card else lost,
        holders=holders,
    )


def _holders(card: str, queue: Queue) -> list[wire.GpuHolder]:
    used = {share.lease: _percent(share, queue.sampled_s) for share in queue.shares if share.card == card}
    return [_holder(lease, used.get(lease.held.request.id)) for lease in queue.leases if card in lease.held.cards]


def _percent(share: Share, seconds: float) -> float | None:
    return None if share.used_s is None or seconds <= 0 else 100 * min(1.0, share.used_s / seconds)


def _holder(lease: Lease, used: float | None) -> wire.GpuHolder:
    held, who = lease.held, lease.held.request.who
    return wire.GpuHolder(
        lease=held.request.id,
        kind=who.kind,
        name=who.name,
        part=who.part,
        owner=who.owner,
        since=held.since,
        freeing=held.freeing,
        message=lease.message,
        used=used,
    )


def _held(lease: Lease) -> wire.GpuLease:
    held, request, who = lease.held, lease.held.request, lease.held.request.who
    return wire.GpuLease(
        id=request.id,
        state="freeing" if held.freeing else "held",
        kind=who.kind,
        name=who.name,
        part=who.part,
        owner=who.owner,
        priority=request.priority,
        preemptible=request.preemptible,
        cards=list(held.cards),
        asks=asks(request.shape),
        asked=request.asked,
        since=held.since,
        place=0,
        why="",
        behind="",
        forecast=None,
        container=lease.container,
        message=lease.message,
    )


def _waiting(one: Waiting) -> wire.GpuLease:
    request, wait, who = one.request, one.wait, one.request.who
    return wire.GpuLease(
        id=request.id,
        state="waiting",
        kind=who.kind,
        name=who.name,
        part=who.part,
        owner=who.owner,
        priority=request.priority,
        preemptible=request.preemptible,
        cards=[],
        asks=asks(request.shape),
        asked=request.asked,
        since=None,
        place=wait.place,
        why=wait.why,
        behind=wait.behind,
        forecast=wait.forecast,
        container="",
        message="",
    )
