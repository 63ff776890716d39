"""What runs beside the servers survives what nobody foresaw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance import house
from appliance.engine.labels import Owner
from appliance.engine.types import Container, EngineEvent, EngineInfo
from appliance.errors import EngineDown, NoSpace, RouterError
from appliance.router.table import Route, RouterStatus, Target
from appliance.state import events
from appliance.state.db import Database
from appliance.workflows.kept.steady import JUMP_S, SETTLED_S, Steady

pytestmark = pytest.mark.anyio


async def test_a_part_that_fails_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "RETRY_S", 0.0)
    ends: list[Exception] = [NoSpace("the disk is full"), RuntimeError("a defect")]
    begun = asyncio.Semaphore(0)

    async def work() -> None:
        begun.release()
        if ends:
            raise ends.pop(0)
        await asyncio.Event().wait()

    task = asyncio.create_task(house._keep("part", work))
    async with asyncio.timeout(60):
        for _ in range(3):
            await begun.acquire()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_runs_are_let_go_by_age_only_while_the_clock_is_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, ahead = 0.0, 1_800_000_000.0
    told: list[bool] = []

    class Enough(Exception):
        pass

    async def tend(now: float, *, by_age: bool) -> None:
        nonlocal passed, ahead
        assert now == passed + ahead
        told.append(by_age)
        passed += SETTLED_S
        if len(told) == 2:
            ahead += 2 * JUMP_S
        if len(told) == 4:
            raise Enough

    parts = SimpleNamespace(clock=lambda: passed + ahead)
    stand_in: Any = SimpleNamespace(parts=parts, runs=SimpleNamespace(tend=tend), steady=Steady())
    monkeypatch.setattr(house, "TEND_S", 0.0)
    monkeypatch.setattr("appliance.house.time", SimpleNamespace(monotonic=lambda: passed))
    with pytest.raises(Enough):
        await house.House._tend_runs(cast(house.House, stand_in))
    assert told == [False, True, False, True]


GONE, ENDED, RUNS, PAUSED = (letter * 64 for letter in "abcd")
OURS = Owner("cafe0001", "deployment", "web", "uid-of-web", "1-0", 1, "digest")


class FrontDoor:
    """One route to four containers."""

    def __init__(self) -> None:
        self.down = False
        self.lost_ones: list[str] = []
        self.retold: list[str] = []
        self.hinted: list[str] = []
        self.back_again: list[str] = []
        self.on_problem: Callable[[str], None] | None = None
        self.watched = asyncio.Event()

    async def start(self) -> None:
        return None

    async def watch(self) -> None:
        self.watched.set()
        await asyncio.Event().wait()

    async def lost(self, target: str) -> None:
        if self.down:
            raise RouterError("HAProxy does not answer")
        self.lost_ones.append(target)

    async def status(self) -> RouterStatus:
        targets = tuple(Target(one[:12], 4000) for one in (GONE, ENDED, RUNS, PAUSED))
        return RouterStatus(True, 1, "2.6", (Route("/deployments/web", targets, True),), "")

    def back(self, target: str) -> bool:
        self.back_again.append(target)
        return True

    async def set_binds(self, binds: list[str]) -> None:
        raise EngineDown("whatever comes next")


def living(door: FrontDoor) -> house.House:
    async def connect() -> EngineInfo:
        return cast(EngineInfo, None)

    async def listed() -> list[Container]:
        states = {ENDED: "exited", RUNS: "running", PAUSED: "paused"}
        return [Container(one, "web", "i", "i", OURS.to_labels(), state) for one, state in states.items()]

    async def ensure_network() -> str:
        return "172.18.0.1"

    engine = SimpleNamespace(connect=connect, list=listed, ensure_network=ensure_network)
    parts: Any = SimpleNamespace(
        engine=engine,
        instance="cafe0001",
        settings=SimpleNamespace(port=7070, push_port=9091, url="http://127.0.0.1:7070"),
        health={},
        hint=lambda kind, uid: door.hinted.append(uid),
        notebooks=SimpleNamespace(kind="notebook", retell=door.retold.append),
    )
    deployments: Any = SimpleNamespace(kind="deployment", retell=door.retold.append)
    rest: Any = SimpleNamespace(kind="workflow", hint_all=lambda: None)
    front: Any = door
    sampler: Any = SimpleNamespace(look_anew=lambda: None, noticed=lambda container, action: None)
    return house.House(parts, rest, front, rest, deployments, rest, rest, rest, rest, rest, rest, rest, rest, sampler)


async def test_a_session_that_ends_and_runs_anew_is_told_of_again() -> None:
    door = FrontDoor()
    labels = Owner("cafe0001", "notebook", "nb", "uid-of-nb", "", 1, "digest").to_labels()
    alive = living(door)

    async def inspect(container: str) -> None:
        assert container == RUNS

    cast(Any, alive.parts.engine).inspect = inspect
    for action in ("die", "start"):
        await alive._on_event(EngineEvent(1.0, action, RUNS, labels))
    assert door.retold == ["uid-of-nb", "uid-of-nb"]


@pytest.mark.parametrize("down", [False, True])
async def test_whoever_ends_takes_no_more_requests_before_any_pass(down: bool) -> None:
    door = FrontDoor()
    door.down = down
    event = EngineEvent(at=1.0, action="die", container_id=ENDED, labels=OURS.to_labels())
    await living(door)._on_event(event)
    assert door.lost_ones == ([] if down else [ENDED[:12]])
    assert (door.retold, door.hinted) == (["uid-of-web"], ["uid-of-web"])
    stranger = Owner("beef0002", "deployment", "web", "u", "1-0", 1, "digest")
    await living(door)._on_event(EngineEvent(1.0, "die", RUNS, stranger.to_labels()))
    await living(door)._on_event(EngineEvent(1.0, "start", RUNS, stranger.to_labels()))
    assert door.lost_ones in ([], [ENDED[:12]])


async def test_whoever_ended_while_the_engine_was_away_takes_no_more_requests() -> None:
    """Before anything else that the engine's answer brings about."""
    door = FrontDoor()
    with pytest.raises(EngineDown):
        await living(door)._greet_engine()
    assert door.lost_ones == [GONE[:12], ENDED[:12]]
    assert door.back_again == [RUNS[:12]]
    assert set(door.retold) == {"uid-of-web"}


async def test_whoever_runs_anew_is_told_of_again() -> None:
    door = FrontDoor()
    alive = living(door)
    followed: list[str] = []

    async def inspect(container: str) -> None:
        followed.append(container)

    cast(Any, alive.parts.engine).inspect = inspect
    await alive._on_event(EngineEvent(1.0, "start", RUNS, OURS.to_labels()))
    assert (door.back_again, door.retold, followed) == ([RUNS[:12]], ["uid-of-web"], [RUNS])


async def test_what_becomes_of_the_front_door_is_an_event(tmp_path: Path) -> None:
    db = Database(tmp_path / "state.db")
    door = FrontDoor()
    alive = living(door)
    alive.parts.db, alive.parts.clock = db, lambda: 7.0
    task = asyncio.create_task(alive._keep_router())
    async with asyncio.timeout(60):
        await door.watched.wait()
    task.cancel()
    assert door.on_problem is not None
    door.on_problem("HAProxy (pid 7) has ended; starting it again")
    (event,) = events.newest(db.read, kind="appliance")
    assert (event.name, event.level) == ("front door", "warning")
    assert event.message == "HAProxy (pid 7) has ended; starting it again"
    db.close()


async def test_whoever_ended_before_the_front_door_started_takes_no_more_requests() -> None:
    door = FrontDoor()
    alive = living(door)
    alive.answered = True
    task = asyncio.create_task(alive._keep_router())
    async with asyncio.timeout(60):
        await door.watched.wait()
    task.cancel()
    assert door.lost_ones == [GONE[:12], ENDED[:12]]
