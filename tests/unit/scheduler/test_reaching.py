"""Who has lost its cards is told once, and nobody is begun again for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.engine.devices import Reach
from appliance.engine.types import Container
from appliance.errors import EngineDown
from appliance.gpu.types import Device, Inventory, Mig
from appliance.scheduler.reaching import Reaching, nodes_for
from appliance.scheduler.types import Held, Request, Who
from appliance.scheduler.view import Lease, Queue
from appliance.spec.machines import Shape

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
WHO = Who("notebook", "train", "u1")
INVENTORY = Inventory(
    NOW,
    (
        Device("GPU-a", 0, minor=3),
        Device("GPU-b", 1, minor=1, mig=True, migs=(Mig("MIG-1", "1g.10gb"), Mig("MIG-2", "1g.10gb"))),
        Device("GPU-c", 2, minor=2, lost="it fell off the bus"),
        Device("GPU-d", 3),
    ),
    driver="550.54",
)
LOST = Reach("lost", "its rules are gone")


class Rooms:
    """The scheduler's picture, the engine and the kernel, as a test sets them."""

    def __init__(self) -> None:
        self.leases = [Lease(Held(Request("r1", WHO, Shape(gpus=1)), ("GPU-a",), NOW), "c1")]
        self.container: Container | None = Container("c1", "n", "i", "", {}, "running", started=NOW + 1, pid=7)
        self.reach = Reach("ok")
        self.down = False
        self.asked: list[tuple[int, str, tuple[Path, ...], str | None]] = []
        self.told: list[tuple[Who, str]] = []
        self.reaching = Reaching(
            snapshot=lambda: Queue(NOW, INVENTORY, leases=tuple(self.leases)),
            inspect=self.inspect,
            devices=self,
            on_lost=lambda who, words: self.told.append((who, words)),
            clock=lambda: NOW,
        )

    async def inspect(self, container: str) -> Container | None:
        if self.down:
            raise EngineDown("is not running")
        return self.container

    async def look(self, pid: int, container: str, nodes: Sequence[Path], *, driver: str | None = None) -> Reach:
        self.asked.append((pid, container, tuple(nodes), driver))
        return self.reach


async def test_one_that_reached_them_and_does_not_any_more_is_told_once() -> None:
    rooms = Rooms()
    await rooms.reaching.look()
    assert rooms.asked == [(7, "c1", (Path("/dev/nvidiactl"), Path("/dev/nvidia3")), "550.54")]
    assert rooms.told == []
    rooms.reach = LOST
    for _ in range(3):
        await rooms.reaching.look()
    assert rooms.told == [(WHO, LOST.words)]


async def test_one_that_never_reached_them_is_not_begun_again_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    rooms = Rooms()
    rooms.reach = LOST
    await rooms.reaching.look()
    await rooms.reaching.look()
    assert rooms.told == []
    assert caplog.text.count(LOST.words) == 1


async def test_one_that_is_older_than_the_daemon_is_believed() -> None:
    rooms = Rooms()
    assert rooms.container
    rooms.container = replace(rooms.container, started=NOW - 1)
    rooms.reach = LOST
    await rooms.reaching.look()
    assert rooms.told == [(WHO, LOST.words)]


async def test_the_next_container_is_judged_by_itself() -> None:
    rooms = Rooms()
    await rooms.reaching.look()
    rooms.reach = LOST
    await rooms.reaching.look()
    rooms.leases = [replace(rooms.leases[0], container="c2")]
    assert rooms.container
    rooms.container = replace(rooms.container, id="c2")
    rooms.reach = Reach("ok")
    await rooms.reaching.look()
    rooms.reach = LOST
    await rooms.reaching.look()
    assert rooms.told == [(WHO, LOST.words)] * 2


async def test_what_is_not_known_is_no_loss() -> None:
    rooms = Rooms()
    await rooms.reaching.look()
    rooms.reach = Reach("unknown", "it could not be asked")
    await rooms.reaching.look()
    rooms.down = True
    await rooms.reaching.look()
    rooms.down, rooms.container = False, None
    await rooms.reaching.look()
    assert rooms.told == []


@pytest.mark.parametrize("state", ["created", "paused", "exited"])
async def test_only_one_that_runs_is_asked(state: str) -> None:
    rooms = Rooms()
    assert rooms.container
    rooms.container = replace(rooms.container, state=state)
    await rooms.reaching.look()
    assert rooms.asked == []


async def test_one_that_is_let_go_or_not_made_yet_is_not_asked() -> None:
    rooms = Rooms()
    (lease,) = rooms.leases
    rooms.leases = [replace(lease, held=replace(lease.held, freeing=True)), replace(lease, container="")]
    await rooms.reaching.look()
    assert rooms.asked == []


@pytest.mark.parametrize(
    ("cards", "nodes"),
    [
        (("GPU-a", "MIG-2"), ("nvidiactl", "nvidia1", "nvidia3")),
        (("MIG-1", "MIG-2"), ("nvidiactl", "nvidia1")),
        (("GPU-a", "GPU-c"), ()),
        (("GPU-d",), ()),
        (("GPU-z",), ()),
        ((), ()),
    ],
)
async def test_the_nodes_of_a_lease(cards: tuple[str, ...], nodes: tuple[str, ...]) -> None:
    assert nodes_for(cards, INVENTORY) == tuple(Path("/dev", node) for node in nodes)
