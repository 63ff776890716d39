"""GPUs from the front door down to the container: two cards that everybody wants, on a machine that has none.

NVML is a library of the tests', NVIDIA's hook a stand-in, and the engine is one of the tests' own that knows them.
All else is real: the daemon, its child process that asks NVML, the containers and what is in them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import run_inside
from tests.support.daemon import RunningDaemon, eventually, running_daemon
from tests.support.engines import PrivateEngine, private_engine
from tests.support.nvidia_toolkit import CARDS
from tests.support.nvml.stub import Stub, card
from tests.support.serving import apply, fetch, ready, served, story

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

UUIDS = list(CARDS)[:2]
ANSWERS = """import http.server, signal, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *_):
        pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("", 8888), Answers).serve_forever()
"""
"""Stands for Jupyter: it begins at once and ends at once."""
JOBS = """
jobs:
  fit:
    uses: script@v1
    resources: {instance-type: P4000}
    with:
      image: appliance/base
      script: |
        ls /dev | grep nvidia
        sleep 2
"""


@pytest.fixture(scope="module", params=[False, True], ids=["hook", "cdi"])
def private(request: pytest.FixtureRequest, base_image: str) -> Iterator[PrivateEngine]:
    """With the base image on it, and the engine that the helpers of these tests ask."""
    with private_engine(cdi=request.param, reachable=True) as found, pytest.MonkeyPatch.context() as patch:
        carry = f"docker save {base_image} | docker -H {found.host} load"
        subprocess.run(["sh", "-c", carry], capture_output=True, timeout=300, check=True)
        patch.setenv("DOCKER_HOST", found.host)
        yield found


@pytest.fixture(scope="module")
def cards(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Stub:
    stub = Stub(tmp_path_factory.mktemp("cards"), nvml_library)
    stub.tell(*(card(index, uuid=uuid, util=0) for index, uuid in enumerate(UUIDS)))
    return stub


@pytest.fixture(scope="module")
def daemon(private: PrivateEngine, cards: Stub) -> Iterator[RunningDaemon]:
    with running_daemon(APPLIANCE_DOCKER_HOST=private.host, **cards.variables) as running:
        eventually(lambda: len(running.client.gpus()["items"]) == len(UUIDS), within_s=30, what="both cards")
        yield running


@pytest.fixture(autouse=True)
def nobody(daemon: RunningDaemon) -> Iterator[None]:
    """Each test begins with both cards free, and ends with what it has made gone."""
    eventually(lambda: not daemon.client.leases(), within_s=30, what=lambda: f"no lease: {daemon.client.leases()}")
    yield
    for kind in ("notebooks", "deployments"):
        for item in daemon.client.items(kind):
            daemon.client.delete(kind, item["name"], confirm=item["name"])
    for uuid in UUIDS:
        daemon.client.resume_gpu(uuid)
    for run in daemon.client.items("runs"):
        if not run["finished"]:
            said(daemon, "workflow", "cancel", run["name"])


def notebook(daemon: RunningDaemon, name: str, **more: Any) -> None:
    document = {"kind": "notebook", "name": name, "image": "appliance/base", "gpus": 1}
    document["command"] = ["python3", "-c", ANSWERS]
    daemon.client.apply(json.dumps({**document, **more}), f"{name}.json")


def runs(daemon: RunningDaemon, *names: str) -> None:
    for name in names:
        daemon.phase("notebooks", name, "Running", within_s=40)


def waits(daemon: RunningDaemon, name: str) -> str:
    """What it says of that, once it waits."""

    def words() -> str:
        item = daemon.client.get("notebooks", name)
        return str(item["message"]) if item["phase"] == "Pending" else ""

    return eventually(words, within_s=20, what=lambda: told(daemon, name))


def inside(daemon: RunningDaemon, name: str) -> str:
    """The one card that the only container of this name has, by the devices in it."""
    (container,) = daemon.running_containers(name)
    (node,) = [node for node in run_inside(container, "ls", "/dev").split() if node.startswith("nvidia")]
    return next(uuid for uuid, known in CARDS.items() if known == node)


def holders(daemon: RunningDaemon) -> dict[str, list[str]]:
    """UUID -> names of those who have it."""
    cards = [card for gpu in daemon.client.gpus()["items"] for card in gpu["cards"]]
    return {card["uuid"]: [holder["name"] for holder in card["holders"]] for card in cards}


def leases(daemon: RunningDaemon) -> dict[str, tuple[str, str, tuple[str, ...], str]]:
    rows = daemon.client.leases()
    return {row["name"]: (row["id"], row["state"], tuple(row["cards"]), row["container"]) for row in rows}


def told(daemon: RunningDaemon, name: str) -> str:
    item = daemon.client.get("notebooks", name)
    events = daemon.client.items("events", kind="notebook", name=name)
    return "\n".join(
        [f"{item['phase']}: {item['message']}", *(f"  {one['reason']}: {one['message']}" for one in events)]
    )


def said(daemon: RunningDaemon, *arguments: str) -> str:
    done = daemon.cli(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_cards_are_told_everywhere(daemon: RunningDaemon) -> None:
    found = daemon.client.gpus()
    assert [(gpu["uuid"], gpu["name"]) for gpu in found["items"]] == [(uuid, "NVIDIA A100-SXM4-40GB") for uuid in UUIDS]
    assert found["ok"], found["message"]
    assert found["driver"] == "580.65.06"
    listed = said(daemon, "gpu", "list")
    assert listed.count("free") == len(UUIDS)
    assert listed.count("A100") == len(UUIDS)
    table = said(daemon, "get", "gpus")
    assert all(uuid in table for uuid in UUIDS)
    machines = said(daemon, "get", "machines")
    (p4000,) = [line for line in machines.splitlines() if line.startswith("P4000 ")]
    assert str(len(UUIDS)) in p4000.split()


def test_two_have_a_card_each_and_the_third_waits_for_it(daemon: RunningDaemon) -> None:
    for name in ("one", "two"):
        notebook(daemon, name)
    runs(daemon, "one", "two")
    has = {name: inside(daemon, name) for name in ("one", "two")}
    assert sorted(has.values()) == sorted(UUIDS)
    assert holders(daemon) == {uuid: [name] for name, uuid in has.items()}

    notebook(daemon, "three")
    words = waits(daemon, "three")
    for listing in (words, said(daemon, "get", "notebooks"), said(daemon, "gpu", "queue")):
        assert "notebook one" in listing
        assert "notebook two" in listing
    assert daemon.running_containers("three") == []

    said(daemon, "notebook", "stop", "one")
    runs(daemon, "three")
    assert inside(daemon, "three") == has["one"]
    assert inside(daemon, "two") == has["two"]


def test_a_job_waits_for_a_card_and_gives_it_back(daemon: RunningDaemon) -> None:
    for name in ("four", "five"):
        notebook(daemon, name)
    runs(daemon, "four", "five")
    daemon.client.apply(JOBS, "jobs.yaml")
    run = daemon.client.start_run("jobs")["name"]

    def waiting() -> str:
        (job,) = daemon.client.get("runs", run)["jobs"]
        return str(job["message"]) if "notebook four" in job["message"] else ""

    eventually(waiting, within_s=20, what=lambda: f"words: {daemon.client.get('runs', run)}")
    assert daemon.running_containers(run) == []

    freed = inside(daemon, "five")
    said(daemon, "notebook", "stop", "five")
    ended = daemon.run_to_end(run)
    assert ended["phase"] == "Succeeded", ended
    log = "\n".join(line["line"] for line in daemon.client.logs(kind="run", name=run, part="fit", limit=100))
    assert [CARDS[uuid] for uuid in UUIDS if CARDS[uuid] in log] == [CARDS[freed]]
    eventually(lambda: holders(daemon)[freed] == [], within_s=20, what=lambda: f"a card given back: {holders(daemon)}")

    used = {row["key"]: row["held_s"] for row in daemon.client.gpu_ledger("name")["items"]}
    assert any(run in key and seconds > 1.5 for key, seconds in used.items()), used
    assert "run" in said(daemon, "gpu", "ledger", "--by", "kind")


def test_a_daemon_that_is_killed_changes_nothing_for_those_who_have_cards(daemon: RunningDaemon) -> None:
    notebook(daemon, "six")
    runs(daemon, "six")
    daemon.client.apply(JOBS.replace("sleep 2", "sleep 600"), "held.yaml")
    run = daemon.client.start_run("held")["name"]
    eventually(lambda: daemon.running_containers(run), within_s=20, what=lambda: f"{daemon.client.get('runs', run)}")
    notebook(daemon, "seven", priority=100)
    waits(daemon, "seven")
    eventually(lambda: leases(daemon)[run][1] == "held", within_s=10, what=lambda: f"{leases(daemon)}")
    before, last = leases(daemon), daemon.client.items("events", limit=1)[0]["id"]
    containers = {name: daemon.running_containers(name) for name in ("six", run)}
    has = {name: inside(daemon, name) for name in containers}

    daemon.kill()
    daemon.start()

    notebook(daemon, "plain", gpus=0)
    runs(daemon, "plain")  # this daemon has looked at everything
    eventually(lambda: leases(daemon) == before, within_s=10, what=lambda: f"{before}, not {leases(daemon)}")
    assert "notebook six" in waits(daemon, "seven")
    assert {name: daemon.running_containers(name) for name in containers} == containers
    assert {name: inside(daemon, name) for name in containers} == has
    assert daemon.running_containers("seven") == []
    later = [one for one in daemon.client.items("events", limit=200) if one["id"] > last]
    assert not [one for one in later if one["reason"] in ("Granted", "Freed", "Adopted", "TakenBack")], later
    said(daemon, "workflow", "cancel", run)
    runs(daemon, "seven")
    assert inside(daemon, "seven") == has[run]


def test_a_new_revision_has_the_card_of_the_one_before_it(daemon: RunningDaemon) -> None:
    """Also where somebody of a higher priority waits: else there would be no way back from a bad revision."""
    notebook(daemon, "eight")
    runs(daemon, "eight")
    machine = {"resources": {"instanceType": "P4000"}, "rollout": {"strategy": "swap"}}
    apply(daemon, served("swapped", "v1", replicas=1, **machine))
    ready(daemon, "swapped", replicas=1)
    has = inside(daemon, "swapped")
    notebook(daemon, "nine", priority=100)
    assert "deployment swapped" in waits(daemon, "nine")

    apply(daemon, served("swapped", "v2", replicas=1, **machine))
    ready(daemon, "swapped", replicas=1)
    assert fetch(daemon, "/deployments/swapped/x") == (200, b"v2"), story(daemon, "swapped")
    assert inside(daemon, "swapped") == has
    assert "deployment swapped" in waits(daemon, "nine")
    assert holders(daemon)[has] == ["swapped"]


def test_who_loses_a_card_begins_again_on_another(daemon: RunningDaemon, cards: Stub) -> None:
    notebook(daemon, "ten")
    runs(daemon, "ten")
    lost = inside(daemon, "ten")
    (other,) = set(UUIDS) - {lost}
    gone = f"lost {UUIDS.index(lost)}"
    cards.add(gone)
    try:
        eventually(lambda: holders(daemon)[other] == ["ten"], within_s=40, what=lambda: told(daemon, "ten"))
        runs(daemon, "ten")
        assert inside(daemon, "ten") == other
        assert told(daemon, "ten").count("GpuLost") == 1, told(daemon, "ten")
        assert "lost" in said(daemon, "gpu", "list")
        notebook(daemon, "eleven")
        assert "notebook ten" in waits(daemon, "eleven")
        refused = daemon.cli("gpu", "resume", lost)
        assert refused.returncode != 0
    finally:
        cards.drop(gone)
    eventually(lambda: "lost" not in said(daemon, "gpu", "list"), within_s=20, what="a card that answers again")
    assert "drained" in said(daemon, "gpu", "list"), "it is not trusted again by itself"
    assert "notebook ten" in waits(daemon, "eleven")
    said(daemon, "gpu", "resume", lost)
    runs(daemon, "eleven")
    assert inside(daemon, "eleven") == lost


def test_a_drained_card_is_given_to_nobody_until_it_is_resumed(daemon: RunningDaemon) -> None:
    notebook(daemon, "twelve")
    runs(daemon, "twelve")
    has = inside(daemon, "twelve")
    (other,) = set(UUIDS) - {has}
    for uuid in UUIDS:
        said(daemon, "gpu", "drain", uuid, "--why", "new paste")
    notebook(daemon, "thirteen")
    assert "new paste" in waits(daemon, "thirteen")
    assert said(daemon, "gpu", "list").count("drained: new paste") == len(UUIDS)
    assert inside(daemon, "twelve") == has  # what runs there goes on
    said(daemon, "gpu", "resume", other)
    runs(daemon, "thirteen")
    assert inside(daemon, "thirteen") == other
    said(daemon, "gpu", "resume", has)
