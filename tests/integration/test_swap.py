"""Two versions where only one fits: requests wait while they change places, and every one of them is answered."""

from __future__ import annotations

import functools
import threading

import pytest

from tests.support.daemon import RunningDaemon, eventually
from tests.support.load import Load
from tests.support.serving import apply, fetch, ready, served, story

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

SWAPS = 10
HOLD_S = 60.0
SWAP = {"strategy": "swap", "hold": HOLD_S}


@pytest.fixture(scope="module", autouse=True)
def base(base_image: str) -> str:
    return base_image


def one(name: str, version: str, **more: object) -> dict[str, object]:
    """A deployment of one replica of which two do not fit."""
    return served(name, version, replicas=1, rollout=SWAP, **more)  # type: ignore[arg-type]


class Watch(threading.Thread):
    """The most containers of a deployment that ever ran at once, as the engine tells."""

    def __init__(self, daemon: RunningDaemon, name: str) -> None:
        super().__init__(daemon=True)
        self._daemon, self._name = daemon, name
        self._enough = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._enough.wait(0.05):
            self.most = max(self.most, len(self._daemon.running_containers(self._name)))

    def finish(self) -> int:
        self._enough.set()
        self.join(30)
        return self.most


def test_swaps_under_load_answer_every_request_within_the_hold(
    daemon: RunningDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(daemon, one("gpu", "v0"))
    ready(daemon, "gpu", replicas=1)
    watch = Watch(daemon, "gpu")
    watch.start()
    with Load(daemon.port, "/deployments/gpu/predict?ms=20") as load:
        load.more(200)
        for number in range(1, SWAPS + 1):
            load.doing = f"swap {number}"
            apply(daemon, one("gpu", f"v{number}", env={"WARM_UP": "1"}))
            ready(daemon, "gpu", replicas=1)
            load.more(200)
    most, found = watch.finish(), load.found
    with capsys.disabled():
        print(f"\n{SWAPS} swaps: {found.words()}; longest wait of each: ", end="")
        print(", ".join(f"{found.longest(f'swap {number}'):.2f}" for number in range(1, SWAPS + 1)), "s")
    assert not found.failures, found.failed()
    assert most == 1, "never two at once"
    assert found.longest() < HOLD_S
    assert {body.split()[0] for body in found.bodies} == {f"v{number}" for number in range(SWAPS + 1)}


def test_a_version_that_fails_in_a_swap_gives_its_place_back(daemon: RunningDaemon) -> None:
    apply(daemon, one("undone", "good"))
    ready(daemon, "undone", replicas=1)
    with Load(daemon.port, "/deployments/undone/predict?ms=20") as load:
        load.more(200)
        load.doing = "a swap to one that ends at once"
        apply(daemon, one("undone", "bad", env={"CRASH": "no torch here"}))
        daemon.phase("deployments", "undone", "Degraded")
        eventually(lambda: load.found.waits.get(load.doing), within_s=HOLD_S, what="answers of the old one")
        load.more(200)
    assert not load.found.failures, load.found.failed()
    assert {body.split()[0] for body in load.found.bodies} == {"good"}
    assert load.found.longest() < HOLD_S
    assert "no torch here" in story(daemon, "undone")
    ready_again = daemon.client.get("deployments", "undone")
    assert ready_again["status"]["generation_ready"] == 1
    assert len(daemon.running_containers("undone")) == 1


def test_a_large_upload_that_comes_in_the_middle_of_a_swap_reaches_the_new_one_whole(daemon: RunningDaemon) -> None:
    apply(daemon, one("upload", "v0"))
    ready(daemon, "upload", replicas=1)
    (before,) = daemon.running_containers("upload")
    apply(daemon, one("upload", "v1", env={"WARM_UP": "3"}))
    eventually(lambda: before not in daemon.running_containers("upload"), within_s=60, what="the old one is gone")
    body = bytes(20_000_000)
    assert fetch(daemon, "/deployments/upload/predict", method="POST", body=body) == (200, b"v1 20000000")
    ready(daemon, "upload", replicas=1)


def reached(daemon: RunningDaemon, name: str, instant: str, old: str) -> bool:
    running = daemon.running_containers(name)
    return old not in running if instant == "the old one is gone" else bool(set(running) - {old})


def test_a_daemon_that_is_killed_in_the_middle_of_a_swap_finishes_it(daemon: RunningDaemon) -> None:
    """The instants are those at which the engine shows another picture: none runs, the new one runs."""
    apply(daemon, one("cut", "v0"))
    ready(daemon, "cut", replicas=1)
    (before,) = daemon.running_containers("cut")
    with Load(daemon.port, "/deployments/cut/predict?ms=20") as load:
        for version, instant in (("v1", "the old one is gone"), ("v2", "the new one runs")):
            load.more(100)
            load.doing = f"a kill when {instant}"
            apply(daemon, one("cut", version, env={"WARM_UP": "2"}))
            eventually(functools.partial(reached, daemon, "cut", instant, before), within_s=60, what=instant)
            daemon.kill()
            daemon.start()
            ready(daemon, "cut", replicas=1)
            (before,) = daemon.running_containers("cut")
            assert fetch(daemon, "/deployments/cut/predict") == (200, version.encode())
    assert not load.found.failures, load.found.failed()
    assert load.found.longest() < HOLD_S
