"""Samples that come with the token: for a resource that there is, all of a push or nothing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import httpx2
import pytest

from appliance.api.app import behind_token, build_app
from appliance.errors import TelemetryError
from appliance.settings import Settings
from appliance.telemetry.metrics.types import Sample, Subject
from appliance.telemetry.telemetry import Telemetry
from tests.conftest import Clock
from tests.unit.api.run_house import Lines, parts_of
from tests.unit.api.test_api import is_problem
from tests.unit.workflows.fakes import Bench, flow, script

pytestmark = pytest.mark.anyio

RUN = {"kind": "run", "name": "flow.1"}


class Recorder:
    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.broken = False

    async def record(self, samples: list[Sample]) -> None:
        if self.broken:
            raise TelemetryError("the disk is full")
        self.samples += samples


class House:
    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.bench = Bench(settings, clock)
        self.recorder = Recorder()
        parts = parts_of(self.bench, Lines(), [])
        parts.telemetry = cast(Telemetry, self.recorder)
        app = build_app(parts)
        self.api = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x")
        front = httpx2.ASGITransport(behind_token(app, "t0k3n"))
        self.front = httpx2.AsyncClient(transport=front, base_url="http://x")

    async def push(self, *samples: Any, owner: Any = RUN) -> httpx2.Response:
        return await self.api.post("/v1/metrics", json={"for": owner, "samples": list(samples)})

    async def begun(self) -> None:
        """A run, and a workflow without any."""
        for name in ("flow", "idle"):
            asked = {"text": json.dumps(flow(make=script())), "file": f"{name}.yaml"}
            answer = await self.api.post("/v1/apply", json=asked)
            assert answer.status_code == 200, answer.text
        assert (await self.api.post("/v1/workflows/flow/runs", json={})).status_code == 201
        await self.bench.settle()


@pytest.fixture
def house(settings: Settings, clock: Clock) -> Iterator[House]:
    made = House(settings, clock)
    yield made
    made.bench.close()


async def test_samples_of_a_run(house: House, clock: Clock) -> None:
    await house.begun()
    sample = {"metric": "loss", "value": 1, "step": 3, "at": clock.now - 60, "labels": {"b": "2", "a": "1", "c": ""}}
    answer = await house.push(sample, {"metric": "val loss", "value": 0.5}, owner={**RUN, "part": "make"})
    assert (answer.status_code, answer.json()) == (200, {"kind": "run", "name": "flow.1", "samples": 2})
    subject = Subject("run", "flow.1", "make", "")
    assert house.recorder.samples == [
        Sample(subject, "loss", 1.0, clock.now - 60, step=3, labels=(("a", "1"), ("b", "2"))),
        Sample(subject, "val loss", 0.5, clock.now),
    ]


async def test_the_name_of_a_workflow_means_its_newest_run(house: House) -> None:
    await house.begun()
    answer = await house.push({"metric": "x", "value": 1}, owner={"kind": "run", "name": "flow"})
    assert answer.json()["name"] == "flow.1"
    assert house.recorder.samples[0].subject.name == "flow.1"


@pytest.mark.parametrize(
    "sample",
    [
        {"metric": "", "value": 1},
        {"metric": "a\x1b[2J", "value": 1},
        {"metric": "x" * 1001, "value": 1},
        {"metric": "x", "value": "1"},
        {"metric": "x", "value": True},
        {"metric": "x"},
        {"value": 1},
        {"metric": "x", "value": 1, "step": -1},
        {"metric": "x", "value": 1, "step": 2**63},
        {"metric": "x", "value": 1, "step": 1.5},
        {"metric": "x", "value": 1, "at": 1_800_001_000},
        {"metric": "x", "value": 1, "at": -1},
        {"metric": "x", "value": 1, "labels": {"a-b": "c"}},
        {"metric": "x", "value": 1, "labels": {"a": "c" * 1001}},
        {"metric": "x", "value": 1, "labels": {f"l{number}": "1" for number in range(31)}},
        {"metric": "x", "value": 1, "stamp": 1},
    ],
)
async def test_one_wrong_sample_and_nothing_is_stored(house: House, sample: dict[str, Any]) -> None:
    await house.begun()
    problem = is_problem(await house.push({"metric": "ok", "value": 1}, sample), 400, "usage")
    assert problem["detail"].startswith("samples.1.")
    assert house.recorder.samples == []


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_value_that_is_no_finite_number(house: House, value: str) -> None:
    await house.begun()
    body = '{"for": {"kind": "run", "name": "flow.1"}, "samples": [{"metric": "x", "value": ' + value + "}]}"
    is_problem(await house.api.post("/v1/metrics", content=body), 400, "usage")
    assert house.recorder.samples == []


@pytest.mark.parametrize(
    ("owner", "status", "code"),
    [
        ({"kind": "run", "name": "flow.2"}, 404, "not_found"),
        ({"kind": "run", "name": "idle"}, 404, "not_found"),
        ({"kind": "notebook", "name": "none"}, 404, "not_found"),
        ({"kind": "machine", "name": ""}, 400, "usage"),
        ({"kind": "workflow", "name": "flow"}, 400, "usage"),
        ({"kind": "run", "name": "flow.1", "part": "\x1b"}, 400, "usage"),
        ({"kind": "run"}, 400, "usage"),
        (None, 400, "usage"),
    ],
)
async def test_whose_they_are_must_be_there(house: House, owner: Any, status: int, code: str) -> None:
    await house.begun()
    is_problem(await house.push({"metric": "x", "value": 1}, owner=owner), status, code)
    assert house.recorder.samples == []


async def test_a_push_of_too_many(house: House) -> None:
    await house.begun()
    many = [{"metric": "x", "value": 1}] * 10_001
    is_problem(await house.push(*many), 413, "too_large")


async def test_what_could_not_be_stored_is_told(house: House) -> None:
    await house.begun()
    house.recorder.broken = True
    is_problem(await house.push({"metric": "x", "value": 1}), 500, "telemetry")


async def test_it_needs_the_token(house: House) -> None:
    is_problem(await house.front.post("/v1/metrics", json={}), 401, "forbidden")
