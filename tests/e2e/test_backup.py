"""A backup of a running appliance becomes another appliance, and what the demo serves is served there."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.daemon import RunningDaemon, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

EXAMPLES = Path(__file__).parents[2] / "specs" / "examples"
TRAIN = """
import joblib
from sklearn.datasets import load_digits
from sklearn.svm import SVC
digits = load_digits()
joblib.dump(SVC(gamma=0.001).fit(digits.data, digits.target), "/out/model.joblib")
"""
ZERO = [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0, 0, 5]
ZERO += [8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0]
"""The first of scikit-learn's digits."""


@pytest.fixture
def other(engine_socket: None) -> Iterator[RunningDaemon]:
    """Not started: its home is to be restored."""
    home = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))
    running = RunningDaemon(home)
    try:
        yield running
    finally:
        running.stop()
        running.cli("stop", "--all")
        running.remove_containers()
        shutil.rmtree(home, ignore_errors=True)


def predict(daemon: RunningDaemon) -> list[int] | None:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    try:
        body = json.dumps({"images": [ZERO]})
        connection.request("POST", "/deployments/digits/predict", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        return json.loads(answer)["digits"] if response.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def test_the_demos_deployment_answers_in_a_restored_appliance(
    daemon: RunningDaemon, other: RunningDaemon, notebook_image: str, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    engine = docker.from_env()
    try:
        where = {str(model): {"bind": "/out", "mode": "rw"}}
        engine.containers.run(
            notebook_image, ["python3", "-c", TRAIN], volumes=where, remove=True, user=str(os.geteuid())
        )
    finally:
        engine.close()
    made = daemon.cli("model", "create", "digits", str(model))
    assert made.returncode == 0, made.stderr
    assert daemon.cli("secret", "set", "TOKEN", stdin="s3cr3t-value").returncode == 0
    daemon.client.apply((EXAMPLES / "digits-serve.yaml").read_text(), "digits-serve.yaml")
    daemon.phase("deployments", "digits", "Ready")
    assert predict(daemon) == [0]

    target = str(tmp_path / "backup")
    done = daemon.cli("backup", target)
    assert done.returncode == 0, done.stderr
    point = done.stdout.strip()
    checked = daemon.cli("backup", target, "--verify")
    assert checked.returncode == 0, checked.stderr
    listed = json.loads(daemon.cli("backups", "-o", "json").stdout)
    assert [row["phase"] for row in listed] == ["Succeeded", "Succeeded"]
    part = eventually(
        lambda: next((part for part in daemon.client.status()["parts"] if part["name"] == "backup"), None),
        within_s=30,
        what="a line about backups in the status",
    )
    assert part["ok"]
    assert daemon.cli("restore-backup", target).returncode == 4, "its own home is not empty"
    daemon.stop()

    restored = other.cli("restore-backup", target)
    assert restored.returncode == 0, restored.stderr
    assert point in restored.stderr
    other.start()
    other.phase("deployments", "digits", "Ready")
    assert predict(other) == [0]
    assert [secret["name"] for secret in other.client.items("secrets")] == ["TOKEN"]
    assert other.client.logs(kind="deployment", name="digits", contains="serving"), "its logs came along"
    daemon.start()


def test_the_command_tells_what_is_wrong(daemon: RunningDaemon, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    failed = daemon.cli("backup", str(tmp_path / "full"))
    assert failed.returncode == 1
    assert "thesis.tex" in failed.stderr
    part = eventually(
        lambda: next(
            (part for part in daemon.client.status()["parts"] if part["name"] == "backup" and not part["ok"]), None
        ),
        within_s=30,
        what="a warning in the status",
    )
    assert "thesis.tex" in part["message"]
    assert daemon.cli("backup", "zfs:tank/x").returncode == 2
    assert daemon.cli("restore-backup", str(tmp_path / "none"), "--list").returncode == 3
    assert daemon.cli("backup", str(tmp_path / "good")).returncode == 0
    assert daemon.cli("restore-backup", str(tmp_path / "good"), "--list", "-o", "json").returncode == 0
