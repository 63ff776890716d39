"""The engine's door against a stand-in on a unix socket: outages, time-outs, names that are taken."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.docker import Engine
from appliance.engine.labels import GPUS, Owner
from appliance.engine.types import ContainerSpec, EngineEvent
from appliance.errors import Conflict, EngineDown, EngineError, GpuRefused, ImageNotFound, NotFound
from tests.unit.engine.fake import CUT, FakeEngine, fake_engine

pytestmark = pytest.mark.anyio

OWNER = Owner("0badcafe", "run", "w.1", "u1", part="a")
SPEC = ContainerSpec(name="appliance-0badcafe-run-w.1-a", image="a:1", labels=OWNER.to_labels())


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    with fake_engine(tmp_path / "docker.sock") as server:
        named = {"Id": "n1", "Name": "appliance-0badcafe", "Created": "2026-01-01T00:00:00Z"}
        server.answers["GET /networks"] = (200, [named])
        server.answers["GET /networks/n1"] = (200, {"IPAM": {"Config": [{"Gateway": "172.19.0.1"}]}})
        yield server


def engine_at(fake: FakeEngine) -> Engine:
    return Engine(instance="0badcafe", docker_host=fake.host)


def event(action: str, nanoseconds: int) -> dict[str, Any]:
    attributes = {"exitCode": "0", "dev.appliance.instance": "0badcafe"}
    return {"Action": action, "timeNano": nanoseconds, "Actor": {"ID": "c1", "Attributes": attributes}}


def container(state: str, labels: dict[str, str] | None = None) -> tuple[int, Any]:
    labels = OWNER.to_labels() if labels is None else labels
    return 200, {"Id": "c1", "Name": f"/{SPEC.name}", "Config": {"Labels": labels}, "State": {"Status": state}}


async def test_a_missing_socket_has_a_next_step(tmp_path: Path) -> None:
    engine = Engine(instance="0badcafe", docker_host=f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineDown, match="socket does not exist") as caught:
        await engine.connect()
    assert "systemctl start docker" in caught.value.hint


async def test_a_socket_without_a_listener_has_a_next_step(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(EngineDown, match="refused"):
        await Engine(instance="0badcafe", docker_host=f"unix://{path}").connect()


async def test_an_engine_that_never_answers_runs_into_the_deadline(fake: FakeEngine) -> None:
    fake.answers["GET /containers/c1/json"] = (200, "hang")
    engine = engine_at(fake)
    with pytest.raises(EngineDown, match="in time"):
        await engine.client.call(lambda api: api.inspect_container("c1"), deadline_s=0.2)


async def test_it_connects_again_after_the_engine_came_back(tmp_path: Path) -> None:
    engine = Engine(instance="0badcafe", docker_host=f"unix://{tmp_path}/docker.sock")
    with pytest.raises(EngineDown):
        await engine.connect()
    with fake_engine(tmp_path / "docker.sock"):
        assert (await engine.connect()).cpus == 2
    await engine.close()


async def test_a_name_that_is_ours_is_found(fake: FakeEngine) -> None:
    fake.answers["POST /containers/create"] = (409, {"message": "Conflict. The container name is already in use"})
    fake.answers[f"GET /containers/{SPEC.name}/json"] = container("exited")
    assert (await engine_at(fake).create(SPEC)).state == "exited"


@pytest.mark.parametrize("labels", [{}, OWNER.to_labels() | {"dev.appliance.instance": "11111111"}])
async def test_a_name_that_is_taken_by_another_is_a_conflict(fake: FakeEngine, labels: dict[str, str]) -> None:
    fake.answers["POST /containers/create"] = (409, {"message": "Conflict. The container name is already in use"})
    fake.answers[f"GET /containers/{SPEC.name}/json"] = container("running", labels)
    with pytest.raises(Conflict, match="another program or appliance"):
        await engine_at(fake).create(SPEC)


async def test_a_missing_image_is_told_as_that(fake: FakeEngine) -> None:
    fake.answers["POST /containers/create"] = (404, {"message": "No such image: a:1"})
    with pytest.raises(ImageNotFound) as caught:
        await engine_at(fake).create(SPEC)
    assert caught.value.where == "a:1"


async def test_a_full_disk_is_told_in_the_engines_words(fake: FakeEngine) -> None:
    fake.answers["POST /containers/create"] = (500, {"message": "mkdir /var/lib/docker/x: no space left on device"})
    with pytest.raises(EngineError, match="no space left") as caught:
        await engine_at(fake).create(SPEC)
    assert "docker system df" in caught.value.hint


async def test_what_is_gone_may_be_stopped_killed_and_removed(fake: FakeEngine) -> None:
    engine = engine_at(fake)
    await engine.stop("c1", grace_s=0.5)
    await engine.kill("c1")
    await engine.remove("c1")
    assert await engine.inspect("c1") is None
    assert await engine.logs_tail("c1", 5) == ""


async def test_waiting_for_what_is_gone_ends(fake: FakeEngine) -> None:
    with pytest.raises(NotFound):
        await engine_at(fake).wait("c1")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.01)


async def take(events: Any, count: int) -> list[EngineEvent]:
    async with asyncio.timeout(60):
        return [await anext(events) for _ in range(count)]


async def test_events_go_on_after_the_engine_broke_off_and_none_comes_twice(fake: FakeEngine) -> None:
    events = engine_at(fake).events()
    fake.events.put(event("create", 1_000_000_001))
    fake.events.put(event("start", 1_000_000_002))
    assert [found.action for found in await take(events, 2)] == ["create", "start"]
    fake.events.put(CUT)
    fake.events.put(event("start", 1_000_000_002))  # replayed: a stream starts with the moment it was asked for
    fake.events.put(event("die", 1_000_000_003))
    found = await take(events, 3)
    assert [item.action for item in found] == ["lost", "resync", "die"]
    assert found[2].exit_code == 0
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_stream_is_resumed_from_the_last_event_to_the_nanosecond(fake: FakeEngine) -> None:
    engine = engine_at(fake)
    events = engine.events()
    fake.events.put(event("create", 4_000_000_000_123_456_789))
    await take(events, 1)
    fake.events.put(CUT)
    fake.events.put(event("die", 4_000_000_001_000_000_000))
    assert [item.action for item in await take(events, 3)] == ["lost", "resync", "die"]
    assert fake.since[-1] == "4000000000.123456789"
    await events.aclose()  # type: ignore[attr-defined]


async def test_events_wait_for_an_engine_that_is_down(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = Engine(instance="0badcafe", docker_host=f"unix://{tmp_path}/docker.sock").events()
    task = asyncio.ensure_future(take(events, 3))
    await until(lambda: "no events" in caplog.text)
    with fake_engine(tmp_path / "docker.sock") as server:
        server.events.put(event("create", 1))
        assert [found.action for found in await task] == ["lost", "resync", "create"]
        await events.aclose()  # type: ignore[attr-defined]


async def test_events_begin_with_the_moment_of_the_connection(fake: FakeEngine) -> None:
    engine = engine_at(fake)
    begun = time.time()
    await engine.connect()
    connected = time.time()
    fake.events.put(event("create", 1))
    events = engine.events()
    await take(events, 1)
    assert begun - 0.001 <= float(fake.since[0]) <= connected
    await events.aclose()  # type: ignore[attr-defined]


async def test_cancelling_whoever_follows_events_takes_no_time(fake: FakeEngine) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(take(engine_at(fake).events(), 1))
    await until(lambda: bool(fake.since))
    begun = loop.time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() - begun < 20, "the stand-in ends the stream after its test only"


async def test_one_that_was_made_for_a_lease_that_is_over_is_made_again(fake: FakeEngine) -> None:
    """Its cards are another's now. One that has run keeps what it has: it is its owner's to end."""
    wanted = replace(SPEC, gpus=["GPU-2"])
    old = OWNER.to_labels() | {GPUS: "GPU-1"}
    fake.answers["POST /containers/create"] = (409, {"message": "Conflict. The container name is already in use"})
    fake.answers[f"GET /containers/{SPEC.name}/json"] = container("created", OWNER.to_labels() | {GPUS: "GPU-2"})
    assert (await engine_at(fake).create(wanted)).state == "created"
    fake.answers[f"GET /containers/{SPEC.name}/json"] = container("running", old)
    assert (await engine_at(fake).create(wanted)).labels[GPUS] == "GPU-1"
    assert "DELETE /containers/c1" not in fake.requests
    for labels in (old, OWNER.to_labels()):
        fake.requests.clear()
        fake.answers[f"GET /containers/{SPEC.name}/json"] = container("created", labels)
        making = asyncio.create_task(engine_at(fake).create(wanted))
        await until(lambda: "DELETE /containers/c1" in fake.requests)
        fake.answers[f"GET /containers/{SPEC.name}/json"] = container("created", OWNER.to_labels() | {GPUS: "GPU-2"})
        assert (await making).labels[GPUS] == "GPU-2"


async def test_what_cdi_names_is_asked_anew_for_each_container_with_gpus(fake: FakeEngine) -> None:
    fake.answers["POST /containers/create"] = (201, {"Id": "c1"})
    engine = engine_at(fake)
    await engine.create(SPEC)
    assert "GET /info" not in fake.requests
    for _ in range(2):
        fake.requests.clear()
        await engine.create(replace(SPEC, gpus=["GPU-1"]))
        assert fake.requests.count("GET /info") == 1


async def test_a_gpu_that_cannot_be_given_now_is_an_error_of_its_own(fake: FakeEngine) -> None:
    words = "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-1"
    fake.answers["POST /containers/c1/start"] = (500, {"message": words})
    with pytest.raises(GpuRefused, match="unresolvable") as caught:
        await engine_at(fake).start("c1")
    assert "nvidia-ctk" in caught.value.hint
