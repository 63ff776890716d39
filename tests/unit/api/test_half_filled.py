"""A notebook that a kill has left half filled with what is kept of a job: the same command goes on with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from appliance import apply
from appliance.api.routes import runs as routes
from appliance.settings import Settings
from appliance.state import events, resources
from appliance.workflows.kept.opening import fill_workspace
from tests.conftest import Clock
from tests.unit.api.test_api import is_problem
from tests.unit.api.test_runs import House

pytestmark = pytest.mark.anyio
PATH = "/v1/runs/flow.1/jobs/read/notebook"


@pytest.fixture
def house(settings: Settings, clock: Clock) -> Iterator[House]:
    made = House(settings, clock)
    yield made
    made.bench.close()


class Kill(BaseException):
    """Nothing runs after it."""


async def killed(house: House, monkeypatch: pytest.MonkeyPatch) -> str:
    """Uid of the notebook `nb`, of which the daemon was killed while it was filled."""
    await house.failed()

    async def half(*_: object) -> None:
        raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(routes, "fill_workspace", half)
        patch.setattr(apply, "delete", lambda *_, **__: None)
        with pytest.raises(Kill):
            await routes._open_capsule(house.parts, routes.find(house.parts, "flow.1"), "read", "nb", "")
    found = resources.get(house.bench.db.read, "notebook", "nb")
    assert (found.desired, found.deleting) == ("stopped", False)
    return found.uid


async def ask(house: House, path: str = PATH) -> Any:
    return await house.api.post(path, json={"name": "nb"})


async def test_the_same_command_fills_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = await killed(house, monkeypatch)
    answer = await ask(house)
    assert answer.status_code == 201, answer.text
    assert answer.json()["inputs"] == ["tree"]
    found = resources.get(house.bench.db.read, "notebook", "nb")
    assert (found.uid, found.desired) == (uid, "running")
    told = [event.message for event in events.newest(house.bench.db.read, kind="notebook", name="nb")]
    assert told[-1] == "holds what is kept of flow.1/read"
    assert "choose another name" in is_problem(await ask(house), 409, "conflict")["hint"]


async def test_another_job_does_not_go_into_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await killed(house, monkeypatch)
    await house.begin()
    problem = is_problem(await ask(house, "/v1/runs/flow.2/jobs/read/notebook"), 409, "conflict")
    assert "half filled with what is kept of flow.1/read" in problem["detail"]
    assert "appliance delete notebook nb --confirm nb" in problem["hint"]


async def test_one_that_somebody_has_started_since_is_theirs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await killed(house, monkeypatch)
    for verb in ("start", "stop"):
        assert (await house.api.post(f"/v1/notebooks/nb/{verb}")).status_code == 202
    assert "choose another name" in is_problem(await ask(house), 409, "conflict")["hint"]


async def test_two_that_ask_at_once_fill_it_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.failed()
    begun, go_on = anyio.Event(), anyio.Event()
    fill = fill_workspace

    async def slow(rooms: Any, workspaces: Any, uid: str, run: Any, job: str) -> Any:
        rooms.opening.append(uid)
        begun.set()
        await go_on.wait()
        rooms.opening.remove(uid)
        return await fill(rooms, workspaces, uid, run, job)

    monkeypatch.setattr(routes, "fill_workspace", slow)
    first: list[Any] = []

    async def one() -> None:
        first.append(await ask(house))

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await begun.wait()
        assert "is being filled at this moment" in is_problem(await ask(house), 409, "conflict")["detail"]
        go_on.set()
    assert first[0].status_code == 201
