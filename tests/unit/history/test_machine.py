"""Any sequence of writes, snapshots, rollbacks, undos and restarts is what a model in memory says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from appliance.storage.directory import store as directory
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.trees import copytree
from appliance.storage.trees.copying import Links
from tests.unit.history.machine import WorkspaceMachine


def copy_here(source: Path, target: Path, *, durable: bool, links: Links) -> None:
    """The copier without its process, for speed."""
    copytree.copy(str(source), str(target), copytree.parse(links.options()))


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
            max_examples=5, stateful_step_count=200, deadline=None, database=None, suppress_health_check=checks
        ),
    )
