"""What the clients see when a part fails: each test prints its row."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator

import docker
import pytest

from tests.support.daemon import RunningDaemon, eventually
from tests.support.engine_door import EngineDoor
from tests.support.load import Load
from tests.support.serving import HEALTH, apply, fetch, ready, served, story

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

Tell = Callable[[str], None]
IDLE = 10_000
KEPT_S = 25.0
"""An idle connection is kept for 30 s."""
KNOWN_S = 3.0
"""The end of a replica is known at once; on a busy machine within that."""
NEW_S = 5.0
"""A client that comes anew waits less than that, on a busy machine too."""
LORIS = 200


@pytest.fixture(scope="module", autouse=True)
def base(base_image: str) -> str:
    return base_image


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    def say(row: str) -> None:
        with capsys.disabled():
            print(f"\n{row}")

    return say


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    engine = docker.from_env()
    yield engine
    engine.close()


def end(engine: docker.DockerClient, container: str) -> None:
    engine.containers.get(container).kill()


def beside(load: Load) -> str:
    before, then = (1000 * load.found.percentile(0.99, doing) for doing in ("", "beside them"))
    return f"p99 of the others {before:.0f} ms before, {then:.0f} ms beside them: {load.found.words()}"


def only_what_was_under_way(load: Load, ended: float) -> None:
    """With the only replica goes what it was answering; whatever comes when that is known, waits for the next one.

    `ended`: when it ended, seconds since the load began.
    """
    late = [failure for failure in load.found.failures if failure.at > ended + KNOWN_S]
    assert not late, load.found.failed()
    assert len(load.found.failures) <= 4 * load.connections, load.found.failed()


def only_a_few_posts(load: Load) -> None:
    """What only asks is asked again; what may have changed something is not: it is lost where its replica is.

    Docker's own proxy takes connections for a container that has just ended: some for each that was open.
    """
    posts = sum(failure.method == "POST" for failure in load.found.failures)
    assert posts == len(load.found.failures), load.found.failed()
    assert posts <= 4 * load.connections_of("POST"), load.found.failed()


def test_one_of_two_replicas_is_killed(daemon: RunningDaemon, engine: docker.DockerClient, tell: Tell) -> None:
    apply(daemon, served("two", "v0"))
    ready(daemon, "two", replicas=2)
    with Load(daemon.port, "/deployments/two/predict?ms=20") as load:
        load.more(300)
        victim, _ = daemon.running_containers("two")
        end(engine, victim)
        load.more(500)
        ready(daemon, "two", replicas=2)
        load.more(300)
    tell(f"one of two replicas killed: {load.found.words()}")
    only_a_few_posts(load)


def test_the_only_replica_is_killed(daemon: RunningDaemon, engine: docker.DockerClient, tell: Tell) -> None:
    apply(daemon, served("only", "v0", replicas=1))
    ready(daemon, "only", replicas=1)
    with Load(daemon.port, "/deployments/only/predict?ms=20") as load:
        load.more(300)
        (victim,) = daemon.running_containers("only")
        ended = load.elapsed
        end(engine, victim)
        load.more(500)
    tell(f"the only replica killed: {load.found.words()}")
    only_what_was_under_way(load, ended)


def test_a_replica_is_killed_while_there_is_no_daemon(
    daemon: RunningDaemon, engine: docker.DockerClient, tell: Tell
) -> None:
    apply(daemon, served("alone", "v0"))
    ready(daemon, "alone", replicas=2)
    with Load(daemon.port, "/deployments/alone/predict?ms=20") as load:
        load.more(300)
        daemon.kill()
        try:
            victim, _ = daemon.running_containers("alone")
            end(engine, victim)
            load.more(1000)
        finally:
            daemon.start()
        ready(daemon, "alone", replicas=2)
    tell(f"one of two replicas killed while there was no daemon: {load.found.words()}")
    only_a_few_posts(load)


def test_a_hung_replica_is_found_by_its_liveness_probe(daemon: RunningDaemon, tell: Tell) -> None:
    """It accepts and never answers. Until the probe has failed, requests to it hang; then they are asked elsewhere."""
    live = {"path": "/live", "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 2}
    apply(daemon, served("hung", "v0", healthChecks={**HEALTH, "liveness": live}))
    ready(daemon, "hung", replicas=2)
    with Load(daemon.port, "/deployments/hung/predict?ms=20", methods=("GET",)) as load:
        load.more(300)
        assert fetch(daemon, "/deployments/hung/hang")[0] == 200

        def restarted() -> bool:
            events = daemon.client.items("events", kind="deployment", name="hung")
            return "Unhealthy" in [event["reason"] for event in events]

        eventually(restarted, within_s=60, what=lambda: story(daemon, "hung"))
        ready(daemon, "hung", replicas=2)
        load.more(500)
    tell(f"one of two replicas hung, found by its liveness probe: {load.found.words()}")
    assert not load.found.failures, load.found.failed()


def test_slow_clients_keep_nobody_waiting(daemon: RunningDaemon, tell: Tell) -> None:
    """200 that send a letter a second are let go; those that ask properly notice nothing."""
    apply(daemon, served("slow", "v0", replicas=1))
    ready(daemon, "slow", replicas=1)
    with Load(daemon.port, "/deployments/slow/predict", connections=16) as load:
        load.more(300)
        load.doing = "beside them"
        lived = asyncio.run(loris(daemon.port, LORIS))
    tell(f"{LORIS} clients that never end their head were let go after {max(lived):.1f} s; {beside(load)}")
    assert not load.found.failures, load.found.failed()
    assert max(lived) < 60


async def loris(port: int, count: int) -> list[float]:
    """How long each one was endured, seconds."""

    async def one() -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(b"GET /deployments/slow/predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        ended = asyncio.ensure_future(reader.read())
        while not ended.done():
            await asyncio.wait([ended], timeout=1)
            writer.write(b"a")
        writer.close()
        return time.monotonic() - began

    return await asyncio.gather(*(one() for _ in range(count)))


def test_docker_is_restarted(daemon: RunningDaemon, engine: docker.DockerClient, tell: Tell) -> None:
    """Every replica ends, and the engine is away for some seconds: who comes then waits for it."""
    apply(daemon, served("again", "v0", rollout={"hold": 120}))
    ready(daemon, "again", replicas=2)
    with EngineDoor(daemon.home / "docker.sock") as door:
        daemon.stop()
        daemon.extra["DOCKER_HOST"] = door.url
        daemon.start()
        try:
            with Load(daemon.port, "/deployments/again/predict?ms=20") as load:
                load.more(300)
                victims = daemon.running_containers("again")
                door.shut()
                ended = load.elapsed
                for victim in victims:
                    end(engine, victim)
                time.sleep(3)  # as long as an engine takes
                door.open()
                load.more(500)
                ready(daemon, "again", replicas=2)
            tell(f"Docker restarted, all replicas ended, 3 s without it: {load.found.words()}")
        finally:
            daemon.extra.clear()
            daemon.stop()
            daemon.start()
    only_what_was_under_way(load, ended)


def test_haproxy_is_killed(daemon: RunningDaemon, tell: Tell) -> None:
    """Its connections are lost, and those that come before the next one is there; the routes are what they were."""
    apply(daemon, served("door", "v0"))
    ready(daemon, "door", replicas=2)
    with Load(daemon.port, "/deployments/door/predict?ms=20") as load:
        load.more(300)
        before = front_door_pid(daemon)
        os.kill(before, signal.SIGKILL)
        began = time.monotonic()
        load.doing = "HAProxy is dead"
        eventually(lambda: load.found.waits.get("HAProxy is dead"), within_s=30, what="answers again")
        away = time.monotonic() - began
        load.doing = "afterwards"
        load.more(300)
        after = len([failure for failure in load.found.failures if failure.during.startswith("afterwards")])
    lost_meanwhile = len(load.found.failures) - after
    tell(f"HAProxy killed: answers again after {away:.2f} s, {lost_meanwhile} requests lost meanwhile, {after} later")
    assert front_door_pid(daemon) != before
    assert after == 0, load.found.failed()
    assert fetch(daemon, "/deployments/door/predict") == (200, b"v0")


def front_door_pid(daemon: RunningDaemon) -> int:
    def found() -> int | None:
        for part in daemon.client.status()["parts"]:
            if part["name"] == "front door" and part["ok"]:
                pids = (daemon.home / "router" / "haproxy.pid").read_text().split()
                return int(pids[-1])
        return None

    return eventually(found, within_s=30, what="a front door")


def test_ten_thousand_idle_connections(daemon: RunningDaemon, tell: Tell) -> None:
    """They stay open, those that ask meanwhile are answered as before, and so is one who comes anew."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = IDLE if hard == resource.RLIM_INFINITY else min(IDLE, hard - 1024)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 512), hard))
    apply(daemon, served("idle", "v0", replicas=1))
    ready(daemon, "idle", replicas=1)
    new: list[float] = []

    def meanwhile() -> None:
        load.doing = "beside them"
        for _ in range(10):
            began = time.monotonic()
            assert fetch(daemon, "/deployments/idle/predict") == (200, b"v0")
            new.append(time.monotonic() - began)
        load.more(500)

    try:
        with Load(daemon.port, "/deployments/idle/predict", connections=16) as load:
            load.more(500)
            load.doing = "while they come"
            fresh, ended = asyncio.run(idle(daemon.port, count, meanwhile))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    tell(
        f"{count} idle connections, {ended} of {fresh} ended early; one who came anew waited {1000 * max(new):.0f} ms"
        f" at most; {beside(load)}"
    )
    assert fresh > 0
    assert ended == 0
    assert max(new) < NEW_S
    assert not load.found.failures, load.found.failed()


async def idle(port: int, count: int, meanwhile: Callable[[], None]) -> tuple[int, int]:
    """Open so many, each with one request behind it, keep them all while `meanwhile` runs. How many were so young then
    that nobody may have closed them, and how many of those were closed.
    """
    request = b"GET /deployments/idle/predict HTTP/1.1\r\nHost: x\r\n\r\n"
    links: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
    limit = asyncio.Semaphore(200)

    async def one() -> None:
        async with limit:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            await reader.readuntil(b"\r\n\r\nv0")
            links.append((time.monotonic(), reader, writer))

    await asyncio.gather(*(one() for _ in range(count)))
    await asyncio.to_thread(meanwhile)
    fresh = [link for link in links if link[0] > time.monotonic() - KEPT_S]
    ended = sum(reader.at_eof() for _, reader, _ in fresh)
    for _, _, writer in links:
        writer.close()
    return len(fresh), ended


def test_all_is_stopped_and_started_again(daemon: RunningDaemon, tell: Tell) -> None:
    """Nobody's fault: nothing is counted, nothing is an error, and who comes while it starts waits for it."""
    apply(daemon, served("rest", "v0", rollout={"hold": 120}))
    ready(daemon, "rest", replicas=2)
    waited = []
    for _ in range(2):
        before = max(one["id"] for one in daemon.client.items("events", kind="deployment", name="rest"))
        stopped = daemon.cli("stop", "--all")
        assert stopped.returncode == 0, stopped.stderr
        daemon.stop()
        daemon.start()
        began = time.monotonic()
        front_door_pid(daemon)
        assert fetch(daemon, "/deployments/rest/predict") == (200, b"v0"), story(daemon, "rest")
        waited.append(time.monotonic() - began)
        row = ready(daemon, "rest", replicas=2)
        assert [one["restarts"] for one in row["status"]["replicas"]] == [0, 0], story(daemon, "rest")
        events = daemon.client.items("events", kind="deployment", name="rest")
        assert {one["level"] for one in events if one["id"] > before} == {"info"}, story(daemon, "rest")
    tell(f"stop --all and started again: the first request waited {max(waited):.1f} s at most")
