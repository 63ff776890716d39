"""The rows of a deployment's revisions: which replicas a spec goes on with, and where a rollback leads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import revisions
from appliance.errors import Conflict, NotFound
from appliance.state import resources, rollouts
from appliance.state.db import Database
from appliance.state.rollouts import Rollout


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


def document(image: str = "one", replicas: int = 1, **more: Any) -> dict[str, Any]:
    return {"image": image, "resources": {"instanceType": "C4", "replicas": replicas}, **more}


def declare(db: Database, spec: dict[str, Any]) -> Rollout:
    resource, _ = resources.put(db.read, "deployment", "web", spec, source="cli", now=1.0)
    return revisions.declare(db.read, resource, now=1.0)


def serve(db: Database, row: Rollout, image: str) -> None:
    """It is ready as a whole, and the one before it is over."""
    rollouts.set_pin(db.read, row.uid, row.generation, {"image": image, "models": {}}, began=2.0)
    for other in rollouts.every(db.read, row.uid):
        if other.phase == "Serving":
            rollouts.set_phase(db.read, row.uid, other.generation, "Superseded", now=3.0)
    rollouts.set_phase(db.read, row.uid, row.generation, "Serving", now=3.0)


def row(db: Database, generation: int) -> Rollout:
    found = rollouts.find(db.read, resources.get(db.read, "deployment", "web").uid, generation)
    assert found is not None
    return found


def test_another_number_of_replicas_goes_on_with_what_serves(db: Database) -> None:
    first = declare(db, document())
    serve(db, first, "sha:one")
    second = declare(db, document(replicas=3, region="ny2"))
    assert (second.generation, second.digest) == (2, first.digest)
    assert second.pin == {"image": "sha:one", "models": {}}


def test_what_is_under_way_is_gone_on_with_too(db: Database) -> None:
    first = declare(db, document())
    rollouts.set_pin(db.read, first.uid, 1, {"image": "sha:one"}, began=2.0)
    assert declare(db, document(replicas=2)).digest == first.digest


def test_a_spec_that_served_long_ago_is_looked_up_anew(db: Database) -> None:
    serve(db, first := declare(db, document("one")), "sha:one")
    serve(db, declare(db, document("two")), "sha:two")
    third = declare(db, document("one"))
    assert third.digest != first.digest
    assert third.pin is None


def test_what_failed_or_was_undone_is_not_gone_on_with(db: Database) -> None:
    first = declare(db, document("bad"))
    rollouts.set_phase(db.read, first.uid, 1, "Undone", now=2.0)
    assert declare(db, document("bad", replicas=2)).digest != first.digest


@pytest.mark.parametrize(
    "change", [{"env": [{"name": "A", "value": "b"}]}, {"healthChecks": {"liveness": {"path": "/"}}}]
)
def test_another_environment_or_probe_asks_for_other_replicas(db: Database, change: dict[str, Any]) -> None:
    serve(db, first := declare(db, document()), "sha:one")
    assert declare(db, document(**change)).digest != first.digest


def test_a_restart_is_a_generation_of_its_own(db: Database) -> None:
    serve(db, first := declare(db, document()), "sha:one")
    found = revisions.restart(db.read, resources.get(db.read, "deployment", "web"), source="cli", now=5.0)
    again = row(db, found.generation)
    assert (again.generation, again.cause, again.pin) == (2, "restarted", None)
    assert again.digest != first.digest
    assert declare(db, document(replicas=2)).digest == again.digest, "which later ones go on with"


def test_a_rollback_brings_back_the_very_image_and_keeps_the_scale(db: Database) -> None:
    serve(db, first := declare(db, document("one", replicas=1)), "sha:one")
    serve(db, declare(db, document("two", replicas=4)), "sha:two")
    found = revisions.roll_back(db.read, resources.get(db.read, "deployment", "web"), None, source="cli", now=5.0)
    back = row(db, found.generation)
    assert (found.generation, found.spec) == (3, document("one", replicas=4))
    assert (back.copies, back.digest, back.pin) == (1, first.digest, {"image": "sha:one", "models": {}})
    assert row(db, 2).phase == "Serving", "until the other one is ready"


def test_a_rollback_leads_to_what_served_not_to_what_failed(db: Database) -> None:
    serve(db, declare(db, document("one")), "sha:one")
    serve(db, declare(db, document("two")), "sha:two")
    bad = declare(db, document("bad"))
    rollouts.set_phase(db.read, bad.uid, 3, "Undone", now=4.0)
    found = revisions.roll_back(db.read, resources.get(db.read, "deployment", "web"), None, source="cli", now=5.0)
    assert row(db, found.generation).copies == 1


def test_a_rollback_that_leads_nowhere_is_refused(db: Database) -> None:
    declare(db, document())
    web = resources.get(db.read, "deployment", "web")
    with pytest.raises(Conflict, match="no earlier revision"):
        revisions.roll_back(db.read, web, None, source="cli", now=5.0)
    with pytest.raises(NotFound, match="no generation 9"):
        revisions.roll_back(db.read, web, 9, source="cli", now=5.0)
    with pytest.raises(Conflict, match="never came to know its image"):
        revisions.roll_back(db.read, web, 1, source="cli", now=5.0)


def test_rows_go_with_their_deployment(db: Database) -> None:
    uid = declare(db, document()).uid
    resources.remove(db.read, uid)
    assert list(rollouts.every(db.read, uid)) == []
