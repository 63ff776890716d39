"""What is said of one deployment beside its row: its models, its GPUs, and when a revision is given up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance import revisions
from appliance.api import deployments
from appliance.client import words
from appliance.scheduler.view import Gpus
from appliance.spec.load import Loaded
from appliance.state import models, resources, rollouts
from appliance.state.db import Database
from appliance.state.models import Model


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


def document(**more: Any) -> dict[str, Any]:
    return {"image": "one", "resources": {"instanceType": "C4", "replicas": 1}, **more}


def declare(db: Database, spec: dict[str, Any], *, phase: rollouts.Phase, **pinned: str) -> resources.Resource:
    resource, _ = resources.put(db.read, "deployment", "web", spec, source="cli", now=1.0)
    row = revisions.declare(db.read, resource, now=1.0)
    rollouts.set_pin(db.read, row.uid, row.generation, {"image": "x", "models": pinned}, began=100.0)
    rollouts.set_phase(db.read, row.uid, row.generation, phase, now=3.0)
    return resource


def register(db: Database, model_id: str) -> None:
    row = resources.find(db.read, "dataset", "weights")
    if row is None:
        row, _ = resources.put(db.read, "dataset", "weights", {}, source="cli", now=1.0)
    models.add(db.read, Model(model_id, "net", "Custom", row.uid, model_id, "", "", 1.0 + int(model_id[2:])))


def test_it_tells_which_model_serves_and_that_a_newer_one_is_registered(db: Database) -> None:
    register(db, "mo1")
    by_name = document(models=[{"id": "net", "path": "/m"}])
    found = declare(db, by_name, phase="Serving", **{"/m": "mo1"})
    assert deployments.served_models(db.read, found) == ["net (mo1) at /m"]
    register(db, "mo2")
    (told,) = deployments.served_models(db.read, found)
    assert told == ("net (mo1) at /m; a newer one is registered, mo2: `appliance deployment restart web` takes it")
    by_id = document(models=[{"id": "mo1", "path": "/m"}])
    declare(db, by_id, phase="Rolling", **{"/m": "mo2"})
    assert deployments.served_models(db.read, found) == [told], "what serves, not what comes"
    models.remove(db.read, "mo1")
    assert deployments.served_models(db.read, found) == ["mo1 at /m, which is gone"]


def test_a_model_that_the_spec_names_itself_is_not_exchanged_by_a_restart(db: Database) -> None:
    register(db, "mo1")
    register(db, "mo2")
    found = declare(db, document(models=[{"id": "mo1", "path": "/m"}]), phase="Serving", **{"/m": "mo1"})
    (told,) = deployments.served_models(db.read, found)
    assert told.endswith("a newer one is registered, mo2: its spec names this one")


def test_before_anything_is_known_no_model_is_told(db: Database) -> None:
    resource, _ = resources.put(db.read, "deployment", "web", document(), source="cli", now=1.0)
    assert deployments.served_models(db.read, resource) == []


@pytest.mark.parametrize(("machine", "told"), [("C4", False), ("A100", True)])
def test_who_gets_something_else_than_its_machine_type_says_is_told(db: Database, machine: str, told: bool) -> None:
    spec = document()
    spec["resources"]["instanceType"] = machine
    loaded = Loaded("deployment", "web", spec, revisions.parse_spec("web", spec), 1, ())
    gpus = cast(Gpus, SimpleNamespace(instead=lambda name: f"{name}: runs without a GPU" if name == "A100" else ""))
    for said in (deployments.plan(db.read, loaded, gpus), deployments.warnings(db.read, loaded, gpus)):
        assert ("A100: runs without a GPU" in said) == told
    assert "A100: runs without a GPU" not in deployments.plan(db.read, loaded)


def test_a_revision_under_way_tells_how_long_it_has(db: Database) -> None:
    resource = declare(db, document(), phase="Rolling")
    rows = list(rollouts.every(db.read, resource.uid))
    status = deployments.status({"undo_at": 400.0}, rows, None, None, now=140.0)
    assert status["rollout"]["undo_s"] == 260.0
    assert words.rollout(status, 140.0) == (
        "generation 1 rolls out for 40s; it has 4m more to become ready, else it is undone"
    )
    rollouts.set_phase(db.read, resource.uid, 1, "Serving", now=3.0)
    rows = list(rollouts.every(db.read, resource.uid))
    assert deployments.status({"undo_at": 400.0}, rows, None, None, now=140.0)["rollout"]["undo_s"] is None
