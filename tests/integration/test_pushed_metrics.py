"""Gradient's own library, as it is published, pushes from a job; so does curl, and nobody else can."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest

from tests.support.daemon import RunningDaemon, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

LIBRARY = "gradient-utils==0.5.0"
INSTALL_S = 240
PROGRAM = """
from gradient_utils.metrics import MetricsLogger, add_metrics

for step in range(3):
    add_metrics({"loss": 1 / (step + 1), "accuracy": step / 2}, step=step)
add_metrics({"epochs": 3})

logger = MetricsLogger(step=7)
logger.add_counter("images")
logger.add_histogram("latency")
logger.add_info("build")
logger["images"].inc(5)
logger["latency"].observe(0.3)
logger["build"].info({"version": "1.0"})
logger.push_metrics()
"""
FLOW = """
inputs:
  library: {type: dataset, with: {ref: library}}
jobs:
  fit:
    uses: script@v1
    inputs: {library: workflow.inputs.library}
    with:
      image: appliance/base
      script: |
        set -e
        env | grep ^PAPERSPACE_METRIC
        PYTHONPATH=/inputs/library python3 /inputs/library/train.py
"""
CURL = """
jobs:
  say:
    uses: script@v1
    with:
      image: appliance/base
      script: |
        set -ex
        push() { curl -sS -o /dev/null -w '%{http_code}\\n' "$@"; }
        at="$PAPERSPACE_METRIC_PUSHGATEWAY"
        ok="$(echo 'speed{lane="1"} 2.5' | push --data-binary @- "$at/metrics/job/train/step/4")"
        forged="$(echo 'x 1' | push -H 'X-Appliance-Caller: 127.0.0.1' --data-binary @- "$at/metrics/job/train")"
        wrong="$(echo 'no metric' | push --data-binary @- "$at/metrics/job/train")"
        api="$(push "$at/v1/status")"
        echo "answers $ok $forged $wrong $api"
"""


@pytest.fixture(scope="module")
def pushing(daemon: RunningDaemon, base_image: str) -> RunningDaemon:
    """Whether containers may push is known when the engine is."""
    return daemon


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    uv = Path(sys.executable).with_name("uv")
    try:
        done = subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", folder, LIBRARY],
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{LIBRARY} cannot be installed here: {error}")
    if done.returncode:
        pytest.skip(f"{LIBRARY} cannot be installed here: {done.stderr.strip()[-300:]}")
    return folder


def points(daemon: RunningDaemon, **query: object) -> Mapping[str, list[tuple[int | None, float]]]:
    """Metric and labels -> step and value of each point, of a run's own metrics."""
    found: dict[str, list[tuple[int | None, float]]] = {}
    for series in daemon.client.metrics(**query):
        if series["metric"].startswith(("container_", "gpu_")):
            continue
        labels = ",".join(f"{name}={value}" for name, value in sorted(series["labels"].items()))
        name = series["metric"] + (f"{{{labels}}}" if labels else "")
        found[name] = [(point.get("step"), point["value"]) for point in series["points"]]
    return found


def run(daemon: RunningDaemon, spec: Path, text: str) -> Any:
    spec.write_text(text)
    answer = daemon.cli("workflow", "run", str(spec))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer


def test_gradient_s_library_pushes_from_a_job(pushing: RunningDaemon, library: Path, tmp_path: Path) -> None:
    (library / "train.py").write_text(PROGRAM)
    assert pushing.cli("dataset", "create", "library").returncode == 0
    put = pushing.cli("dataset", "put", "library", str(library))
    assert put.returncode == 0, put.stderr
    said = run(pushing, tmp_path / "train.yaml", FLOW).stdout
    assert "PAPERSPACE_METRIC_WORKLOAD_TYPE=workflow" in said

    def stored() -> Mapping[str, list[tuple[int | None, float]]] | None:
        found = points(pushing, kind="run", name="train.1", part="fit")
        return found if "images_total" in found else None

    found = eventually(stored, within_s=30, what="the series of the job")
    assert found["loss"] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert found["accuracy"] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert found["epochs"] == [(None, 3.0)]
    assert found["images_total"] == [(7, 5.0)]
    assert found["latency_count"] == [(7, 1.0)]
    assert found["latency_bucket{le=+Inf}"] == [(7, 1.0)]
    assert found["build_info{version=1.0}"] == [(7, 1.0)]
    assert not [name for name in found if "handle" in name or "pod" in name or "created" in name]


def test_whatever_a_program_says_it_pushes_for_itself(pushing: RunningDaemon, tmp_path: Path) -> None:
    answer = run(pushing, tmp_path / "say.yaml", CURL)
    assert "answers 200 200 400 404" in answer.stdout

    def stored() -> Mapping[str, list[tuple[int | None, float]]] | None:
        found = points(pushing, kind="run", name="say.1", part="say")
        return found if "x" in found else None

    found = eventually(stored, within_s=30, what="what the job has pushed")
    assert found == {"speed{lane=1}": [(4, 2.5)], "x": [(None, 1.0)]}


def test_nobody_but_a_container_of_the_appliance_pushes(pushing: RunningDaemon) -> None:
    """The gateway's address is this machine's, so any program of it can come there."""
    instance = (pushing.home / "instance").read_text().strip()
    engine = docker.from_env()
    try:
        network = engine.networks.get(f"appliance-{instance}")
        assert network.attrs
        gateway = network.attrs["IPAM"]["Config"][0]["Gateway"]
    finally:
        engine.close()
    port = pushing.extra.get("APPLIANCE_PUSH_PORT", "9091")
    with httpx2.Client(trust_env=False, timeout=60) as http:
        answer = http.put(f"http://{gateway}:{port}/metrics/job/x", content=b"x 1\n")
    assert answer.status_code == 401
    assert "only a container of this appliance" in answer.json()["detail"]


def test_its_socket_is_not_for_everybody(pushing: RunningDaemon) -> None:
    status = (pushing.home / "run" / "push.sock").stat()
    assert status.st_mode & 0o077 == 0
