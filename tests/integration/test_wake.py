"""Scaled to zero: the first requests wake it, wait for it, and are all answered."""

from __future__ import annotations

import pytest

from tests.support.daemon import RunningDaemon, eventually
from tests.support.load import Load
from tests.support.serving import apply, fetch, ready, served, story

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

WAKES = 10
AFTER_S = 2.0
HOLD_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def base(base_image: str) -> str:
    return base_image


def sleepy(name: str, version: str, **more: object) -> dict[str, object]:
    scale = {"scaleToZero": {"after": AFTER_S, "hold": HOLD_S}}
    return served(name, version, replicas=1, resources=scale, **more)  # type: ignore[arg-type]


def asleep(daemon: RunningDaemon, name: str) -> None:
    def sleeps() -> bool:
        phase = daemon.client.get("deployments", name)["phase"]
        return phase == "Asleep" and not daemon.running_containers(name)

    eventually(
        sleeps,
        within_s=60,
        what=lambda: f"{name} asleep: {story(daemon, name)}",
    )


def test_waking_under_load_answers_every_request(daemon: RunningDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    apply(daemon, sleepy("nap", "v0"))
    ready(daemon, "nap", replicas=1)
    longest, asked = [], 0
    for _ in range(WAKES):
        asleep(daemon, "nap")
        with Load(daemon.port, "/deployments/nap/predict?ms=20") as load:
            load.more(200)
        assert not load.found.failures, load.found.failed()
        assert load.found.longest() < HOLD_S
        longest.append(load.found.longest())
        asked += load.found.total
    with capsys.disabled():
        print(f"\n{WAKES} wakes under load: {asked} requests, none failed; longest wait of each: ", end="")
        print(", ".join(f"{wait:.2f}" for wait in longest), "s")
    assert "Woken" in [event["reason"] for event in daemon.client.items("events", kind="deployment", name="nap")]


def test_a_request_under_way_keeps_it_awake(daemon: RunningDaemon) -> None:
    """A stream that lasts several times as long as it may be idle is not cut."""
    apply(daemon, sleepy("dream", "v0"))
    ready(daemon, "dream", replicas=1)
    status, body = fetch(daemon, f"/deployments/dream/stream?seconds={5 * AFTER_S}&every=0.5")
    assert status == 200
    assert body.count(b"data: ") == 5 * AFTER_S / 0.5
    asleep(daemon, "dream")


def test_it_sleeps_through_an_end_of_the_daemon_and_wakes_for_a_request_that_came_without_one(
    daemon: RunningDaemon,
) -> None:
    apply(daemon, sleepy("sound", "v0"))
    ready(daemon, "sound", replicas=1)
    asleep(daemon, "sound")
    daemon.kill()
    with Load(daemon.port, "/deployments/sound/predict?ms=20", connections=8, methods=("GET",)) as load:
        load.doing = "without a daemon"
        daemon.start()
        load.more(8)
    assert not load.found.failures, load.found.failed()
    assert fetch(daemon, "/deployments/sound/predict")[0] == 200


def test_a_new_revision_of_one_that_sleeps_serves_once_it_is_awake(daemon: RunningDaemon) -> None:
    apply(daemon, sleepy("later", "v0"))
    ready(daemon, "later", replicas=1)
    asleep(daemon, "later")
    apply(daemon, sleepy("later", "v1"))
    with Load(daemon.port, "/deployments/later/predict", connections=8) as load:
        eventually(lambda: "v1" in load.found.bodies, within_s=60, what=lambda: story(daemon, "later"))
    assert not load.found.failures, load.found.failed()


def test_what_goes_on_because_another_was_undone_sleeps_and_wakes(daemon: RunningDaemon) -> None:
    apply(daemon, sleepy("again", "v0"))
    ready(daemon, "again", replicas=1)
    apply(daemon, {**sleepy("again", "v1"), "command": ["sh", "-c", "exit 3"]})
    eventually(
        lambda: "undone" in daemon.client.get("deployments", "again")["status"],
        within_s=120,
        what=lambda: f"again undone: {story(daemon, 'again')}",
    )
    asleep(daemon, "again")
    assert "generation 2 was undone" in daemon.client.get("deployments", "again")["message"]
    assert fetch(daemon, "/deployments/again/predict") == (200, b"v0")
