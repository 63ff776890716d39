"""Writes, snapshots, rollbacks, forks, prunes and restarts on the kernel module are what a model in memory says.

`tests/integration/test_storage.py` runs more of them, on zfs-fuse where that is what there is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from appliance.storage.base import Store
from tests.unit.history.machine import WorkspaceMachine

pytestmark = pytest.mark.zfs

STEPS = 201
SEED = 4
"""One of those whose sequence of 200 has every kind of step: Hypothesis leaves some kinds out of a sequence."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kind of step was taken. They are printed as they go: in an emulated machine each takes seconds."""
    taken: Counter[str] = Counter()
    begun = time.monotonic()

    def counted(function: Callable[..., None]) -> Callable[..., None]:
        def step(machine: WorkspaceMachine, **drawn: Any) -> None:
            taken[function.__name__] += 1
            print(f"{time.monotonic() - begun:7.1f} s, step {taken.total()}: {function.__name__}", flush=True)
            function(machine, **drawn)

        return step

    for rule in WorkspaceMachine.setup_state().rules:
        monkeypatch.setattr(rule, "function", counted(rule.function))
    return taken


def test_a_long_sequence_of_steps_is_what_a_model_in_memory_says(
    store: Store, tmp_path: Path, steps: Counter[str]
) -> None:
    volumes = store

    @seed(SEED)
    class Machine(WorkspaceMachine):
        store = volumes
        directory = tmp_path

    begun = time.monotonic()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=3,  # the first is the simplest step again and again, the second nothing, the third a real one
            stateful_step_count=STEPS,
            phases=[Phase.generate],  # a failure is not made smaller here: that takes hours
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{steps.total()} steps in {time.monotonic() - begun:.0f} s: {dict(steps.most_common())}")
    assert steps.total() >= STEPS
