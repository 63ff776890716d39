"""The daemon's own work for a job, on an engine in memory: it must cost the same in a small run and in a large one."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import anyio

from appliance.settings import load
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, flow, script

SIZES = (200, 2000)


async def per_job_ms(document: dict[str, Any], jobs: int) -> float:
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(load({}, home=Path(home)), Clock())
        run = bench.submit(document)
        begun = time.process_time()
        await bench.settle(most=jobs * 50)
        took = time.process_time() - begun
        assert bench.run(run).phase == "Succeeded"
        bench.close()
        return 1000 * took / jobs


def scheduler() -> int:
    for name in ("fan", "chain"):
        found = []
        for jobs in SIZES:
            needs = [[f"job{number - 1}"] if name == "chain" and number else [] for number in range(jobs)]
            document = flow(**{f"job{number}": script(*needs[number], cache=False) for number in range(jobs)})
            found.append(anyio.run(per_job_ms, document, jobs))
        words = ", ".join(f"{jobs} jobs: {ms:.2f} ms of CPU a job" for jobs, ms in zip(SIZES, found, strict=True))
        print(f"{name}: {words}, {found[-1] / found[0]:.2f} x")
    return 0
