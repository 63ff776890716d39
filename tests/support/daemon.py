"""A real daemon on a private home and port, for tests that go through its doors. It leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import docker
import pytest

from appliance.client import Client
from appliance.engine.labels import PREFIX
from appliance.errors import ApplianceError
from tests.support.ports import free_port

T = TypeVar("T")

START_S = 120.0
STOP_S = 60.0
PATIENCE = 3.0
"""How many times as long as a test says things may last: deadlines are thought of on a quiet machine."""


def eventually(look: Callable[[], T | None], *, within_s: float, what: str | Callable[[], str]) -> T:
    """The first true answer of `look`. Fails with `what` after the deadline."""
    deadline = time.monotonic() + PATIENCE * within_s
    while True:
        last = time.monotonic() > deadline
        if found := look():
            return found
        if last:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {PATIENCE * within_s:.0f} s: {told}")
        time.sleep(0.1)


class RunningDaemon:
    """`start`, `kill` and `stop` as often as a test likes; `client` speaks to whichever runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.client = Client(socket=home / "run" / "api.sock")
        self._process: subprocess.Popen[bytes] | None = None
        self.log = home / "daemon.log"
        self.extra: dict[str, str] = {}
        """Further settings, as variables."""

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APPLIANCE_")}
        settings = {"HOME": str(self.home), "PORT": str(self.port), "RESYNC_S": "5"}
        return {**kept, **{f"APPLIANCE_{name}": value for name, value in settings.items()}, **self.extra}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cli(self, *arguments: str, stdin: str = "", timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "appliance.cli.main", *arguments],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def launch(self) -> None:
        """Start it and wait for nothing."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "appliance.cli.main", "serve"], env=self.environment, stdout=log, stderr=log
            )

    def start(self) -> None:
        """Start it and wait until the engine and the front door are there."""
        self.launch()
        eventually(
            self._is_up, within_s=START_S, what=lambda: f"a daemon that answers; its log:\n{self.log.read_text()}"
        )

    def _is_up(self) -> bool:
        assert self._process is not None, "started"
        if self._process.poll() is not None:
            raise AssertionError(f"the daemon ended:\n{self.log.read_text()}")
        try:
            parts = {part["name"]: part["ok"] for part in self.client.status()["parts"]}
        except ApplianceError:
            return False
        return parts.get("engine", False) and parts.get("front door", False)

    def kill(self) -> None:
        """kill -9, as a power cut would end it."""
        assert self._process is not None, "started"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_S)
        self.client.close()

    def stop(self) -> None:
        """Raises where it does not end by itself; even then it is gone afterwards."""
        try:
            if self._process and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                self._process.wait(STOP_S)
        finally:
            if self._process and self._process.poll() is None:
                self.kill()
            self.client.close()

    def running_containers(self, name: str) -> list[str]:
        """Ids of what the engine runs for a resource or a run of this daemon, asked without the daemon."""
        instance = (self.home / "instance").read_text().strip()
        engine = docker.from_env()
        try:
            labels = [f"{PREFIX}instance={instance}", f"{PREFIX}name={name}"]
            found = engine.containers.list(filters={"label": labels}, ignore_removed=True)
            return [str(container.id) for container in found]
        finally:
            engine.close()

    def remove_containers(self) -> None:
        """All that the engine has of this daemon, and its network."""
        if not (self.home / "instance").exists():
            return
        instance = (self.home / "instance").read_text().strip()
        label: dict[str, str | list[str] | bool] = {"label": f"{PREFIX}instance={instance}"}

        def gone() -> bool:
            """What the engine is removing already, it refuses to remove once more."""
            with suppress(docker.errors.APIError):
                containers = engine.containers.list(all=True, filters=label, ignore_removed=True)
                for container in containers:
                    container.remove(force=True, v=True)
                networks = engine.networks.list(names=[f"appliance-{instance}"])
                for network in networks:
                    network.remove()
                return not containers and not networks
            return False

        engine = docker.from_env()
        try:
            eventually(gone, within_s=STOP_S, what=f"nothing of appliance {instance} on the engine")
            kept = f"appliance/kept:{instance}-"  # names that revisions of deployments were kept by
            for image in engine.images.list(filters={"reference": f"{kept}*"}):
                for tag in image.tags:
                    if tag.startswith(kept):
                        engine.images.remove(tag)
        finally:
            engine.close()

    def run_to_end(self, name: str, *, within_s: float = 120) -> Any:
        def ended() -> Any:
            run = self.client.get("runs", name)
            return run if run["finished"] else None

        return eventually(ended, within_s=within_s, what=f"the end of run {name}")

    def phase(self, kind: str, name: str, *wanted: str, within_s: float = 120) -> Any:
        def reached() -> Any:
            item = self.client.get(kind, name)
            return item if item["phase"] in wanted and item["observed"] == item["generation"] else None

        return eventually(reached, within_s=within_s, what=f"{kind} {name} in {wanted}")


@contextmanager
def running_daemon(**extra: str) -> Iterator[RunningDaemon]:
    """One with these variables; it ends with all that is of it."""
    home = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))  # a socket's path must be short
    running = RunningDaemon(home)
    running.extra = extra
    try:
        running.start()
        yield running
    finally:
        running.stop()
        running.cli("stop", "--all")
        running.remove_containers()
        if kept := os.environ.get("KEEP_DAEMON_LOG"):
            shutil.copy(running.log, kept)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def daemon(engine_socket: None) -> Iterator[RunningDaemon]:
    """One for the tests of a module; each test uses names of its own."""
    with running_daemon() as running:
        yield running


@pytest.fixture(scope="module")
def engine_socket() -> None:
    try:
        engine = docker.from_env()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine: {error}")
    try:
        engine.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine: {error}")
    finally:
        engine.close()
