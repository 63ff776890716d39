"""The daemon where something is missing: no engine, a taken port, a full disk. It says so, goes on, and recovers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import ApplianceError, NoSpace
from tests.support.daemon import RunningDaemon, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.haproxy]

ABSENT = "localhost:1/none:1"
"""An image that no registry has: what gets as far as to ask for it has begun."""
WORKFLOW = "jobs: {a: {uses: script@v1, with: {image: appliance/base, script: 'true'}}}"


@pytest.fixture
def home() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def parts(daemon: RunningDaemon) -> dict[str, tuple[bool, str]]:
    try:
        return {part["name"]: (part["ok"], part["message"]) for part in daemon.client.status()["parts"]}
    except ApplianceError:
        return {}


def test_without_an_engine_and_with_a_taken_port_it_starts_says_so_and_recovers(home: Path) -> None:
    daemon = RunningDaemon(home)
    daemon.extra = {"APPLIANCE_DOCKER_HOST": f"unix://{home}/none.sock"}
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", daemon.port))
    taken.listen()
    try:
        daemon.launch()
        eventually(lambda: {"engine", "front door"} <= parts(daemon).keys(), within_s=60, what="both parts are told")
        engine, door = parts(daemon)["engine"], parts(daemon)["front door"]
        assert not engine[0]
        assert "install.sh" in engine[1]
        assert not door[0]
        assert f"port {daemon.port} is in use" in door[1]
        assert "APPLIANCE_PORT" in door[1]
        daemon.client.apply(WORKFLOW, "waits.yaml")
        run = daemon.client.start_run("waits")["name"]
        eventually(
            lambda: "not running" in daemon.client.get("runs", run)["jobs"][0]["message"],
            within_s=30,
            what="the job says why it waits",
        )
        assert daemon.client.act("runs", run, "cancel")["phase"] in ("Canceling", "Canceled")
        taken.close()
        eventually(lambda: parts(daemon)["front door"][0], within_s=30, what="the front door, once its port is free")
        assert daemon.cli("doctor").returncode == 1
    finally:
        taken.close()
        daemon.stop()
        daemon.cli("stop", "--all")


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_refuses_what_is_asked_and_harms_nothing(home: Path, engine_socket: None) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=711", "tmpfs", str(home)], check=True)
    daemon = RunningDaemon(home)
    daemon.log = Path(f"{home}.log")
    daemon.extra = {"APPLIANCE_RESERVE_MB": "0"}
    try:
        daemon.start()
        daemon.client.apply("kind: dataset\nname: before\n", "a.yaml")
        fill(home / "ballast")
        with pytest.raises(NoSpace) as caught:
            declare_many(daemon)
        assert "free some space" in caught.value.hint
        assert daemon.client.get("datasets", "before")["phase"] == "Ready"
        (home / "ballast").unlink()
        daemon.client.apply("kind: dataset\nname: after\n", "c.yaml")
        daemon.kill()
        daemon.start()
        assert {"before", "after"} <= {item["name"] for item in daemon.client.items("datasets")}
    finally:
        daemon.stop()
        daemon.cli("stop", "--all")
        daemon.remove_containers()
        subprocess.run(["umount", "--lazy", str(home)], check=True)
        daemon.log.unlink(missing_ok=True)


@pytest.mark.docker
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_stops_new_work_says_so_and_clears_by_itself(home: Path, engine_socket: None) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=711", "tmpfs", str(home)], check=True)
    daemon = RunningDaemon(home)
    daemon.log = Path(f"{home}.log")

    def storage() -> tuple[bool, str]:
        return parts(daemon).get("storage", (True, ""))

    try:
        daemon.start()
        eventually(lambda: "free for" in storage()[1], within_s=60, what="the storage is told")
        assert storage()[0], storage()[1]
        reserve = (home / "reserve").stat().st_blocks * 512
        assert reserve > 7 << 20
        fill(home / "ballast")
        eventually(lambda: not storage()[0], within_s=30, what="a full disk is told")
        assert "`appliance space`" in storage()[1]
        eventually(lambda: not (home / "reserve").exists(), within_s=30, what="the reserve is given back")
        daemon.client.apply(WORKFLOW.replace("appliance/base", ABSENT), "waits.yaml")  # which a full disk would refuse
        run = daemon.client.start_run("waits")["name"]
        daemon.client.apply(f"kind: notebook\nname: nb\nimage: {ABSENT}\n", "nb.yaml")
        daemon.client.apply(f"name: web\nimage: {ABSENT}\nport: 80\nresources: {{replicas: 1}}\n", "web.yaml")
        waiting = (("runs", run), ("notebooks", "nb"), ("deployments", "web"))

        def messages() -> list[str]:
            return [daemon.client.get(kind, name)["message"] for kind, name in waiting]

        def all_wait() -> bool:
            return all("waits for disk space" in message for message in messages())

        eventually(all_wait, within_s=30, what="all say what they wait for")
        told = daemon.cli("space")
        assert "LOW" in told.stdout, told.stderr
        assert "new work waits for disk space" in told.stdout
        (home / "ballast").unlink()
        eventually(lambda: storage()[0], within_s=30, what="the storage is well again")
        eventually(lambda: "disk space" not in str(messages()), within_s=30, what="all go on by themselves")
        eventually(lambda: (home / "reserve").exists(), within_s=30, what="the reserve is made again")
        reasons = [event["reason"] for event in daemon.client.items("events", kind="appliance")]
        assert reasons == ["LowSpace", "SpaceBack"]
    finally:
        daemon.stop()
        daemon.cli("stop", "--all")
        daemon.remove_containers()
        subprocess.run(["umount", "--lazy", str(home)], check=True)
        daemon.log.unlink(missing_ok=True)


def declare_many(daemon: RunningDaemon) -> None:
    """More than one: the write-ahead log may have room for some."""
    for number in range(200):
        daemon.client.apply(f"kind: dataset\nname: d{number}\ndescription: {'x' * 2000}\n", "b.yaml")


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
        except OSError:
            return
