"""Triggers of a real daemon: announced pushes, signed messages, files, folders and versions, also when it is killed."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import random
import secrets
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from appliance.errors import ApplianceError
from tests.integration.polling import FOLDER, on
from tests.support.daemon import RunningDaemon, eventually
from tests.support.git import serve_git

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(shutil.which("git") is None, reason="no git")]

ABSENT = "localhost:1/none:1"
"""An image that no registry has: the run is made and ends soon."""
FAILS = f"jobs: {{a: {{uses: script@v1, with: {{image: '{ABSENT}', script: 'true'}}}}}}\n"
KEY = "a key of the forge"


class Daemon:
    """A real daemon, and what a forge would send to it."""

    def __init__(self, running: RunningDaemon) -> None:
        self.running = running

    def runs(self, workflow: str) -> list[Any]:
        """Oldest first; nothing while no daemon answers."""
        try:
            return list(reversed(self.running.client.items("runs", workflow=workflow, limit=1000)))
        except ApplianceError:
            return []

    def repository(self, name: str) -> Any:
        try:
            return self.running.client.get("repositories", name)
        except ApplianceError:
            return None

    def looked(self, name: str) -> Any:
        return (found := self.repository(name)) and found["status"].get("looked") and found

    def post(self, path: str, body: bytes, *, key: str = KEY, **headers: str) -> httpx2.Response:
        """As a client of its own signs it, at the front door."""
        digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        sent = {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json", **headers}
        return httpx2.post(f"{self.running.url}/v1/hooks/{path}", content=body, headers=sent, timeout=30)

    def announce(self, name: str) -> bool:
        """A push, until a daemon takes it."""
        try:
            answer = self.post(f"repository/{name}", b"{}", **{"X-GitHub-Event": "push"})
        except httpx2.HTTPError:
            return False
        return answer.status_code == 202


@pytest.fixture(scope="module")
def house(daemon: RunningDaemon) -> Daemon:
    daemon.client.put_secret("KEY", KEY)
    return Daemon(daemon)


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_push_is_announced_and_runs_at_once(house: Daemon, tmp_path: Path) -> None:
    with serve_git(tmp_path / "repositories") as server:
        site = server.repository("announced", {f"{FOLDER}/w.yaml": on("{branches: {only: main}}", FAILS)})
        text = f"kind: repository\nname: announced\nurl: {site.url}\ninterval: 3600\nwebhook: secret:KEY\n"
        house.running.client.apply(text, "announced.yaml")
        eventually(lambda: house.looked("announced"), within_s=60, what="the first look")
        pushed = site.commit({"README": "x"})
        assert house.post("repository/announced", b"{}", key="a guess").status_code == 401
        assert house.announce("announced")
        (run,) = eventually(lambda: house.runs("announced.w"), within_s=60, what="a run")
        assert (run["cause"], pushed[:12] in run["source"]) == ("git", True)
        assert house.running.client.get("runs", "announced.w.1")["name"] == "announced.w.1"
        parts = {part["name"]: part for part in house.running.client.status()["parts"]}
        assert parts["triggers"]["ok"]
        house.running.client.delete("repositories", "announced")
        assert house.repository("announced") is None


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_webhook_over_http_starts_a_run_once(house: Daemon) -> None:
    house.running.client.apply("on: {webhook: {secret: secret:KEY}}\n" + FAILS, "hooked.yaml")
    delivery = {"X-GitHub-Event": "push", "X-GitHub-Delivery": secrets.token_hex(8)}
    body = json.dumps({"ref": "refs/heads/main", "after": "1" * 40}).encode()
    assert house.post("hooked", body, key="a guess", **delivery).status_code == 401
    assert house.post("hooked", body, **delivery).json()["run"] == "hooked.1"
    assert house.post("hooked", body, **delivery).json()["message"] == "this delivery was taken already"
    assert house.post("hooked", b"{}", **{"X-GitHub-Event": "ping"}).json()["message"] == "pong"
    assert len(house.runs("hooked")) == 1
    for path in ("/v1/runs", "/v1/hooks/", "/v1/hooks/hooked/x"):
        assert httpx2.post(house.running.url + path, timeout=30).status_code == 401


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_file_and_a_folder_start_runs(house: Daemon, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    specs = house.running.home / "specs"
    (specs / "own.yaml").write_text("on: {spec: true}\n" + FAILS)
    (specs / "inbox.yaml").write_text(f"on: {{folder: {tmp_path / 'data'}}}\n" + FAILS)
    eventually(lambda: house.runs("own"), within_s=60, what="a run of the new file")
    eventually(lambda: _knows(house, "inbox"), within_s=60, what="the workflow of the folder")
    key = f"folder:{tmp_path / 'data'}"
    marked = eventually(lambda: _mark(house, "inbox", key), within_s=60, what="the first look at the folder")
    (tmp_path / "data" / "new").write_text("x")
    (run,) = eventually(lambda: house.runs("inbox"), within_s=60, what="a run of the folder")
    assert run["cause"] == "folder"
    assert _mark(house, "inbox", key) != marked
    (specs / "own.yaml").write_text("on: {spec: true}\n" + FAILS.replace("'true'", "'false'"))
    eventually(lambda: len(house.runs("own")) == 2, within_s=60, what="a run of the changed file")
    for name in ("own", "inbox"):
        (specs / f"{name}.yaml").unlink()


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_push_runs_exactly_once_however_often_the_daemon_is_killed(house: Daemon, tmp_path: Path) -> None:
    chance = random.Random(4)
    with serve_git(tmp_path / "repositories") as server:
        site = server.repository("killed", {f"{FOLDER}/w.yaml": on("{branches: {only: main}}", FAILS)})
        text = f"kind: repository\nname: killed\nurl: {site.url}\ninterval: 5\nwebhook: secret:KEY\n"
        house.running.client.apply(text, "killed.yaml")
        eventually(lambda: house.looked("killed"), within_s=60, what="the first look")
        pushed = []
        for _ in range(6):
            pushed.append(site.commit({"README": secrets.token_hex(8)}))
            eventually(lambda: house.announce("killed"), within_s=60, what="a daemon that takes the message")
            time.sleep(chance.uniform(0.0, 1.2))  # for a kill at any moment; nothing is waited for
            house.running.kill()
            house.running.launch()
            eventually(
                lambda: any(pushed[-1][:12] in run["source"] for run in house.runs("killed.w")),
                within_s=60,
                what="the run of the push",
            )
        house.running.kill()
        house.running.start()
        looked = house.looked("killed")["status"]["looked"]
        eventually(lambda: house.looked("killed")["status"]["looked"] > looked, within_s=60, what="one more look")
        made = [run["source"].split(" at ")[1][:12] for run in house.runs("killed.w")]
        assert made == [commit[:12] for commit in pushed]


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_version_runs_exactly_once_though_the_daemon_is_killed(house: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    house.running.client.apply("kind: dataset\nname: arrivals\n", "arrivals.yaml")
    house.running.client.apply("on: {dataset: arrivals}\n" + FAILS, "reader.yaml")
    eventually(lambda: _mark(house, "reader", "dataset:arrivals"), within_s=60, what="the first look at the dataset")
    made = []
    for _ in range(2):
        before = {version["version"] for version in house.running.client.versions("arrivals")}
        put = house.running.cli("dataset", "put", "arrivals", str(tmp_path))
        assert put.returncode == 0, put.stderr
        (new,) = {version["version"] for version in house.running.client.versions("arrivals")} - before
        made.append(f"arrivals:{new}")
        house.running.kill()
        house.running.launch()
        eventually(lambda: made[-1] in _sources(house, "reader"), within_s=60, what="the run of the version")
    assert _sources(house, "reader") == made


def _sources(house: Daemon, workflow: str) -> list[str]:
    return [run["source"] for run in house.runs(workflow)]


def _knows(house: Daemon, name: str) -> bool:
    return any(item["name"] == name for item in house.running.client.items("workflows"))


def _mark(house: Daemon, name: str, trigger: str) -> str:
    """What a trigger has seen, from the state file."""
    with contextlib.closing(sqlite3.connect(house.running.home / "state.db", timeout=10)) as db:
        row = db.execute(
            "SELECT mark FROM trigger_marks JOIN resources ON uid = subject WHERE name = ? AND trigger = ?",
            (name, trigger),
        ).fetchone()
    return str(row[0]) if row else ""
