"""The daemon as its users meet it: declared work runs, a kill loses nothing, bad input harms nothing."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from appliance.errors import ApplianceError, Conflict, NotFound, SpecError, UsageError
from tests.support.daemon import RunningDaemon, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

COUNTING = """
jobs:
  count:
    uses: script@v1
    with:
      image: appliance/base
      script: |
        echo started >> /storage/{name}-starts
        for i in $(seq 1 {lines}); do echo "line $i"; sleep 0.02; done
  after:
    needs: [count]
    uses: script@v1
    with:
      image: appliance/base
      script: cat /storage/{name}-starts
"""
SERVING = """
name: {name}
image: appliance/base
port: 8000
resources: {{replicas: 1, instanceType: C5}}
healthChecks: {{readiness: {{path: /, periodSeconds: 1, timeoutSeconds: 10}}}}
env: [{{name: GREETING, value: {greeting}}}]
command: [sh, -c, 'mkdir -p /srv/w && cd /srv/w && echo $GREETING > index.html && exec python3 -m http.server 8000']
"""


def fetch(daemon: RunningDaemon, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture(scope="module", autouse=True)
def base(notebook_image: str) -> str:
    """The images that the specs here name."""
    return notebook_image


class Load(threading.Thread):
    """Requests, one after the other, until told to stop; counts what was not answered with 200."""

    def __init__(self, daemon: RunningDaemon, path: str) -> None:
        super().__init__(daemon=True)
        self._daemon, self._path = daemon, path
        self._enough = threading.Event()
        self.done = 0
        self.failed: list[object] = []

    def run(self) -> None:
        while not self._enough.is_set():
            try:
                status, _ = fetch(self._daemon, self._path)
                if status != 200:
                    self.failed.append(status)
            except OSError as error:
                self.failed.append(error)
            self.done += 1
            time.sleep(0.01)

    def finish(self) -> None:
        self._enough.set()
        self.join(120)


def test_a_killed_daemon_drops_no_request_loses_no_line_and_runs_no_job_twice(daemon: RunningDaemon) -> None:
    daemon.client.apply(SERVING.format(name="steady", greeting="hello"), "steady.yaml")
    daemon.phase("deployments", "steady", "Ready")
    load = Load(daemon, "/deployments/steady/")
    load.start()
    daemon.client.apply(COUNTING.format(name="killed", lines=300), "killed.yaml")
    run = daemon.client.start_run("killed")["name"]
    for progress in (30, 120, 200):
        eventually(
            lambda least=progress: len(daemon.client.logs(kind="run", name=run, part="count", limit=1000)) >= least,  # type: ignore[misc]
            within_s=60,
            what=f"{progress} lines",
        )
        daemon.kill()
        daemon.start()
    ended = daemon.run_to_end(run)
    load.finish()
    assert ended["phase"] == "Succeeded"
    assert load.failed == [], daemon.client.items("events", kind="deployment", name="steady")
    assert load.done > 50
    lines = [line["line"] for line in daemon.client.logs(kind="run", name=run, part="count", limit=1000)]
    assert lines == [f"line {number}" for number in range(1, 301)]
    starts = daemon.client.logs(kind="run", name=run, part="after")
    assert [line["line"] for line in starts] == ["started"]


def test_a_run_that_ends_while_the_daemon_is_down_is_finished_afterwards(daemon: RunningDaemon) -> None:
    daemon.client.apply(COUNTING.format(name="ended", lines=50), "ended.yaml")
    run = daemon.client.start_run("ended")["name"]
    eventually(lambda: daemon.client.logs(kind="run", name=run, limit=1), within_s=60, what="a line")
    daemon.kill()
    eventually(lambda: not daemon.running_containers("ended.1"), within_s=30, what="the container ends meanwhile")
    daemon.start()
    assert daemon.run_to_end(run)["phase"] == "Succeeded"
    lines = [line["line"] for line in daemon.client.logs(kind="run", name=run, part="count", limit=1000)]
    assert lines == [f"line {number}" for number in range(1, 51)]


def test_an_update_serves_without_a_failed_request(daemon: RunningDaemon) -> None:
    daemon.client.apply(SERVING.format(name="rolling", greeting="one"), "rolling.yaml")
    daemon.phase("deployments", "rolling", "Ready")
    load = Load(daemon, "/deployments/rolling/")
    load.start()
    daemon.client.apply(SERVING.format(name="rolling", greeting="two"), "rolling.yaml")
    daemon.phase("deployments", "rolling", "Ready")
    eventually(lambda: fetch(daemon, "/deployments/rolling/")[1] == b"two\n", within_s=60, what="the update")
    load.finish()
    assert load.failed == []


def test_a_second_daemon_on_the_home_is_refused_and_the_first_goes_on(daemon: RunningDaemon) -> None:
    second = daemon.cli("serve")
    assert second.returncode == 4
    assert "runs on this home already" in second.stderr
    assert "next:" in second.stderr
    assert daemon.client.status()["pid"]


def test_the_tcp_door_wants_the_token_and_the_socket_does_not(daemon: RunningDaemon) -> None:
    assert fetch(daemon, "/v1/status")[0] == 401
    assert fetch(daemon, "/healthz") == (200, b"ok\n")
    token = (daemon.home / "token").read_text().strip()
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    connection.request("GET", "/v1/status", headers={"Authorization": f"Bearer {token}"})
    assert json.loads(connection.getresponse().read())["url"] == daemon.url
    connection.close()


def test_unknown_paths_and_names_are_problems_with_a_code(daemon: RunningDaemon) -> None:
    with pytest.raises(NotFound):
        daemon.client.get("notebooks", "nope")
    with pytest.raises(ApplianceError):
        daemon.client.items("nonsense")
    status, body = fetch(daemon, "/deployments/nope/x")
    assert (status, json.loads(body)["code"]) == (404, "not_found")


def test_bad_specs_are_refused_with_their_place_and_change_nothing(daemon: RunningDaemon) -> None:
    before = daemon.client.items("deployments")
    for text, expected in (
        ("name: x\nimage: a\nimagee: b\nresources: {instanceType: C5}\n", "imagee"),
        ("a: &a [*a]\n", ""),
        ("jobs:\n\ta: 1\n", "tab"),
        ("", "empty"),
        ("x" * 5_000_000, ""),
        ("kind: notebook\nname: ../../etc\n", "name"),
        ("name: x\nname: y\nimage: a\nresources: {instanceType: C5}\n", "name"),
    ):
        with pytest.raises(UsageError) as caught:
            daemon.client.apply(text, "bad.yaml")
        assert expected in str(caught.value)
        assert isinstance(caught.value, SpecError) or len(text) > 1_000_000
    assert [item["name"] for item in daemon.client.items("deployments")] == [item["name"] for item in before]


def test_every_line_of_a_long_log_is_shown_in_order(daemon: RunningDaemon) -> None:
    text = "jobs: {a: {uses: script@v1, with: {image: appliance/base, script: 'seq 1 12000'}}}"
    daemon.client.apply(text, "long.yaml")
    name = daemon.client.start_run("long")["name"]
    assert daemon.cli("workflow", "follow", name).stdout.splitlines() == [f"a | {n}" for n in range(1, 12_001)]
    assert daemon.cli("logs", f"run/{name}/a").stdout.splitlines() == [str(n) for n in range(1, 12_001)]
    assert daemon.cli("logs", f"run/{name}/a", "-n", "2").stdout.splitlines() == ["11999", "12000"]
    assert daemon.cli("logs", f"run/{name}", "--grep", "1199", "-n", "1").stdout == "a | 11999\n"


def test_an_unknown_image_fails_the_job_with_the_next_step(daemon: RunningDaemon) -> None:
    text = "jobs: {a: {uses: script@v1, with: {image: 'localhost:1/no/such:image', script: 'true'}}}"
    daemon.client.apply(text, "imageless.yaml")
    ended = daemon.run_to_end(daemon.client.start_run("imageless")["name"])
    assert ended["phase"] in ("Failed", "Error")
    assert "localhost:1/no/such:image" in ended["jobs"][0]["message"]


def test_deleting_data_wants_the_name_again(daemon: RunningDaemon) -> None:
    daemon.client.apply("kind: dataset\nname: precious\n", "precious.yaml")
    with pytest.raises(Conflict):
        daemon.client.delete("datasets", "precious")
    daemon.client.delete("datasets", "precious", confirm="precious")
    with pytest.raises(NotFound):
        daemon.client.get("datasets", "precious")


def test_the_watched_folder_runs_stops_and_keeps(daemon: RunningDaemon) -> None:
    spec = daemon.home / "specs" / "watched.yaml"
    spec.write_text(SERVING.format(name="watched", greeting="seen"))

    def declared() -> bool:
        return any(item["name"] == "watched" for item in daemon.client.items("deployments"))

    eventually(declared, within_s=30, what="the file is in force")
    daemon.phase("deployments", "watched", "Ready")
    spec.write_text("name: watched\nimage: [broken\n")
    eventually(lambda: daemon.client.get("deployments", "watched")["problem"], within_s=30, what="the problem is told")
    assert fetch(daemon, "/deployments/watched/") == (200, b"seen\n")
    listing = daemon.cli("get", "deployments")
    assert "watched.yaml" in listing.stdout + listing.stderr
    spec.unlink()
    daemon.phase("deployments", "watched", "Disabled")


def test_status_is_quick_with_many_runs(daemon: RunningDaemon) -> None:
    """The figure itself is in tests/bench; here: the document is whole and holds no run in full."""
    answer = daemon.cli("status", "-o", "json")
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["home"] == str(daemon.home)


def test_without_a_daemon_the_cli_says_so_with_its_own_exit_code(tmp_path: Path) -> None:
    environment = {**os.environ, "APPLIANCE_HOME": str(tmp_path)}
    asked = subprocess.run(
        [sys.executable, "-m", "appliance.cli.main", "get", "notebooks"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 5
    assert "appliance serve" in asked.stderr
