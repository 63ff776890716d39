"""`/v1/machines`: what each name gives here, and how many of it could begin now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from appliance.api.machines import gives
from appliance.gpu.types import Inventory
from appliance.scheduler.types import Card
from appliance.scheduler.view import Gpus, Queue
from appliance.settings import Settings
from appliance.spec.catalogue import GIB, NAMES
from appliance.spec.machine_tables import read_machines
from appliance.spec.machines import Shape
from tests.unit.api.test_api import House, house, is_problem

__all__ = ["house"]  # the fixture
pytestmark = pytest.mark.anyio

TABLES: dict[str, object] = {
    "small": {"mig": "1g.10gb", "also": ["P4000", "Free-GPU"], "cpus": 4, "memory": "16G"},
    "twin": {"mig": "1g.10gb", "cpus": 4, "memory": "16G"},
}
CARDS = (
    Card("GPU-1", "GPU-1", memory=24 * GIB),
    Card("MIG-1", "GPU-2", "mig", "1g.10gb", 9 * GIB),
    Card("MIG-2", "GPU-2", "mig", "1g.10gb", 9 * GIB, state="drained", why="said so"),
)


class FakeGpus:
    """Counts what is not taken out of service, for shapes of one card."""

    def __init__(self, cards: Sequence[Card], *, present: bool = True) -> None:
        self.queue = Queue(1.0, Inventory(1.0, present=present), tuple(cards))

    def snapshot(self) -> Queue:
        return self.queue

    def instead(self, machine: str, gpus: int = 0) -> str:
        return ""

    def free_cards(self, shape: Shape) -> int | None:
        if not self.queue.inventory.present:
            return None
        return sum(card.state == "ok" and card.profile == shape.mig for card in self.queue.cards)


def serve(house: House, settings: Settings, cards: Sequence[Card], *, present: bool = True) -> None:
    house.parts.settings = replace(settings, machines=TABLES)
    house.parts.machines = read_machines(TABLES, "config.toml")
    house.parts.gpus = cast(Gpus, FakeGpus(cards, present=present))


async def listed(house: House) -> dict[str, dict[str, Any]]:
    items = (await house.trusted.get("/v1/machines")).json()["items"]
    names = [item["name"] for item in items]
    assert len(set(names)) == len(names)
    return dict(zip(names, items, strict=True))


async def test_ones_own_come_first_and_stand_for_their_other_names(house: House, settings: Settings) -> None:
    serve(house, settings, CARDS)
    found = await listed(house)
    assert list(found)[:2] == ["small", "twin"]
    assert set(found) == {"small", "twin", *NAMES} - {"P4000", "Free-GPU"}
    small = found["small"]
    assert (small["source"], small["also"], small["free"]) == ("config", ["P4000", "Free-GPU"], 1)
    assert small["gives"] == "an instance 1g.10gb, 4 processors, 16G of memory"
    assert found["twin"]["also"] == []
    assert found["C5"]["gives"] == "no GPU"
    assert found["C5"]["free"] is None
    large = found["A100"]
    assert (large["source"], large["free"], large["least"]) == ("gradient", 1, 24 * GIB)
    assert large["warning"] == "`A100` asks for 40G of GPU memory, and the largest here has 24G"


async def test_any_name_that_a_spec_may_have_is_answered(house: House, settings: Settings) -> None:
    serve(house, settings, CARDS)
    other = (await house.trusted.get("/v1/machines/P4000")).json()
    assert (other["source"], other["mig"], other["also"]) == ("config", "1g.10gb", [])
    two = (await house.trusted.get("/v1/machines/GPU%2Bx2")).json()
    assert (two["gpus"], two["source"]) == (2, "gradient")
    assert "asks for 2 GPUs, and this machine has 1 that are not split" in two["warning"]
    is_problem(await house.trusted.get("/v1/machines/ours"), 404, "not_found")
    is_problem(await house.trusted.get("/v1/machines/%1b%5b2J"), 404, "not_found")


async def test_without_a_driver_it_is_said(house: House, settings: Settings) -> None:
    serve(house, settings, (), present=False)
    found = await listed(house)
    assert found["A4000"]["gives"] == "no GPU"
    assert found["A4000"]["warning"] == "`A4000` has a GPU, and this machine has none: it runs without"
    assert (found["small"]["free"], found["small"]["gives"][:11]) == (None, "an instance")


async def test_nobody_leases_gpus(house: House) -> None:
    found = await listed(house)
    assert set(found) == set(NAMES)
    assert {row["free"] for row in found.values()} == {None}


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(), "no GPU"),
        (Shape(gpus=1), "1 GPU"),
        (Shape(gpus=2, least=8 * GIB, model="*A100*"), "2 GPUs like *A100* with 8G or more"),
        (Shape(gpus=1, share=4 * GIB), "4G of a shared GPU"),
        (Shape(gpus=1, preemptible=True, priority=-50), "1 GPU, priority -50, makes way"),
        (Shape(cpus=1, shm=GIB), "no GPU, 1 processor, 1G shared memory"),
    ],
)
def test_the_words(shape: Shape, words: str) -> None:
    assert gives(shape) == words
