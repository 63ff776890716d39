"""Machine types: what a spec's `machine` asks of this machine.

Shapes of one's own stand in config.toml, in tables `[machines.NAME]`; Gradient's names are known by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from appliance.spec import catalogue
from appliance.spec.catalogue import FREE_PRIORITY, Machine
from appliance.spec.fields import show_size
from appliance.spec.problems import printable, quoted

SOLD = 0.9
"""Of the memory that a GPU is sold with, at least so much is there: ECC and the driver take some."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one container is given. Amounts of memory in bytes."""

    gpus: int = 0
    mig: str = ""
    """Instances of this profile in place of whole GPUs, as `1g.10gb`."""
    share: int = 0
    """So much memory of one GPU that it shares with others, which nothing but a watchdog enforces; 0: its own alone."""
    least: int = 0
    """A GPU has at least so much memory."""
    model: str = ""
    """A pattern of the GPU's name, as `*A100*`; empty: any."""
    cpus: float = 0.0
    """0: no limit."""
    memory: int = 0
    shm: int | None = None
    preemptible: bool = False
    """Its work makes way for that of a higher priority, after a snapshot."""
    priority: int = 0


class Gpu(Protocol):
    """A card of the scheduler's, as far as a machine type looks at it."""

    @property
    def kind(self) -> Literal["whole", "mig"]: ...
    @property
    def profile(self) -> str: ...
    @property
    def memory(self) -> int | None: ...


def shape_of(
    name: str, gpus: int, machines: Mapping[str, Shape], cards: Sequence[Gpu] | None, *, default: str = ""
) -> tuple[Shape, str]:
    """What a spec with this `machine` and this number of GPUs (0: it names none) is given, and a warning or "". Pure.

    A name of one's own counts first, with all names that its table has under `also`, then Gradient's catalogue, then
    the machine type `default`. `cards`: all that this machine has, also those that cannot be had now; None: there is no
    NVIDIA driver. Then a catalogue's name runs without a GPU, and only what asks for one expressly waits for it.
    """
    own = own_shape(name, machines)
    if own is not None:
        return _numbered(own, gpus, name)
    found = catalogue.machine(name)
    if found is not None:
        return _of_catalogue(replace(found, gpus=gpus or found.gpus), name, cards, expressly=gpus > 0)
    if not name:
        return _of_number(gpus, cards)
    unknown = f"{quoted(printable(name))} is no machine type that is known here"
    if default != name and known(default, machines):
        shape, more = shape_of(default, gpus, machines, cards)
        return shape, "; ".join(filter(None, (f"{unknown}: it gets {quoted(default)}", more)))
    if gpus:
        shape, more = _of_number(gpus, cards)
        return shape, "; ".join(filter(None, (f"{unknown}: it gets {_gpus(gpus)}", more)))
    return Shape(), f"{unknown}: it runs without a GPU"


def known(name: str, machines: Mapping[str, Shape]) -> bool:
    """Whether it says something here."""
    return own_shape(name, machines) is not None or catalogue.machine(name) is not None


def own_shape(name: str, machines: Mapping[str, Shape]) -> Shape | None:
    """A shape of one's own, several times for `NAMExN`, and behind all others for `Free-NAME`."""
    if name in machines:
        return machines[name]
    label = catalogue.label(name)
    shape = machines.get(label.base)
    if shape is None or ((shape.share or shape.mig) and label.count > 1):
        return None
    if label.free:
        shape = replace(shape, preemptible=True, priority=min(shape.priority, FREE_PRIORITY))
    many = label.count
    return replace(shape, gpus=shape.gpus * many, cpus=shape.cpus * many, memory=shape.memory * many)


def _numbered(shape: Shape, gpus: int, name: str) -> tuple[Shape, str]:
    """With the number that the spec itself names."""
    if not gpus or gpus == shape.gpus:
        return shape, ""
    if shape.mig:
        return shape, f"{quoted(name)} is a part of one GPU: it gets one, since CUDA sees no second one"
    if shape.share:
        return replace(shape, gpus=gpus, share=0), f"{quoted(name)} is a part of one GPU: it gets {gpus} whole ones"
    return replace(shape, gpus=gpus), ""


def _of_number(gpus: int, cards: Sequence[Gpu] | None) -> tuple[Shape, str]:
    """What names a number only: whole GPUs, and where there is none of these the largest instance for the one."""
    if gpus != 1 or not cards or any(card.kind == "whole" for card in cards):
        return Shape(gpus=gpus), ""
    largest = _largest_first(cards)[0].profile
    return Shape(gpus=1, mig=largest), f"all GPUs here are split: it gets an instance {largest}"


def _of_catalogue(found: Machine, name: str, cards: Sequence[Gpu] | None, *, expressly: bool) -> tuple[Shape, str]:
    """The processors and the memory that Gradient gave are not enforced: what ran there has to run here."""
    if not found.gpus:
        return _behind(Shape(), found), ""
    if cards is None and not expressly:
        return _behind(Shape(), found), f"{quoted(name)} has a GPU, and this machine has none: it runs without"
    shape = _behind(Shape(gpus=found.gpus, least=int(found.gpu_memory * SOLD)), found)
    return _fitted(shape, found.gpu_memory, name, cards) if cards else (shape, "")


def _behind(shape: Shape, found: Machine) -> Shape:
    """A free machine makes way for all others."""
    return replace(shape, preemptible=True, priority=FREE_PRIORITY) if found.free else shape


def _fitted(shape: Shape, sold: int, name: str, cards: Sequence[Gpu]) -> tuple[Shape, str]:
    """Onto GPUs that are here: whole ones that are large enough, else an instance that is, else the largest.

    `sold`: memory of each, as it is sold. An instance is for one alone: CUDA sees no second one.
    """
    count = shape.gpus
    whole = _largest_first([card for card in cards if card.kind == "whole"])
    parts = _largest_first([card for card in cards if card.kind == "mig"]) if count == 1 else []
    if len(whole) >= count and _memory(whole[count - 1]) >= shape.least:
        return shape, ""
    if enough := [card for card in parts if _memory(card) >= shape.least]:
        return replace(shape, mig=enough[-1].profile), ""
    some = whole if len(whole) >= count else parts
    if len(some) < count:
        split = " that are not split" if len(whole) < len(cards) else ""
        return shape, f"{quoted(name)} asks for {_gpus(count)}, and this machine has {len(whole)}{split}"
    last = some[count - 1]
    if last.memory is None:
        any_ = replace(shape, least=0, mig=last.profile)
        return any_, f"{quoted(name)} gets any GPU: how much memory they have cannot be seen"
    here = "the largest here has" if count == 1 else f"the {count} largest here have"
    return (
        replace(shape, least=last.memory, mig=last.profile),
        f"{quoted(name)} asks for {show_size(sold)} of GPU memory, and {here} {show_size(last.memory)}",
    )


def _largest_first(cards: Sequence[Gpu]) -> list[Gpu]:
    """Of what has equally much by profile, so that the answer is the same each time."""
    return sorted(cards, key=lambda card: (-_memory(card), card.profile))


def _memory(card: Gpu) -> int:
    """None, which cannot be seen, comes last."""
    return -1 if card.memory is None else card.memory


def _gpus(count: int) -> str:
    return "one GPU" if count == 1 else f"{count} GPUs"
