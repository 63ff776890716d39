"""Any sequence of writes, snapshots, rollbacks, undos and restarts is what a model in memory says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from appliance.storage import directory
from appliance.storage.copytree import Copier
from appliance.storage.directory import DirectoryStore
from tests.unit.history.machine import WorkspaceMachine


def copy_here(source: Path, target: Path, *, durable: bool) -> None:
    """The copier without its process, for speed."""
    descriptors = [os.open(source, os.O_RDONLY), os.open(target, os.O_RDONLY)]
    copier = Copier(descriptors[1])
    copier.tree(*descriptors)
    copier.top(*descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


def test_workspaces_on_the_directory_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "copy_tree", copy_here)
    monkeypatch.setattr(directory, "_remove", shutil.rmtree)

    class Machine(WorkspaceMachine):
        store = DirectoryStore(tmp_path / "volumes", "for tests", durable=False)
        directory = tmp_path

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15, stateful_step_count=30, deadline=None, database=None, suppress_health_check=checks
        ),
    )
