"""What a session is made of, over an engine in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from appliance.datasets import uses
from appliance.engine.types import ContainerSpec
from appliance.errors import Conflict
from appliance.notebooks import confided
from appliance.spec.load import parse
from appliance.state import events
from tests.unit.notebooks.test_controller import House, house

__all__ = ["house"]

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for a folder in memory."""
    place = tmp_path / "memory"
    place.mkdir()
    monkeypatch.setattr(confided, "in_memory", lambda: [place])
    return place


def made(house: House) -> ContainerSpec:
    (container,) = house.engine.containers
    return house.engine.specs[container]


def targets(house: House) -> dict[str, bool]:
    """Where something is mounted -> read-only."""
    return {mount.target: mount.read_only for mount in made(house).mounts}


def said(house: House, reason: str) -> list[str]:
    found = events.newest(house.db.read, kind="notebook", name="nb")
    return [event.message for event in found if event.reason == reason]


async def a_dataset(house: House, tmp_path: Path, name: str) -> Any:
    house.datasets.create(name)
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").write_text("x")
    return await house.datasets.put(name, tmp_path / name)


async def test_a_user_shared_memory_and_limits(house: House) -> None:
    house.declare({"user": "0:0", "shm": "2G"})
    await house.run("Running")
    spec = made(house)
    assert (spec.user, spec.shm_bytes) == ("0:0", 2 << 30)
    assert "HOME" not in spec.env
    assert "/home/notebook" not in targets(house)
    assert spec.env["JUPYTER_CONFIG_PATH"] == "/etc/appliance/jupyter"
    assert spec.env["JUPYTERLAB_WORKSPACES_DIR"].startswith("/etc/appliance/lab/")


async def test_models_are_mounted_and_cannot_be_removed_while_a_session_sees_them(house: House, tmp_path: Path) -> None:
    version = await a_dataset(house, tmp_path, "weights")
    house.declare({"models": {"mine": "bert"}})
    assert "no model 'bert'" in (await house.run("Pending")).message
    model = house.models.register("bert", "Custom", version)
    row = await house.run("Running")
    assert targets(house)["/models/mine"] is True
    assert row.status["models"] == {"mine": model.id}
    with pytest.raises(Conflict, match="notebook nb"):
        house.models.delete(model.id)
    assert "notebook nb" in uses.of_versions(house.db.read)[version.dataset, version.version]
    house.ask("stopped")
    await house.run("Stopped")
    house.models.delete(model.id)


async def test_secrets_are_files_in_memory_as_long_as_the_session_lives(house: House, memory: Path) -> None:
    house.declare({"secrets": ["TOKEN"]})
    row = await house.run("Pending")
    assert "`appliance secret set TOKEN`" in row.message
    house.vault.set("TOKEN", "first")
    await house.run("Running")
    folder = memory / "appliance-cafe0001"
    file = folder / f"{row.uid}-1" / "TOKEN"
    assert file.read_text() == "first"
    assert targets(house)["/run/secrets"] is True
    assert "first" not in str(made(house).env)
    house.vault.set("TOKEN", "second")
    house.engine.end(house.row.status["container"], 1)
    await house.run("Failed")
    house.clock.now += 31
    await house.run("Running")
    assert [(file.parent.name, file.read_text()) for file in folder.rglob("TOKEN")] == [(f"{row.uid}-2", "second")]
    house.ask("stopped")
    await house.run("Stopped")
    assert list(memory.iterdir()) == []


async def test_datasets_of_the_workspaces_own_file_are_mounted_beside_the_specs(house: House, tmp_path: Path) -> None:
    for name in ("mnist", "other"):
        await a_dataset(house, tmp_path, name)
    house.declare({"gpus": 9, "datasets": {"a": "mnist"}})
    row = await house.run("Pending")
    settings = (await house.workspaces.open(row.uid)) / ".gradient" / "settings.yaml"
    settings.parent.mkdir()
    settings.write_text(
        "integrations:\n  a: {type: dataset, ref: other}\n  b: {type: dataset, ref: team/other:latest}\n"
        "  c: {type: dataset, ref: gone}\n  d: {type: s3, url: s3://bucket}\n"
    )
    house.declare({"datasets": {"a": "mnist"}})
    row = await house.run("Running")
    assert {name for name in targets(house) if name.startswith("/datasets")} == {"/datasets/a", "/datasets/b"}
    assert {name: ref.partition(":")[0] for name, ref in row.status["datasets"].items()} == {"a": "mnist", "b": "other"}
    (words,) = said(house, "SettingsFile")
    assert "'gone'" in words
    assert "type" in words
    assert "s3" in words


async def test_an_image_behind_a_login_is_pulled_with_the_one_that_the_spec_names(house: House) -> None:
    house.images.private["private"] = "hub"
    house.declare({"image": "private"})
    await house.run("Failed")
    house.declare({"image": "private", "containerRegistry": "hub"})
    await house.run("Running")


async def test_a_session_of_another_user_sees_the_same_files(house: House) -> None:
    house.declare()
    row = await house.run("Running")
    root = await house.workspaces.open(row.uid)
    (root / "a.txt").write_text("x")
    me = f"{root.stat().st_uid}:{root.stat().st_gid}"
    house.declare({"user": me, "env": {"A": "1"}})
    await house.controller.reconcile(house.row.uid)
    await house.run("Running")
    assert (root / "a.txt").read_text() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_what_is_restored_from_the_time_of_another_user_is_the_present_ones(house: House) -> None:
    house.declare({"user": 0})
    row = await house.run("Running")
    root = await house.workspaces.open(row.uid)
    (root / "a.txt").write_text("old")
    taken = await house.notebooks.history.snapshot("nb")
    house.declare({"user": 4711})
    await house.controller.reconcile(row.uid)
    await house.run("Running")
    assert (root / "a.txt").stat().st_uid == 4711
    await house.notebooks.history.restore("nb", taken.id, "a.txt")
    assert (root / "a.txt").stat().st_uid == 4711
    await house.notebooks.history.restore("nb", taken.id, "a.txt", "b.txt")
    assert (root / "b.txt").stat().st_uid == 4711


def test_what_a_spec_says_is_what_it_was_where_nothing_new_is_said() -> None:
    assert parse("notebook", "nb", {"user": 0}) == parse("notebook", "nb", {})
