"""The deployment controller over an engine in memory, with real state, models and files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import pytest

from appliance import revisions
from appliance.deployments import acting
from appliance.engine.labels import owner_of
from appliance.errors import Conflict, EngineError, SpecError
from appliance.router.table import Access
from appliance.state import resources
from tests.unit.deployments.house import READY, House, short, spec
from tests.unit.notebooks.rooms import Killed, Mortality

pytestmark = pytest.mark.anyio


async def test_a_first_revision_becomes_ready_and_is_served(house: House) -> None:
    house.declare(spec(port=8000, env=[{"name": "A", "value": "1"}], command=["serve", "--fast"]))
    row = await house.settle()
    containers = house.running("one")
    assert {container.name for container in containers} == {
        "appliance-cafe0001-deployment-web-1-0-0",
        "appliance-cafe0001-deployment-web-1-1-0",
    }
    made = house.engine.specs[containers[0].id]
    assert list(made.entrypoint or ()) == ["serve", "--fast"]
    assert made.publish == (8000,)
    assert made.env == {
        "A": "1",
        "APPLIANCE_URL": "http://host.docker.internal:7070",
        "PAPERSPACE_METRIC_PUSHGATEWAY": "http://host.docker.internal:9091",
        "PAPERSPACE_METRIC_WORKLOAD_ID": row.uid,
        "PAPERSPACE_METRIC_WORKLOAD_TYPE": "deployment",
    }
    assert house.served == short(containers)
    assert house.router.routes["/deployments/web"].strip is True
    assert row.status["ready"] == 2
    assert row.status["generation_ready"] == 1
    assert row.status["url_path"] == "/deployments/web/"
    assert [shown["state"] for shown in row.status["replicas"]] == ["ready", "ready"]
    assert {owner.part for one in containers if (owner := owner_of(one.labels))} == {"1-0", "1-1"}
    assert house.telemetry.attached == {container.id for container in containers}


async def test_an_update_switches_when_the_new_revision_is_whole_and_drains_the_old(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    old = house.running("one")
    house.router.gate.clear()
    house.declare(spec("two"))
    await house.run("Ready")
    assert house.served == short(house.running("two"))
    assert house.running("one") == old, "stopped before its requests were done"
    tables = [set(targets) for _, targets in house.router.history]
    assert set() not in tables[tables.index(short(old)) :], "nobody served for a moment"
    assert all(table <= short(old) or not table & short(old) for table in tables), "two revisions served"
    house.router.gate.set()
    await house.settle()
    assert set(house.router.drained) == short(old)
    assert {one.id for one in old} <= set(house.telemetry.drained)


async def test_who_leaves_is_shown_until_it_has_gone(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    old = {one.id for one in house.running("one")}
    house.router.gate.clear()
    house.declare(spec("two"))
    await house.run("Ready")
    await house.until(lambda: len(house.row.status["replicas"]) == 4)
    leaving = [row for row in house.row.status["replicas"] if row["state"] == "leaving"]
    assert {row["container"] for row in leaving} == old
    assert all(0 < row["leaves_by"] - house.clock() <= house.settings.drain_s for row in leaving)
    house.router.gate.set()
    await house.settle()
    await house.until(lambda: len(house.row.status["replicas"]) == 2)


async def test_what_is_told_of_a_replica_that_ends_no_request_is_shown_of_it(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    first, _ = house.running()
    house.load.said = {first.id[:12]: "none has ended for 30 s"}
    await house.until(lambda: [row["message"] for row in house.row.status["replicas"]].count("") == 1)
    assert house.row.phase == "Ready"
    house.load.said = {}
    await house.until(lambda: [row["message"] for row in house.row.status["replicas"]] == ["", ""])


async def test_a_dead_replica_of_the_serving_revision_is_replaced_while_a_bad_one_fails(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad"))
    await house.run("Updating")
    house.engine.end(house.running("one")[0].id, 137)
    await house.until(lambda: len(house.served) == 1)
    await house.until(lambda: len(house.served) == 2)
    assert house.served == short(house.running("one"))


async def test_scaling_keeps_the_replicas_that_run(house: House) -> None:
    house.declare(spec("one", replicas=1))
    await house.settle()
    (first,) = house.running()
    house.declare(spec("one", replicas=3))
    await house.run("Updating")
    await house.settle()
    assert first in house.running()
    assert len(house.served) == 3
    house.declare(spec("one", replicas=1))
    await house.settle()
    assert house.running() == [first]


async def test_without_room_a_deployment_waits_and_its_deadline_does_not_run(house: House) -> None:
    house.no_room = "waits for disk space"
    house.declare(spec("one"))
    row = await house.run("Pending")
    assert "waits for disk space" in row.message
    assert house.engine.containers == {}
    house.clock.now += 10 * house.settings.deploy_deadline_s
    row = await house.run("Pending")
    house.no_room = ""
    await house.settle()
    house.no_room = "waits for disk space"
    house.declare(spec("one", replicas=3))
    house.clock.now += 10 * house.settings.deploy_deadline_s
    await house.until(lambda: "waits for disk space" in house.row.message)
    house.engine.end(house.running("one")[0].id, 137)
    await house.until(lambda: len(house.served) == 1)
    await house.until(lambda: len(house.served) == 2)
    assert len(house.running()) == 2, "the third is new work"
    house.no_room = ""
    await house.settle()
    assert len(house.served) == 3
    assert "Failed" not in house.reasons


async def test_disable_stops_all_and_keeps_the_route_for_the_waiting_page(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    house.declare(spec("one", enabled=False))
    await house.run("Disabled")
    assert house.engine.containers == {}
    assert house.served == set()
    assert "/deployments/web" in house.router.routes
    house.declare(spec("one", replicas=0))
    await house.run("Disabled")
    house.declare(spec("one"))
    await house.settle()
    with house.db.write() as db:
        resources.set_desired(db, house.row.uid, "stopped", now=house.clock())
    await house.run("Disabled")
    assert house.engine.containers == {}


async def test_delete_removes_everything(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    uid = house.row.uid
    with house.db.write() as db:
        resources.set_deleting(db, uid, now=house.clock())
    async with asyncio.timeout(20):
        while resources.find_uid(house.db.read, uid):
            await house.controller.reconcile(uid)
            await asyncio.sleep(0.005)
    assert house.engine.containers == {}
    assert house.router.routes == {}
    assert house.reasons[-1] == "Deleted"


async def test_what_cannot_be_let_go_keeps_its_row_and_is_tried_again(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    uid, let_go = house.row.uid, house.images.let_go

    async def refuse(prefix: str, keep: Collection[str]) -> None:
        raise EngineError("the engine is busy")

    house.images.let_go = refuse  # type: ignore[method-assign]
    with house.db.write() as db:
        resources.set_deleting(db, uid, now=house.clock())
    await house.until(lambda: "the engine is busy" in house.row.message)
    again = await house.controller.reconcile(uid)
    assert again is not None
    assert again.after > 1
    assert not house.engine.containers
    house.images.let_go = let_go  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        while resources.find_uid(house.db.read, uid):
            await house.controller.reconcile(uid)
    assert house.images.kept == {}
    assert house.reasons[-1] == "Deleted"


async def test_who_cannot_leave_for_an_unexpected_reason_is_tried_again_after_a_pause(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "LEAVE_RETRY_S", 0.2)
    house.declare(spec("one", replicas=1))
    await house.settle()
    remove, tries = house.engine.remove, []

    async def broken(container_id: str) -> None:
        tries.append(asyncio.get_running_loop().time())
        raise OSError("a file cannot be read")

    house.engine.remove = broken  # type: ignore[method-assign]
    house.declare(spec("two", replicas=1))
    await house.until(lambda: len(tries) == 3)
    assert tries[2] - tries[0] > 0.3
    house.engine.remove = remove  # type: ignore[method-assign]
    await house.settle()


async def test_the_same_problem_is_told_once_until_it_is_over(house: House) -> None:
    house.vault.set("TOKEN", "abcdefghijkl")
    house.declare(spec("one", env=[{"name": "T", "value": "secret:TOKEN"}]))
    await house.settle()

    async def fail() -> None:
        house.vault.delete("TOKEN")
        house.engine.end(house.running()[0].id, 1)
        house.clock.now += 30
        for _ in range(10):
            with suppress(Conflict):
                await house.controller.reconcile(house.row.uid)
            house.clock.now += 1
            await asyncio.sleep(0.005)

    await fail()
    assert house.reasons.count("Problem") == 1
    assert "no secret named 'TOKEN'" in house.row.message
    house.vault.set("TOKEN", "abcdefghijkl")
    await house.settle()
    await fail()
    assert house.reasons.count("Problem") == 2


async def test_a_replica_with_newer_secrets_than_its_sisters_is_told_once(house: House) -> None:
    house.vault.set("TOKEN", "an-old-value")
    house.declare(spec("one", replicas=3, env=[{"name": "T", "value": "secret:TOKEN"}]))
    await house.settle()
    house.engine.end(house.running()[0].id, 1)
    await house.settle()
    assert "SecretsDiffer" not in house.reasons
    house.vault.set("TOKEN", "a-newer-value")
    for _ in range(2):
        house.engine.end(house.running()[0].id, 1)
        await house.settle()
    (event,) = [event for event in house.events if event.reason == "SecretsDiffer"]
    assert "appliance deployment restart web" in event.message
    assert "value" not in event.message.replace("as they", "")
    with house.db.write() as db:
        revisions.restart(db, house.row, source="cli", now=house.clock())
    await house.settle()
    assert house.reasons.count("SecretsDiffer") == 1


async def test_a_restarted_daemon_adopts_replicas_and_they_go_on_serving(house: House) -> None:
    house.declare(spec("one"))
    row = await house.settle()
    before, served = dict(house.engine.containers), house.served
    await house.controller.close()
    house.router.history.clear()
    house.engine.exit_codes["one"] = 1
    house.controller = house.another()
    await house.controller.reconcile(row.uid)
    assert house.served == served
    assert house.row.phase == "Ready"
    assert house.engine.containers == before
    house.clock.now += 10
    await house.until(lambda: not house.served)
    assert house.row.phase == "Degraded"


async def test_a_liveness_failure_restarts_the_replica_with_a_pause_and_a_count(house: House) -> None:
    live = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2}
    house.declare(spec("one", replicas=1, healthChecks={**READY, "liveness": live}))
    await house.settle()
    (first,) = house.running()
    house.engine.exit_codes["one"] = 1
    await house.until(lambda: not house.running())
    assert "its liveness probe failed 2 times" in house.row.message
    assert "Unhealthy" in house.reasons
    assert first.id in house.engine.stopped
    house.engine.exit_codes["one"] = 0
    row = await house.settle()
    assert row.status["replicas"][0]["restarts"] == 1
    assert [one.name[-6:] for one in house.running()] == ["-1-0-1"]


async def test_models_are_pinned_for_the_life_of_a_revision(house: House) -> None:
    house.datasets.create("weights")

    async def register() -> str:
        version = await house.datasets.commit(await house.datasets.begin("weights"))
        return house.models.register("net", "Custom", version).id

    house.declare(spec("one", replicas=1, models=[{"id": "net", "path": "/opt/net"}]))
    row = await house.until(lambda: "net" in house.row.message)
    assert row.phase == "Failed"
    await register()
    await house.settle()
    first = house.engine.specs[house.running()[0].id].mounts[0]
    assert (first.target, first.read_only) == ("/opt/net", True)
    await register()
    house.declare(spec("one", replicas=2, models=[{"id": "net", "path": "/opt/net"}]))
    await house.settle()
    assert {house.engine.specs[one.id].mounts[0].source for one in house.running()} == {first.source}
    house.declare(spec("two", replicas=2, models=[{"id": "net", "path": "/opt/net"}]))
    await house.settle()
    assert first.source not in {house.engine.specs[one.id].mounts[0].source for one in house.running()}


async def test_a_model_that_serves_cannot_be_deleted_and_its_version_cannot_vanish(house: House) -> None:
    house.datasets.create("weights")
    version = await house.datasets.commit(await house.datasets.begin("weights"))
    model = house.models.register("net", "Custom", version)
    house.declare(spec("one", replicas=1, models=[{"id": "net", "path": "/opt/net"}]))
    row = await house.settle()
    with pytest.raises(Conflict, match=f"deployment {row.name}"):
        house.models.delete(model.id)
    with pytest.raises(Conflict, match=f"deployment {row.name}"):
        await house.datasets.remove(version)
    with house.db.write() as db:
        resources.set_desired(db, row.uid, "stopped", now=house.clock())
    await house.run("Disabled")
    house.models.delete(model.id)
    await house.datasets.remove(version)


async def test_secrets_reach_the_container_and_nothing_else(house: House) -> None:
    document = spec("one", replicas=1, env=[{"name": "K", "value": "secret:KEY"}])
    house.declare(document)
    row = await house.until(lambda: "KEY" in house.row.message)
    assert row.phase == "Failed"
    house.vault.set("KEY", "hunter2-long")
    row = await house.settle()
    assert house.engine.specs[house.running()[0].id].env["K"] == "hunter2-long"
    assert "hunter2" not in str(row.status)


async def test_an_image_that_was_removed_is_found_again(house: House) -> None:
    house.declare(spec("one", replicas=1))
    await house.settle()
    house.engine.missing_images.add("one")
    house.engine.end(house.running()[0].id, 1)
    house.images.gate.clear()
    await house.until(lambda: "pulling one" in house.row.message)
    house.engine.missing_images.clear()
    house.images.gate.set()
    await house.settle()


async def test_a_kill_between_create_and_start_is_healed(house: House) -> None:
    house.declare(spec("one"))
    start = house.engine.start

    async def killed(container_id: str) -> None:
        raise KeyboardInterrupt

    house.engine.start = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        await house.until(lambda: False)
    house.engine.start = start  # type: ignore[method-assign]
    await house.controller.close()
    house.controller = house.another()
    await house.settle()
    assert len(house.engine.containers) == 2


async def test_who_may_call_is_frozen_when_a_revision_begins(house: House) -> None:
    house.vault.set("PW", "hunter2-long")
    document = {
        "apiVersion": "v1",
        "image": "one",
        "basicAuthKey": "secret:PW",
        "resources": {"machineType": "C4", "ports": [8000], "replicas": 1},
        "healthChecks": READY,
    }
    house.declare(document)
    await house.settle()
    header = "Basic " + base64.b64encode(b"paperspace:hunter2-long").decode()
    access = house.router.routes["/deployments/web"].access
    assert access == Access("basic", frozenset({hashlib.sha256(header.encode()).hexdigest().upper()}))
    assert "hunter2" not in str(house.row.status)
    before = house.running()
    house.vault.set("PW", "another-long")
    await house.controller.close()
    house.controller = house.another()
    await house.settle()
    assert house.router.routes["/deployments/web"].access == access, "an apply takes it over, nothing else does"
    house.declare({**document, "region": "ny2"})
    await house.until(lambda: house.router.routes["/deployments/web"].access != access)
    await house.settle()
    assert house.running() == before


async def test_a_start_that_the_engine_refuses_is_told_and_tried_again(house: House) -> None:
    house.engine.refuse_start = "exec: no such file"
    house.declare(spec("one", replicas=1))
    row = await house.until(lambda: "no such file" in house.row.message)
    assert "restart 1 in 1 s" in row.message
    house.engine.refuse_start = ""
    await house.settle()
    assert len(house.engine.containers) == 1


async def test_stop_and_start_again_before_the_old_replicas_have_left(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    old = house.running()
    house.router.gate.clear()
    for desired in ("stopped", "running"):
        with house.db.write() as db:
            resources.set_desired(db, house.row.uid, desired, now=house.clock())
        await house.controller.reconcile(house.row.uid)
    row = await house.run("Ready")
    assert len(house.served) == 2
    assert not house.served & short(old)
    assert row.status["generation_ready"] == row.generation == 1
    house.router.gate.set()
    await house.settle()
    house.clock.now += 1000
    with house.db.write() as db:
        resources.set_desired(db, house.row.uid, "stopped", now=house.clock())
    await house.run("Disabled")
    with house.db.write() as db:
        resources.set_desired(db, house.row.uid, "running", now=house.clock())
    row = await house.run("Starting", "Preparing", "Failed", "Degraded")
    assert row.phase in ("Starting", "Preparing")
    await house.settle()


async def test_nothing_said_of_a_generation_is_left_over_from_the_one_before(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    told: list[tuple[int, str]] = []
    set_status = resources.set_status

    def record(*arguments: Any, **more: Any) -> bool:
        told.append((more["generation"], more["phase"]))
        return set_status(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "set_status", record)
        house.declare(spec("two"))
        await house.settle()
        assert next(phase for generation, phase in told if generation == 2) == "Updating"
        house.declare({"image": 7})
        with pytest.raises(SpecError):
            await house.controller.reconcile(house.row.uid)
        assert told[-1] == (3, "Degraded")


async def test_while_the_front_door_is_down_nobody_leaves_and_replicas_are_healed(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    old = house.running("one")
    house.router.down = True
    house.declare(spec("two"))
    row = await house.until(lambda: "front door" in house.row.message)
    assert row.phase == "Degraded"
    assert house.running("one") == old
    house.engine.end(house.running("two")[0].id, 1)
    await house.until(lambda: len(house.running("two")) == 2)
    assert house.running("one") == old
    house.router.down = False
    await house.settle()
    assert house.served == short(house.running("two"))


async def test_a_kill_at_any_instant_of_an_update_is_healed_by_the_next_daemon(house: House) -> None:
    """Another revision over one that serves; killed once, at every instant in turn, while nobody stops serving."""
    rooms: tuple[tuple[object, tuple[str, ...]], ...] = (
        (house.engine, ("create", "start", "stop", "remove")),
        (house.router, ("set_route", "drain")),
        (house.telemetry, ("drain",)),
    )
    house.declare(spec("image-0"))
    await house.settle()
    for instant in range(200):
        mortality = Mortality(instant)
        for room, names in rooms:
            mortality.watch(room, *names)
        house.router.history.clear()
        image = f"image-{instant + 1}"
        house.declare(spec(image))
        survived = False

        def over(mortality: Mortality = mortality, image: str = image) -> bool:
            return mortality.dead or (len(house.engine.containers) == 2 == len(house.running(image)))

        try:
            await house.until(over)
            survived = not mortality.dead
        except Killed:
            pass
        await house.controller.close()
        for room, names in rooms:
            for name in names:
                delattr(room, name)
        house.controller = house.another()
        await house.settle()
        assert house.served == short(house.running(image))
        assert len(house.engine.containers) == 2
        assert all(targets for _, targets in house.router.history), "nobody served for a moment"
        if survived:
            assert instant > 20
            return
    raise AssertionError("the update never ended")
