"""The door for what containers push, as Prometheus' own client library speaks to it."""

from __future__ import annotations

import asyncio
import gzip
from typing import cast

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Gauge, delete_from_gateway, push_to_gateway, pushadd_to_gateway

from appliance.api.push import MOST_UNPACKED, push_app
from appliance.engine.callers import Callers
from appliance.engine.labels import Owner
from appliance.engine.types import Container
from appliance.errors import EngineDown, Forbidden
from appliance.router.push import ARRIVED, CALLER, MOST_BODY
from appliance.telemetry.metrics.types import Sample, Subject
from appliance.telemetry.telemetry import Telemetry
from tests.conftest import Clock

pytestmark = pytest.mark.anyio

JOB = Subject("run", "train.3", "fit", "c1")
PATH = "/metrics/job/x"


class Rooms:
    """Stands for the telemetry, and for who knows the callers."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.asked: list[tuple[str, float]] = []
        self.owner: Owner | None = Owner("0badcafe", "run", "train.3", "u1", part="fit")
        self.down = False

    def measured(self, samples: list[Sample]) -> None:
        self.samples += samples

    async def find(self, address: str, *, at: float) -> Container:
        if self.down:
            raise EngineDown("the engine is away", hint="wait")
        if address != "172.19.0.2":
            raise Forbidden("only a container of this appliance may push here", hint="push there")
        self.asked.append((address, at))
        labels = self.owner.to_labels() if self.owner else {}
        return Container("c1", "n", "i", "i", labels, "running")


class Door:
    def __init__(self, clock: Clock) -> None:
        self.rooms = Rooms()
        app = push_app(cast(Callers, self.rooms), cast(Telemetry, self.rooms), clock)
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x")

    async def push(
        self, body: bytes = b"loss 0.5\n", path: str = PATH, method: str = "PUT", **headers: str
    ) -> httpx2.Response:
        given = {CALLER: "172.19.0.2", ARRIVED: "1800000000250"} | headers
        return await self.http.request(method, path, content=body, headers={k: v for k, v in given.items() if v})

    async def library(self, method: str, *arguments: object, **options: object) -> int:
        """What the library would send; returns the status of the answer."""
        asked: list[tuple[str, str, bytes]] = []

        def handler(url: str, method: str, timeout: object, headers: object, data: bytes) -> object:
            asked.append((method, url.removeprefix("http://gateway"), data))
            return lambda: None

        call = {"push": push_to_gateway, "add": pushadd_to_gateway, "delete": delete_from_gateway}[method]
        await asyncio.to_thread(call, "gateway", *arguments, handler=handler, **options)  # type: ignore[arg-type]
        ((verb, path, data),) = asked
        return (await self.push(data, path, verb)).status_code


def refused(answer: httpx2.Response, status: int) -> bool:
    """With a next step."""
    return answer.status_code == status and bool(answer.json()["hint"])


@pytest.fixture
def door(clock: Clock) -> Door:
    return Door(clock)


async def test_the_client_library_s_pushes_become_samples_of_the_caller(door: Door, clock: Clock) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("loss", "", ["label_metrics_workflow_handle", "pod", "step", "split"], registry=registry)
    gauge.labels("r1", "host", "7", "val/1").set(0.5)
    key = {"label_metrics_workflow_handle": "r1", "name": "loss", "step": 7}
    assert await door.library("push", "somebody/else", registry, grouping_key=key) == 200
    expected = Sample(JOB, "loss", 0.5, clock.now, step=7, labels=(("split", "val/1"),))
    assert door.rooms.samples == [expected]
    assert door.rooms.asked == [("172.19.0.2", 1_800_000_000.25)]


async def test_the_same_push_again_is_another_sample(door: Door) -> None:
    registry = CollectorRegistry()
    Gauge("loss", "", registry=registry).set(1)
    assert await door.library("push", "j", registry) == 200
    assert await door.library("add", "j", registry) == 200
    assert [sample.value for sample in door.rooms.samples] == [1, 1]


async def test_what_is_deleted_keeps_its_history(door: Door) -> None:
    await door.push()
    assert await door.library("delete", "x") == 202
    assert len(door.rooms.samples) == 1


async def test_a_compressed_push(door: Door) -> None:
    body = gzip.compress(b"loss 0.5\n", mtime=0)
    assert (await door.push(body, **{"Content-Encoding": "gzip"})).status_code == 200
    assert [sample.value for sample in door.rooms.samples] == [0.5]


async def test_a_push_of_much_text(door: Door) -> None:
    text = "".join(f"x{number} {number}\n" for number in range(5000))
    assert (await door.push(text.encode())).status_code == 200
    assert len(door.rooms.samples) == 5000


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, b"loss 1 1700000000000\n", {}),
        (400, b"not a metric\n", {}),
        (400, b"x 1\nx 1\n", {}),
        (400, b"\xff 1\n", {}),
        (400, b"x 1\n", {"Content-Encoding": "gzip"}),
        (400, gzip.compress(b"x 1\n", mtime=0)[:-4], {"Content-Encoding": "gzip"}),
        (400, b"x 1\n", {"Content-Encoding": "snappy"}),
        (400, b"\x08\x01", {"Content-Type": "application/vnd.google.protobuf; encoding=delimited"}),
        (413, b"#" * (MOST_BODY + 1), {}),
        (413, gzip.compress(b"#" * (MOST_UNPACKED + 1), mtime=0), {"Content-Encoding": "gzip"}),
        (401, b"x 1\n", {CALLER: "172.19.0.9"}),
        (401, b"x 1\n", {CALLER: ""}),
        (401, b"x 1\n", {ARRIVED: ""}),
        (401, b"x 1\n", {ARRIVED: "soon"}),
    ],
)
async def test_what_is_refused_stores_nothing(door: Door, status: int, body: bytes, headers: dict[str, str]) -> None:
    answer = await door.push(body, **headers)
    assert refused(answer, status)
    assert door.rooms.samples == []


async def test_other_paths_and_methods(door: Door) -> None:
    assert refused(await door.push(path="/metrics/job/"), 400)
    assert refused(await door.push(path="/metrics/job/x/step"), 400)
    assert refused(await door.push(method="GET"), 405)
    assert refused(await door.push(path="/v1/status"), 404)


async def test_a_container_of_nobody_s(door: Door) -> None:
    door.rooms.owner = None
    assert refused(await door.push(), 401)


async def test_an_engine_that_is_away(door: Door) -> None:
    door.rooms.down = True
    assert refused(await door.push(), 503)
