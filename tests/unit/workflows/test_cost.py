"""What a job costs the daemon does not depend on how many other jobs its run has.

Counted, not timed: the steps of SQLite's machine and the calls of Python functions are the same on every machine.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest

from appliance.settings import load as load_settings
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, flow, script

FEW, MANY = 20, 120
STEPS = 10
"""Instructions of SQLite's machine per count."""


async def measured(document: dict[str, Any], jobs: int) -> tuple[float, float, int]:
    """Steps of SQLite and calls of Python functions per job, and what the controller remembers at the end."""
    steps = calls = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    def call(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call" and "appliance" in frame.f_code.co_filename

    with tempfile.TemporaryDirectory() as home:
        bench = Bench(load_settings({}, home=Path(home)), Clock())
        run = bench.submit(document)
        await bench.settle_some(2)  # making the board is paid once
        bench.db.read.set_progress_handler(step, STEPS)
        sys.setprofile(call)
        try:
            await bench.settle_some(jobs * 20)
        finally:
            sys.setprofile(None)
            bench.db.read.set_progress_handler(None, 0)
        assert bench.run(run).phase == "Succeeded"
        remembered = _size(bench.controller)
        bench.close()
        return steps / jobs, calls / jobs, remembered


def _size(thing: object) -> int:
    """Entries of all collections that the controller and its worker hold."""
    held = [value for part in (thing, vars(thing)["_worker"]) for value in vars(part).values()]
    return sum(len(value) for value in held if isinstance(value, dict | set | list))


def fan_out(jobs: int) -> dict[str, Any]:
    return flow(**{f"job{number}": script() for number in range(jobs)})


def chain(jobs: int) -> dict[str, Any]:
    return flow(**{f"job{number}": script(*([f"job{number - 1}"] if number else [])) for number in range(jobs)})


@pytest.mark.parametrize("shape", [fan_out, chain])
def test_the_cost_of_a_job_is_flat(shape: Any) -> None:
    gc.collect()
    few = anyio.run(measured, shape(FEW), FEW)
    many = anyio.run(measured, shape(MANY), MANY)
    print(f"steps {few[0] * STEPS:.0f} -> {many[0] * STEPS:.0f}, calls {few[1]:.0f} -> {many[1]:.0f} per job")
    assert many[0] < 1.25 * few[0], "steps of the database"
    assert many[1] < 1.25 * few[1], "calls"
    assert many[2] == few[2] == 0, "nothing of a run that is over is remembered"
