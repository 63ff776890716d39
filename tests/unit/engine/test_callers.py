"""Who speaks from an address: never a container that had it before, never one that has it since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.callers import Callers
from appliance.engine.docker import Engine
from appliance.engine.labels import Owner
from appliance.errors import EngineDown, Forbidden
from tests.unit.engine.fake import FakeEngine, fake_engine

pytestmark = pytest.mark.anyio

ADDRESS = "172.19.0.2"
BEGAN = 1_800_000_000.0
LISTING = "GET /containers/json"
A, B = "a" * 64, "b" * 64


class Machine:
    def __init__(self, fake: FakeEngine, proc: Path) -> None:
        self.fake, self.proc = fake, proc
        self.callers = Callers(Engine(instance="0badcafe", docker_host=fake.host), proc)
        self.none()

    def none(self) -> None:
        self.fake.answers[LISTING] = (200, [])

    def runs(
        self, container: str, pid: int, *, address: str = ADDRESS, seconds: int = 0, state: str = "running"
    ) -> None:
        """Alone on the network, since `seconds` after the beginning."""
        networks = {"bridge": {"IPAddress": "172.17.0.2"}, "appliance-0badcafe": {"IPAddress": address}}
        self.fake.answers[LISTING] = (200, [{"Id": container, "NetworkSettings": {"Networks": networks}}])
        labels = Owner("0badcafe", "run", "w.1", "u1", part=container[0]).to_labels()
        state_document = {"Status": state, "Pid": pid, "StartedAt": f"2027-01-15T08:00:{seconds:02d}.000000000Z"}
        document: dict[str, Any] = {"Id": container, "Config": {"Labels": labels}, "State": state_document}
        self.fake.answers[f"GET /containers/{container}/json"] = (200, document)
        self.process(pid, container)

    def process(self, pid: int, container: str) -> None:
        (self.proc / str(pid)).mkdir(exist_ok=True)
        (self.proc / str(pid) / "cgroup").write_text(f"0::/system.slice/docker-{container}.scope\n")

    def ended(self, pid: int) -> None:
        (self.proc / str(pid) / "cgroup").unlink()

    @property
    def asked(self) -> int:
        return self.fake.requests.count(LISTING)

    async def who(self, at: float, address: str = ADDRESS) -> str:
        return (await self.callers.find(address, at=at)).id


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with fake_engine(tmp_path / "docker.sock") as fake:
        yield Machine(fake, tmp_path)


async def test_a_caller_is_found_and_the_engine_is_asked_once(machine: Machine) -> None:
    machine.runs(A, 100)
    assert [await machine.who(BEGAN + at) for at in (5, 6, 7)] == [A, A, A]
    assert machine.asked == 1


async def test_an_address_of_nobody_s(machine: Machine) -> None:
    machine.runs(A, 100)
    for address in ("172.19.0.3", "172.17.0.2", "127.0.0.1", ""):
        with pytest.raises(Forbidden, match="only a container"):
            await machine.who(BEGAN + 5, address)


async def test_an_address_that_is_given_again_is_the_new_one_s(machine: Machine) -> None:
    machine.runs(A, 100)
    await machine.who(BEGAN + 5)
    machine.ended(100)
    machine.runs(B, 101, seconds=10)
    assert await machine.who(BEGAN + 11) == B


async def test_a_process_number_that_is_given_again_proves_nothing(machine: Machine) -> None:
    machine.runs(A, 100)
    await machine.who(BEGAN + 5)
    machine.runs(B, 100, seconds=10)
    assert await machine.who(BEGAN + 11) == B


async def test_who_began_after_the_call_did_not_make_it(machine: Machine) -> None:
    machine.runs(B, 101, seconds=10)
    with pytest.raises(Forbidden):
        await machine.who(BEGAN + 8)
    assert await machine.who(BEGAN + 11) == B
    with pytest.raises(Forbidden):
        await machine.who(BEGAN + 8)


async def test_one_that_ends_while_it_is_looked_for_is_not_taken(machine: Machine) -> None:
    machine.runs(A, 100, state="exited")
    with pytest.raises(Forbidden):
        await machine.who(BEGAN + 5)


async def test_where_processes_cannot_be_seen_the_engine_is_asked_each_time(machine: Machine) -> None:
    machine.runs(A, 100)
    machine.ended(100)
    assert [await machine.who(BEGAN + at) for at in (5, 6)] == [A, A]
    assert machine.asked == 2


async def test_an_engine_that_is_away_is_not_needed_for_who_is_known(machine: Machine) -> None:
    machine.runs(A, 100)
    await machine.who(BEGAN + 5)
    machine.callers._engine.client._docker_host = "unix:///nowhere.sock"
    machine.callers._engine.client.forget()
    assert await machine.who(BEGAN + 6) == A
    machine.ended(100)
    with pytest.raises(EngineDown):
        await machine.who(BEGAN + 7)
