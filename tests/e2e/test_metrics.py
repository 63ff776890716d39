"""What a run uses and what it says of itself, as its user sees it: tables, runs side by side, a picture, a stream."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import RunningDaemon, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

BUSY = """
jobs:
  train:
    uses: script@v1
    with:
      image: appliance/base
      script: while true; do :; done
"""


@pytest.fixture(scope="module", autouse=True)
def images(notebook_image: str) -> None:
    """What the job runs on is built."""


def shown(daemon: RunningDaemon, *arguments: str) -> str:
    answer = daemon.cli("metrics", *arguments)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def measured_run(daemon: RunningDaemon, losses: list[float]) -> str:
    """A run that was seen to use a processor, told its losses and was canceled."""
    name = str(daemon.client.act("workflows", "busy", "runs")["name"])

    def busy() -> bool:
        found: list[Any] = daemon.client.metrics(kind="run", name=name, metric="container_cpu_percent")
        return any(point["value"] > 0 for series in found for point in series["points"])

    eventually(busy, within_s=120, what=f"a sample of the processor that {name} uses")
    samples: Any = [{"metric": "loss", "value": value, "step": step} for step, value in enumerate(losses)]
    daemon.client.push_metrics(samples, kind="run", name=name, part="train")
    daemon.client.act("runs", name, "cancel")
    daemon.run_to_end(name)
    return name


def test_runs_are_measured_shown_and_compared(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.client.apply(BUSY, "busy.yaml", name="busy")
    first, second = (measured_run(daemon, losses) for losses in ([1.0, 0.5], [1.0, 0.25, 0.125]))

    table = shown(daemon, f"run/{first}")
    assert table.splitlines()[1].split()[:3] == ["loss", "train", "0.5"], "what programs say comes first"
    assert "container_memory_bytes" in table
    (loss,) = json.loads(shown(daemon, f"run/{first}/train", "loss", "-o", "json"))
    assert [(point["step"], point["value"]) for point in loss["points"]] == [(0, 1.0), (1, 0.5)]

    picture = tmp_path / "loss.svg"
    runs = (f"run/{first}", f"run/{second}")
    compared = shown(daemon, "--compare", *runs, "loss", "--svg", str(picture)).splitlines()
    assert [line.split()[-7:] for line in compared[1:3]] == [
        [runs[0], "1", "0.5", "0.5", "1", "0.75", "2"],
        [runs[1], "1", "0.125", "0.125", "1", "0.4583", "3"],
    ]
    assert all(run.encode() in picture.read_bytes() for run in runs)

    missing = daemon.cli("metrics", "run/busy.99")
    assert (missing.returncode, missing.stdout) == (3, "")
    unknown = daemon.cli("metrics", runs[0], "lass")
    assert unknown.returncode == 3
    assert "it has loss, container_" in unknown.stderr


def test_the_machine_is_measured_and_followed(daemon: RunningDaemon) -> None:
    command = [sys.executable, "-m", "appliance.cli.main", "metrics", "machine", "-f", "-o", "json"]
    following = subprocess.Popen(command, env=daemon.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert following.stdout is not None
        seen: dict[str, set[float]] = {}
        for line in following.stdout:  # ends with the test's own time limit where nothing comes
            series = json.loads(line)
            seen.setdefault(series["metric"], set()).update(point["at"] for point in series["points"])
            if len(seen.get("machine_cpu_percent", ())) >= 3:
                break
        assert "machine_memory_used_bytes" in seen
    finally:
        following.kill()
        following.communicate()
    assert "machine_cpu_percent" in shown(daemon, "machine")
    assert "machine" in shown(daemon)
