"""A workflow as its user meets it: it fails, says why, is looked into, goes on, and costs nothing twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import RunningDaemon, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

TRAIN = """
inputs:
  seed: {type: string, with: {value: "1"}}
jobs:
  prepare:
    uses: script@v1
    inputs: {seed: workflow.inputs.seed}
    outputs: {data: {type: volume}}
    with:
      image: appliance/base
      script: |
        echo prepare >> /storage/train-starts
        echo "rows of $(cat /inputs/seed)" > /outputs/data/table
  fit:
    uses: script@v1
    needs: [prepare]
    inputs: {data: prepare.outputs.data}
    outputs: {weights: {type: dataset, with: {ref: weights}}}
    env: {KEY: "secret:KEY"}
    with:
      image: appliance/base
      script: |
        echo fit >> /storage/train-starts
        echo "half of it" > /outputs/weights/weights
        echo "the key is $KEY"
        echo spoiled > /inputs/data/extra
        [ "$KEY" = right-key-2 ] || { echo "no such key" >&2; exit 9; }
        sha256sum < /inputs/data/table > /outputs/weights/weights
  report:
    uses: script@v1
    needs: [fit]
    inputs: {weights: fit.outputs.weights}
    outputs: {text: {type: string}}
    with:
      image: appliance/base
      script: |
        echo report >> /storage/train-starts
        cut -c1-8 /inputs/weights/weights | tee /outputs/text
"""
SLOW = """
jobs:
  count:
    uses: script@v1
    with:
      image: appliance/base
      script: for i in $(seq 1 60); do echo "line $i"; sleep 0.1; done
"""


@pytest.fixture(scope="module", autouse=True)
def images(notebook_image: str) -> None:
    """What the jobs and the notebook run on is built."""


def starts(daemon: RunningDaemon) -> list[str]:
    """The jobs whose containers have run, as they told it themselves."""
    shared = [path for path in (daemon.home / "volumes").rglob("train-starts") if "live" in path.parts]
    return shared[0].read_text().split() if shared else []


def shown(daemon: RunningDaemon, run: str) -> Any:
    answer = daemon.cli("workflow", "show", run, "-o", "json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def phases(run: Any) -> dict[str, str]:
    return {job["name"]: job["phase"] for job in run["jobs"]}


def test_a_run_fails_is_looked_into_goes_on_and_is_repeated(daemon: RunningDaemon, tmp_path: Path) -> None:
    spec = tmp_path / "train.yaml"
    spec.write_text(TRAIN)
    assert daemon.cli("dataset", "create", "weights").returncode == 0
    assert daemon.cli("secret", "set", "KEY", stdin="wrong-key-1").returncode == 0

    failed = daemon.cli("workflow", "run", str(spec))
    assert failed.returncode == 1, failed.stderr
    assert "train.1: Failed: fit: exit code 9" in failed.stderr
    assert "notebook create NAME --from-job train.1/fit" in failed.stderr
    assert "fit | no such key" in failed.stdout.splitlines()
    assert "wrong-key-1" not in failed.stdout + failed.stderr
    assert phases(shown(daemon, "train.1")) == {"prepare": "Succeeded", "fit": "Failed", "report": "Omitted"}

    opened = daemon.cli("notebook", "create", "look", "--from-job", "train.1/fit", timeout_s=300)
    assert opened.returncode == 0, opened.stderr
    assert opened.stdout.startswith(f"{daemon.url}/notebooks/look/lab?token=")
    listed = daemon.cli("notebook", "ls", "look", "inputs/data").stdout
    assert "table" in listed
    assert "extra" not in listed, "the input is as it was given"
    note = daemon.cli("notebook", "cat", "look", "capsule.md").stdout
    assert "exit code 9" in note
    assert "no such key" in note
    assert "wrong-key-1" not in note
    assert daemon.cli("notebook", "cat", "look", "outputs/weights/weights").stdout == "half of it\n"

    daemon.cli("secret", "set", "KEY", stdin="right-key-2")
    resumed = daemon.cli("workflow", "resume", "train.1")
    assert resumed.returncode == 0, resumed.stderr
    run = shown(daemon, "train.2")
    assert [job["reused"] for job in run["jobs"]] == ["train.1/prepare", "", ""]
    assert (run["cause"], run["parent"]) == ("resume", "train.1")
    assert starts(daemon) == ["prepare", "fit", "fit", "report"]

    cached = daemon.cli("workflow", "run", "train")
    assert cached.returncode == 0, cached.stderr
    assert "train.3 fit: Succeeded: cached: same image, command, env and inputs as train.2/fit" in cached.stderr
    assert starts(daemon) == ["prepare", "fit", "fit", "report"], "nothing ran"
    assert len(json.loads(daemon.cli("dataset", "versions", "weights", "-o", "json").stdout)) == 1

    replayed = daemon.cli("workflow", "replay", "train.2")
    assert replayed.returncode == 0, replayed.stderr
    assert starts(daemon)[4:] == ["prepare", "fit", "report"]
    before, after = (shown(daemon, name)["jobs"][2]["outputs"]["text"] for name in ("train.2", "train.4"))
    assert before == after

    other = daemon.cli("workflow", "run", "train", "--input", "seed=2")
    assert other.returncode == 0, other.stderr
    assert starts(daemon)[7:] == ["prepare", "fit", "report"], "another input is another job"
    assert daemon.cli("workflow", "resume", "train.5").returncode == 4


def test_a_follower_outlives_a_killed_daemon_and_ctrl_c_leaves_the_run(daemon: RunningDaemon, tmp_path: Path) -> None:
    spec = tmp_path / "slow.yaml"
    spec.write_text(SLOW)
    name = daemon.cli("workflow", "run", str(spec), "-d").stdout.strip()
    command = [sys.executable, "-m", "appliance.cli.main", "workflow", "follow", name]

    def follower() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    whole, left = follower(), follower()
    try:
        eventually(lambda: daemon.client.logs(kind="run", name=name, limit=1), within_s=60, what="a line")
        assert left.stdout is not None
        assert left.stdout.readline() == "count | line 1\n"
        left.send_signal(signal.SIGINT)
        _, told = left.communicate(timeout=30)
        assert left.returncode == 130
        assert f"run {name} goes on: `appliance workflow follow {name}`" in told
        daemon.kill()
        daemon.start()
        lines, told = whole.communicate(timeout=60)
    finally:
        for process in (whole, left):
            process.kill()
            process.communicate()
    assert whole.returncode == 0, told
    assert lines.splitlines() == [f"count | line {number}" for number in range(1, 61)]
    assert told.count("the daemon does not answer") == 1
    assert told.splitlines()[-1] == f"{name}: Succeeded"
