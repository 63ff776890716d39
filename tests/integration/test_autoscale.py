"""Replicas come by what the front door and the kernel measure, and no request is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.daemon import RunningDaemon, eventually
from tests.support.load import Load
from tests.support.serving import apply, ready, served, story

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

MOST = 3


@pytest.fixture(scope="module", autouse=True)
def base(base_image: str) -> str:
    return base_image


def followed(name: str, metric: str, value: float) -> dict[str, Any]:
    metrics = [{"metric": metric, "summary": "average", "value": value}]
    return served(name, "v0", replicas=1, resources={"autoscaling": {"maxReplicas": MOST, "metrics": metrics}})


def grown(daemon: RunningDaemon, name: str) -> None:
    eventually(
        lambda: len(daemon.running_containers(name)) == MOST or None,
        within_s=60,
        what=lambda: f"{MOST} replicas of {name}: {story(daemon, name)}",
    )
    item = ready(daemon, name, replicas=MOST)
    told = {event["reason"]: event["message"] for event in daemon.client.items("events", kind="deployment", name=name)}
    assert told["Scaled"].startswith(f"from 1 to {MOST} replicas: ")
    assert "Degraded" not in told
    assert item["generation"] == 1


def test_slow_answers_bring_more_replicas(daemon: RunningDaemon) -> None:
    daemon.stop()
    daemon.extra["APPLIANCE_AUTOSCALE_EVERY_S"] = "1"
    daemon.start()
    apply(daemon, followed("slow", "requestDuration", 0.02))
    ready(daemon, "slow", replicas=1)
    with Load(daemon.port, "/deployments/slow/predict?ms=200", connections=8) as load:
        grown(daemon, "slow")
        load.more(100)
    assert not load.found.failures, load.found.failed()


def test_memory_in_use_brings_more_replicas_and_a_restart_keeps_them(daemon: RunningDaemon) -> None:
    daemon.stop()
    daemon.extra["APPLIANCE_AUTOSCALE_EVERY_S"] = "1"
    daemon.start()
    apply(daemon, followed("large", "memory", 0.05))  # of a C4's 4 GB: a server in Python needs some 10 MB
    grown(daemon, "large")
    before = set(daemon.running_containers("large"))
    daemon.kill()
    daemon.start()
    ready(daemon, "large", replicas=MOST)
    assert set(daemon.running_containers("large")) == before
