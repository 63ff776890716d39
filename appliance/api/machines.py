"""Machine types as the API's documents. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from appliance import wire
from appliance.spec import catalogue
from appliance.spec.fields import show_size
from appliance.spec.machines import Gpu, Shape, shape_of

Free = Callable[[Shape], int | None]


def every(
    own: Collection[str], machines: Mapping[str, Shape], cards: Sequence[Gpu] | None, free: Free
) -> list[wire.Machine]:
    """Those of one's own, then the names of Gradient's catalogue that none of them stands for.

    `own`: the tables' names; `machines`: the shapes of these and of their other names; `cards`: None: no driver.
    """
    names = [*own, *(name for name in catalogue.NAMES if name not in machines)]
    return [one(name, own, machines, cards, free) for name in names]


def one(
    name: str, own: Collection[str], machines: Mapping[str, Shape], cards: Sequence[Gpu] | None, free: Free
) -> wire.Machine:
    shape, warning = shape_of(name, 0, machines, cards)
    also = [other for other in machines if other not in own and machines[other] is machines.get(name)]
    return wire.Machine(
        name=name,
        source="config" if name in machines else "gradient",
        also=also if name in own else [],
        gives=gives(shape),
        gpus=shape.gpus,
        mig=shape.mig,
        share=shape.share,
        least=shape.least,
        model=shape.model,
        cpus=shape.cpus,
        memory=shape.memory,
        shm=shape.shm,
        priority=shape.priority,
        preemptible=shape.preemptible,
        free=free(shape) if shape.gpus else None,
        warning=warning,
    )


def gives(shape: Shape) -> str:
    parts = [_gpus(shape)]
    if shape.cpus:
        parts.append(f"{shape.cpus:g} processors" if shape.cpus != 1 else "1 processor")
    if shape.memory:
        parts.append(f"{show_size(shape.memory)} of memory")
    if shape.shm is not None:
        parts.append(f"{show_size(shape.shm)} shared memory")
    if shape.priority:
        parts.append(f"priority {shape.priority}")
    if shape.preemptible:
        parts.append("makes way")
    return ", ".join(parts)


def _gpus(shape: Shape) -> str:
    if not shape.gpus:
        return "no GPU"
    which = f" like {shape.model}" if shape.model else ""
    least = f" with {show_size(shape.least)} or more" if shape.least else ""
    if shape.mig:
        return f"an instance {shape.mig}{which}"
    if shape.share:
        return f"{show_size(shape.share)} of a shared GPU{which}{least}"
    return f"{'1 GPU' if shape.gpus == 1 else f'{shape.gpus} GPUs'}{which}{least}"
