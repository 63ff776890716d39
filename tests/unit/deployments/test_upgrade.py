"""A deployment that ran under version 0.4 is adopted by this one: none of its replicas is made, stopped or replaced.

0.4 kept what it knew of a deployment's revisions in its status document, and computed the digest that its containers
carry from the whole spec: this version would compute another one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from appliance.engine.labels import PREFIX
from appliance.state import resources, rollouts
from appliance.state.db import Database
from appliance.state.migrations import MIGRATIONS
from tests.unit.deployments.house import House, short, spec

pytestmark = pytest.mark.anyio

OLD = "0123456789abcdef"
"""A digest as 0.4 computed it; no spec has it here."""
LATER = "fedcba9876543210"
VERSION_04 = 5
"""Migrations that 0.4 knew."""


def as_version_04(house: House, document: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    """Turn the state file and the engine's labels back into what 0.4 left. `digests`: of now -> of then."""
    for container in list(house.engine.containers.values()):
        then = digests[container.labels[f"{PREFIX}digest"]]
        labels = {**container.labels, f"{PREFIX}digest": then}
        house.engine.containers[container.id] = replace(container, labels=labels)
    house.db.close()
    newer = house.settings.state_file.rename(house.settings.home / "newer.db")
    with sqlite3.connect(house.settings.state_file) as db:
        for migration in MIGRATIONS[:VERSION_04]:
            migration(db)
        db.execute(f"PRAGMA user_version = {VERSION_04}")
        db.execute("ATTACH ? AS newer", (str(newer),))
        for table in ("resources", "revisions", "events"):
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}")
        (text,) = db.execute("SELECT status FROM main.resources WHERE kind = 'deployment'").fetchone()
        db.execute("UPDATE main.resources SET status = ?", (json.dumps({**json.loads(text), **document}),))
    db.close()


async def restarted(house: House) -> None:
    await house.controller.close()
    house.db = Database(house.settings.state_file)
    house.controller = house.another()


def digest_of(house: House, generation: int) -> str:
    row = rollouts.find(house.db.read, house.row.uid, generation)
    assert row is not None
    return row.digest


async def settled(house: House, passes: int = 30) -> None:
    """Enough passes for anything that wants to begin."""
    left = iter(range(passes))
    await house.until(lambda: next(left, None) is None)


async def test_a_running_deployment_is_adopted_and_nothing_is_made_or_stopped(house: House) -> None:
    house.declare(spec(healthChecks={"readiness": {"exec": {"command": ["true"]}, "periodSeconds": 3}}))
    await house.settle()
    before, at = short(house.running()), house.clock()
    then = {
        "stable": {"generation": 1, "digest": OLD, "replicas": 2},
        "pins": {OLD: {"image": "one", "models": {}}},
        "since": {"generation": 1, "at": at},
    }
    as_version_04(house, then, {digest_of(house, 1): OLD})
    await restarted(house)
    house.engine.stopped.clear()
    await settled(house)
    assert (house.row.phase, house.row.observed) == ("Ready", 1)
    assert short(list(house.engine.containers.values())) == before == house.served
    assert house.engine.stopped == []
    assert digest_of(house, 1) == OLD
    assert not {"stable", "pins", "since"} & set(house.row.status)


async def test_what_is_applied_afterwards_is_told_from_what_ran(house: House) -> None:
    """The same spec replaces nothing, fewer replicas stop one, another image replaces all and can be taken back."""
    house.declare(spec())
    await house.settle()
    before = short(house.running())
    then = {
        "stable": {"generation": 1, "digest": OLD, "replicas": 2},
        "pins": {OLD: {"image": "one", "models": {}}},
        "since": {"generation": 1, "at": house.clock()},
    }
    as_version_04(house, then, {digest_of(house, 1): OLD})
    await restarted(house)
    house.declare(spec(replicas=3))
    await house.settle()
    assert before < short(house.running())
    assert len(house.running()) == 3
    house.declare(spec(image="two", replicas=2))
    await house.settle()
    assert not before & short(house.running())
    assert len(house.running("two")) == 2


async def test_an_update_that_was_under_way_goes_on_with_the_replicas_it_had(house: House) -> None:
    """0.4 had begun generation 2, which is not ready yet, beside generation 1, which serves."""
    house.declare(spec())
    await house.settle()
    house.engine.exit_codes["two"] = 1
    house.declare(spec(image="two"))
    await house.until(lambda: len(house.running("two")) == 2)
    before, later = short(house.running()), short(house.running("two"))
    then = {
        "stable": {"generation": 1, "digest": OLD, "replicas": 2},
        "pins": {OLD: {"image": "one", "models": {}}, LATER: {"image": "two", "models": {}}},
        "since": {"generation": 2, "at": house.clock()},
        "generation_ready": 1,
    }
    as_version_04(house, then, {digest_of(house, 1): OLD, digest_of(house, 2): LATER})
    await restarted(house)
    house.engine.stopped.clear()
    await settled(house, 10)
    assert short(list(house.engine.containers.values())) == before
    assert house.engine.stopped == []
    assert house.served == short(house.running("one"))
    house.engine.exit_codes["two"] = 0
    await house.settle()
    assert short(house.running()) == later == house.served


async def test_a_stopped_deployment_stays_stopped_and_starts_from_its_spec(house: House) -> None:
    house.declare(spec())
    await house.settle()
    with house.db.write() as db:
        resources.set_desired(db, house.row.uid, "stopped", now=house.clock())
    await house.run("Disabled")
    assert house.engine.containers == {}
    then = {"stable": {"generation": 1, "digest": "", "replicas": 0}, "pins": {}, "since": {}}
    as_version_04(house, then, {})
    await restarted(house)
    await settled(house)
    assert house.engine.containers == {}
    with house.db.write() as db:
        resources.set_desired(db, house.row.uid, "running", now=house.clock())
    await house.settle()
    assert len(house.running("one")) == 2
