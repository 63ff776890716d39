"""The state room: transactions, generations, guarded moves, migrations."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import ApplianceError, Conflict, NotFound
from appliance.state import events, resources, rollouts, runs
from appliance.state.db import Database, StateError
from appliance.state.migrations import MIGRATIONS

NOW = 1_800_000_000.0


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


def put(db: Database, spec: dict[str, object], name: str = "nb") -> tuple[resources.Resource, str]:
    with db.write() as transaction:
        return resources.put(transaction, "notebook", name, spec, source="cli", now=NOW)


def test_an_unchanged_spec_keeps_its_generation_and_a_changed_one_gets_the_next(db: Database) -> None:
    assert put(db, {"image": "a", "gpus": 0})[1] == "created"
    assert put(db, {"image": "a", "gpus": 0})[1] == "unchanged"
    resource, change = put(db, {"image": "b"})
    assert (resource.generation, change) == (2, "updated")
    assert [revision.spec["image"] for revision in resources.revisions(db.read, resource.uid)] == ["b", "a"]


def test_only_those_that_are_to_run_are_read_where_only_those_matter(db: Database) -> None:
    for name in ("b", "a", "stopped"):
        put(db, {}, name)
    with db.write() as transaction:
        resources.set_desired(transaction, resources.get(transaction, "notebook", "stopped").uid, "stopped", now=NOW)
        resources.put(transaction, "deployment", "web", {}, source="cli", now=NOW)
    found = resources.running(db.read, "notebook")
    assert [one.name for one in found] == ["a", "b"]
    assert found == [one for one in resources.every(db.read, "notebook") if one.desired == "running"]


def test_a_status_of_an_older_generation_is_dropped(db: Database) -> None:
    old, _ = put(db, {"image": "a"})
    put(db, {"image": "b"})
    with db.write() as transaction:
        assert not resources.set_status(transaction, old.uid, generation=1, phase="Running")
        assert resources.set_status(transaction, old.uid, generation=2, phase="Starting", status={"x": 1})
        assert resources.set_status(transaction, old.uid, generation=2, phase="Running")
    now = resources.get(db.read, "notebook", "nb")
    assert (now.phase, now.observed, now.status) == ("Running", 2, {"x": 1})


def test_nothing_is_declared_over_what_is_being_deleted(db: Database) -> None:
    resource, _ = put(db, {"image": "a"})
    with db.write() as transaction:
        resources.set_deleting(transaction, resource.uid, now=NOW)
    with pytest.raises(Conflict):
        put(db, {"image": "b"})


def test_a_failed_transaction_leaves_nothing_behind(db: Database) -> None:
    with pytest.raises(RuntimeError), db.write() as transaction:  # noqa: PT012 -- the block is the transaction
        resources.put(transaction, "notebook", "nb", {}, source="cli", now=NOW)
        raise RuntimeError
    assert resources.every(db.read) == []
    assert events.newest(db.read) == []


def test_a_change_and_its_event_are_stored_together(db: Database) -> None:
    put(db, {"image": "a"})
    assert [event.reason for event in events.newest(db.read, kind="notebook", name="nb")] == ["Created"]


def test_a_missing_resource_says_how_to_list(db: Database) -> None:
    with pytest.raises(NotFound, match="no notebook named 'x'") as caught:
        resources.get(db.read, "notebook", "x")
    assert "appliance get notebooks" in caught.value.hint


def new_run(db: Database) -> runs.Run:
    with db.write() as transaction:
        return runs.create(
            transaction, workflow_uid="w", workflow="train", spec={}, inputs={}, jobs=["a", "b"], now=NOW
        )


def test_runs_are_numbered_within_their_workflow(db: Database) -> None:
    assert [new_run(db).number for _ in range(3)] == [1, 2, 3]
    assert runs.by_number(db.read, "train", 2).number == 2
    assert [run.number for run in runs.newest(db.read)] == [3, 2, 1]


def test_the_number_of_a_run_that_was_removed_is_not_given_again(db: Database) -> None:
    made = [new_run(db) for _ in range(3)]
    with db.write() as transaction:
        for run in made:
            assert not runs.remove(transaction, run.id)  # it is not over
            runs.set_phase(transaction, run.id, "Succeeded", finished=NOW)
            assert runs.remove(transaction, run.id)
    assert runs.newest(db.read) == []
    assert new_run(db).number == 4


def test_a_run_that_comes_to_nothing_takes_no_number(db: Database) -> None:
    with pytest.raises(RuntimeError), db.write():  # noqa: PT012 -- the block is the transaction
        new_run(db)
        raise RuntimeError
    assert new_run(db).number == 1


def test_numbers_go_on_from_a_file_of_an_older_appliance(tmp_path: Path) -> None:
    """Which told the next one by the runs that there were."""
    path = tmp_path / "state.db"
    raw = sqlite3.connect(path)
    for migration in MIGRATIONS[:3]:
        migration(raw)
    raw.execute("PRAGMA user_version = 3")
    for number, workflow, uid in ((1, "train", "a"), (7, "train", "b"), (2, "other", "c")):
        raw.execute(
            "INSERT INTO runs (id, number, workflow_uid, workflow, spec, inputs, phase, created)"
            " VALUES (?, ?, ?, ?, '{}', '{}', 'Succeeded', ?)",
            (f"{workflow}{number}", number, uid, workflow, NOW),
        )
    raw.commit()
    raw.close()
    db = Database(path)
    try:
        assert new_run(db).number == 8
        assert len(runs.newest(db.read)) == 4
    finally:
        db.close()


def test_a_job_moves_only_from_the_phase_that_was_read(db: Database) -> None:
    run = new_run(db)
    with db.write() as transaction:
        assert runs.move_job(transaction, run.id, "a", "Pending", "Starting", container="c1", started=NOW)
        assert not runs.move_job(transaction, run.id, "a", "Pending", "Starting", container="c2")
    job = runs.jobs(db.read, run.id)[0]
    assert (job.phase, job.container, job.started) == ("Starting", "c1", NOW)


def test_a_finished_run_is_not_canceled(db: Database) -> None:
    run = new_run(db)
    with db.write() as transaction:
        runs.set_phase(transaction, run.id, "Succeeded", finished=NOW)
        runs.request_cancel(transaction, run.id)
    assert not runs.get(db.read, run.id).cancel
    assert runs.unfinished(db.read) == []


def test_the_file_is_private_and_survives_reopening(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = Database(path)
    put(first, {"image": "a"})
    first.close()
    assert path.stat().st_mode & 0o077 == 0
    again = Database(path)
    assert resources.get(again.read, "notebook", "nb").generation == 1
    again.close()


def test_a_file_from_a_newer_appliance_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Database(path).close()
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    raw.close()
    with pytest.raises(ApplianceError, match="knows up to"):
        Database(path)


def test_what_a_deployment_ran_is_known_after_the_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    raw = sqlite3.connect(path)
    for migration in MIGRATIONS[:5]:
        migration(raw)
    raw.execute("PRAGMA user_version = 5")
    pin = {"image": "sha256:1", "models": {}}
    stable = {"generation": 2, "digest": "old", "replicas": 2}
    for uid, status in {
        "whole": {"stable": stable, "pins": {"old": pin}, "since": {"generation": 2, "at": NOW}},
        "rolling": {"stable": stable, "pins": {"old": pin, "new": pin}, "since": {"generation": 3, "at": NOW + 5}},
        "first": {"stable": None, "pins": {"new": pin}, "since": {"generation": 3, "at": NOW + 5}},
        "off": {"stable": {"generation": 3, "digest": "", "replicas": 0}, "pins": {}, "since": {}},
        "fresh": {},
    }.items():
        raw.execute(
            "INSERT INTO resources (uid, kind, name, generation, spec, source, desired, created, updated, status)"
            " VALUES (?, 'deployment', ?, 3, '{}', 'cli', 'running', ?, ?, ?)",
            (uid, uid, NOW, NOW, json.dumps(status)),
        )
    raw.commit()
    raw.close()
    db = Database(path)
    try:
        found = {
            uid: [(row.generation, row.digest, row.phase, row.began, row.pin) for row in rollouts.every(db.read, uid)]
            for uid in ("whole", "rolling", "first", "off", "fresh")
        }
    finally:
        db.close()
    old = (2, "old", "Serving", NOW, pin)
    new = (3, "new", "Rolling", NOW + 5, pin)
    assert found == {"whole": [old], "rolling": [new, old], "first": [new], "off": [], "fresh": []}


def test_a_damaged_file_is_refused_with_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(StateError) as caught:
        Database(path)
    assert "backup" in caught.value.hint
    assert path.exists()


def test_a_spec_keeps_the_order_of_its_keys(db: Database) -> None:
    resource, _ = put(db, {"jobs": {"z": 1, "a": 2}})
    assert list(resource.spec["jobs"]) == ["z", "a"]


def test_those_that_failed_are_told_by_name(db: Database) -> None:
    made = [new_run(db) for _ in range(4)]
    with db.write() as transaction:
        for run, phase in zip(made, ("Failed", "Error", "Succeeded", "Canceled"), strict=True):
            transaction.execute("UPDATE runs SET phase = ? WHERE id = ?", (phase, run.id))
    assert sorted(runs.failed_names(db.read)) == ["train.1", "train.2"]


def test_run_names_are_never_given_twice(db: Database) -> None:
    new_run(db)
    with db.write() as transaction:
        again = runs.create(
            transaction, workflow_uid="another", workflow="train", spec={}, inputs={}, jobs=["a"], now=NOW
        )
    assert again.number == 2
