"""Runs over HTTP: started with and without the cache, resumed, replayed, and a failed job opened as a notebook."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from appliance.api.app import behind_token, build_app
from appliance.settings import Settings
from appliance.state import resources, runs
from tests.conftest import Clock
from tests.unit.api.run_house import Lines, parts_of
from tests.unit.api.test_api import is_problem
from tests.unit.workflows.fakes import Bench, Inside, flow, script

pytestmark = pytest.mark.anyio

TREE = {"tree": {"type": "volume"}}
DOCUMENT = flow(
    make=script(outputs=TREE),
    read=script("make", inputs={"tree": "make.outputs.tree"}, outputs={"side": {"type": "volume"}}),
    last=script("read"),
)
REPOSITORY = "kind: repository\nname: code\nurl: https://git.test/a.git\n"


def make(inside: Inside) -> int:
    inside.path("/outputs/tree/file").write_text("made")
    return 0


class House:
    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.bench = Bench(settings, clock)
        self.bench.engine.body = {"make": make}
        self.hints: list[str] = []
        self.parts = parts_of(self.bench, Lines(), self.hints)
        app = build_app(self.parts)
        self.api = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x")
        front = httpx2.ASGITransport(behind_token(app, "t0k3n"))
        self.front = httpx2.AsyncClient(transport=front, base_url="http://x")

    async def declare(self, document: dict[str, Any] = DOCUMENT) -> None:
        answer = await self.api.post("/v1/apply", json={"text": json.dumps(document), "file": "flow.yaml"})
        assert answer.status_code == 200, answer.text

    async def begin(self, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await self.api.post("/v1/workflows/flow/runs", json=body or {})
        assert answer.status_code == 201, answer.text
        await self.bench.settle()
        return await self.run(answer.json()["name"])

    async def run(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.get(f"/v1/runs/{name}")).json()
        return found

    async def failed(self) -> dict[str, Any]:
        """`read` has ended with exit code 3."""
        await self.declare()
        self.bench.engine.body = {"make": make, "read": lambda inside: 3}
        return await self.begin()


@pytest.fixture
def house(settings: Settings, clock: Clock) -> Iterator[House]:
    made = House(settings, clock)
    yield made
    made.bench.close()


def phases(run: dict[str, Any]) -> dict[str, str]:
    return {job["name"]: job["phase"] for job in run["jobs"]}


async def test_an_equal_run_is_given_what_the_first_made_unless_it_says_no_cache(house: House) -> None:
    await house.declare()
    await house.begin()
    again = await house.begin({"cache": True})
    assert [job["reused"] for job in again["jobs"]] == ["flow.1/make", "flow.1/read", ""]
    assert again["jobs"][0]["message"].startswith("cached: same image, command, env and inputs as flow.1/make")
    house.bench.engine.starts.clear()
    without = await house.begin({"cache": False})
    assert house.bench.engine.starts == ["make", "read", "last"]
    assert [job["reused"] for job in without["jobs"]] == ["", "", ""]
    is_problem(await house.api.post("/v1/workflows/flow/runs", json={"cache": "no"}), 400, "usage")


async def test_a_run_that_failed_is_resumed_and_one_that_did_not_is_refused(house: House) -> None:
    run = await house.failed()
    assert phases(run) == {"make": "Succeeded", "read": "Failed", "last": "Omitted"}
    assert [job["capsule"] for job in run["jobs"]] == [False, True, False]
    house.bench.engine.body = {"make": make}
    house.bench.engine.starts.clear()
    house.hints.clear()
    answer = await house.api.post("/v1/runs/flow.1/resume")
    assert (answer.status_code, answer.json()["name"], answer.json()["cause"]) == (201, "flow.2", "resume")
    assert answer.json()["parent"] == "flow.1"
    assert house.hints == ["run"]
    await house.bench.settle()
    resumed = await house.run("flow.2")
    assert set(phases(resumed).values()) == {"Succeeded"}
    assert resumed["jobs"][0]["reused"] == "flow.1/make"
    assert house.bench.engine.starts == ["read", "last"]
    listed = (await house.api.get("/v1/runs")).json()["items"]
    assert [(found["name"], found["parent"]) for found in listed] == [("flow.2", "flow.1"), ("flow.1", "")]
    refused = is_problem(await house.api.post("/v1/runs/flow.2/resume"), 409, "conflict")
    assert "nothing is left to resume" in refused["detail"]
    assert "replay flow.2" in refused["hint"]
    is_problem(await house.api.post("/v1/runs/flow.9/resume"), 404, "not_found")


async def test_a_replay_runs_everything_and_is_refused_once_an_image_is_gone(house: House) -> None:
    await house.declare()
    await house.begin()
    house.bench.engine.starts.clear()
    answer = await house.api.post("/v1/runs/flow/replay")
    assert (answer.status_code, answer.json()["parent"]) == (201, "flow.1")
    await house.bench.settle()
    assert house.bench.engine.starts == ["make", "read", "last"]
    assert (await house.run("flow.2"))["phase"] == "Succeeded"
    house.bench.engine.gone = {"sha256:busybox"}
    is_problem(await house.api.post("/v1/runs/flow.1/replay"), 422, "image_not_found")
    assert len(runs.newest(house.bench.db.read)) == 2


async def test_a_failed_job_becomes_a_notebook(house: House) -> None:
    await house.failed()
    house.hints.clear()
    answer = await house.api.post("/v1/runs/flow.1/jobs/read/notebook", json={"name": "look"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["inputs"], made["outputs"], made["missing"]) == (["tree"], ["side"], [])
    assert made["reason"] == "Failed: exit code 3"
    assert made["image"] == "busybox"
    assert (made["notebook"]["name"], made["notebook"]["desired"]) == ("look", "running")
    assert house.hints == ["notebook"]
    workspace = await house.parts.workspaces.open(made["notebook"]["uid"])
    assert (workspace / "inputs" / "tree" / "file").read_text() == "made"
    assert "exit code 3" in (workspace / "capsule.md").read_text()


async def test_a_notebook_from_a_job_is_refused_in_words_and_leaves_none_behind(house: House) -> None:
    await house.failed()
    path = "/v1/runs/flow.1/jobs/{}/notebook"
    kept = is_problem(await house.api.post(path.format("make"), json={"name": "nb"}), 404, "not_found")
    assert "nothing is kept of job make of flow.1" in kept["detail"]
    is_problem(await house.api.post(path.format("none"), json={"name": "nb"}), 404, "not_found")
    is_problem(await house.api.post("/v1/runs/flow.8/jobs/read/notebook", json={"name": "nb"}), 404, "not_found")
    is_problem(await house.api.post(path.format("read"), json={"name": "../x"}), 422, "invalid_spec")
    is_problem(await house.api.post(path.format("read"), json={}), 400, "usage")
    assert resources.every(house.bench.db.read, "notebook") == []
    await house.api.post("/v1/apply", json={"text": "kind: notebook\nname: nb\n", "file": "nb.yaml"})
    taken = is_problem(await house.api.post(path.format("read"), json={"name": "nb"}), 409, "conflict")
    assert "'nb'" in taken["detail"]
    there = resources.get(house.bench.db.read, "notebook", "nb")
    assert (there.desired, there.deleting) == ("running", False)


async def test_a_workspace_that_cannot_be_filled_takes_its_notebook_with_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.api.routes import runs as routes
    from appliance.errors import NoSpace

    async def full(*_: object) -> None:
        raise NoSpace("the disk is full")

    await house.failed()
    monkeypatch.setattr(routes, "fill_workspace", full)
    is_problem(await house.api.post("/v1/runs/flow.1/jobs/read/notebook", json={"name": "nb"}), 507, "no_space")
    assert resources.get(house.bench.db.read, "notebook", "nb").deleting


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "no space"), asyncio.CancelledError()])
async def test_whatever_ends_the_filling_takes_the_notebook_with_it(
    house: House, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    """A daemon that stops, a full /tmp: no half-filled notebook stays that says nothing of it."""
    from appliance.api.routes import runs as routes

    async def ended(*_: object) -> None:
        raise fault

    await house.failed()
    house.hints.clear()
    monkeypatch.setattr(routes, "fill_workspace", ended)
    (run,) = runs.newest(house.bench.db.read)
    with pytest.raises(type(fault)):
        await routes._open_capsule(house.parts, run, "read", "nb", "")
    assert resources.get(house.bench.db.read, "notebook", "nb").deleting
    assert house.hints == ["notebook"]


async def test_what_a_matrix_and_a_retry_say_is_in_the_answer(house: House) -> None:
    job = script(strategy={"matrix": {"LR": ["0.1", "0.2"]}}, retry={"limit": 1, "delay": 5})
    await house.declare(flow(train=job))
    house.bench.engine.body = {"train-1": lambda inside: 1}
    first, second = (await house.begin())["jobs"]
    assert (first["matrix"], second["matrix"]) == ({"LR": "0.1"}, {"LR": "0.2"})
    assert (first["phase"], first["attempt"], first["next_try"]) == ("Pending", 2, house.bench.clock() + 5)
    assert (second["phase"], second["attempt"], second["next_try"]) == ("Succeeded", 1, None)


async def test_repositories_are_listed_shown_and_deleted(house: House) -> None:
    assert (await house.api.get("/v1/repositories")).json() == {"items": []}
    answer = await house.api.post("/v1/apply", json={"text": REPOSITORY, "file": "code.yaml"})
    assert answer.json()["items"][0]["change"] == "created", answer.text
    assert [item["name"] for item in (await house.api.get("/v1/repositories")).json()["items"]] == ["code"]
    shown = (await house.api.get("/v1/repositories/code")).json()
    assert (shown["kind"], shown["spec"]["url"]) == ("repository", "https://git.test/a.git")
    assert (await house.api.delete("/v1/repositories/code")).status_code == 202
    is_problem(await house.api.get("/v1/repositories/code"), 404, "not_found")
    is_problem(await house.api.delete("/v1/repositories/code"), 404, "not_found")


async def test_the_description_has_what_runs_and_hooks_can_do(house: House) -> None:
    paths = (await house.api.get("/openapi.json")).json()["paths"]
    for path in (
        "/v1/runs/{name}/resume",
        "/v1/runs/{name}/replay",
        "/v1/runs/{name}/jobs/{job}/notebook",
        "/v1/hooks/{name}",
        "/v1/hooks/repository/{name}",
    ):
        operation = paths[path]["post"]
        assert not operation["summary"].startswith("Do "), "it says in words what it does"
    assert paths["/v1/hooks/{name}"]["post"]["security"] == []
    assert "security" not in paths["/v1/runs/{name}/resume"]["post"]
    assert {"get", "delete"} <= paths["/v1/repositories/{name}"].keys()


async def test_the_front_door_takes_signed_messages_and_nothing_else_of_runs(house: House) -> None:
    await house.declare()
    unsigned = is_problem(await house.front.post("/v1/hooks/flow", content=b"{}"), 401, "forbidden")
    assert "not signed" in unsigned["detail"]
    for path in ("/v1/runs/flow.1/resume", "/v1/runs/flow.1/replay", "/v1/hooks/flow/x", "/v1/workflows/flow/runs"):
        is_problem(await house.front.post(path), 401, "forbidden")
    is_problem(await house.front.get("/v1/hooks/flow"), 401, "forbidden")
    assert runs.newest(house.bench.db.read) == []
