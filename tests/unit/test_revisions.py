"""The rows of a deployment's revisions: which replicas a spec goes on with, and where a rollback leads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import revisions
from appliance.errors import Conflict, NotFound, SpecError, UsageError
from appliance.spec.load import Loaded
from appliance.spec.models import Deployment
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


def test_a_rollback_after_an_undoing_declares_what_serves_with_as_many_replicas(db: Database) -> None:
    serve(db, declare(db, document("one")), "sha:one")
    serve(db, declare(db, document("two", replicas=3)), "sha:two")
    bad = declare(db, document("bad", replicas=1))
    rollouts.set_phase(db.read, bad.uid, 3, "Undone", now=4.0)
    found = revisions.roll_back(db.read, resources.get(db.read, "deployment", "web"), None, source="cli", now=5.0)
    back = row(db, found.generation)
    assert (back.copies, back.digest, found.spec) == (2, row(db, 2).digest, document("two", replicas=3))
    serve(db, back, "sha:two")
    further = revisions.roll_back(db.read, found, None, source="cli", now=6.0)
    assert row(db, further.generation).copies == 1, "once more goes further"


def test_a_rollback_of_what_is_under_way_leads_to_what_serves(db: Database) -> None:
    serve(db, declare(db, document("one")), "sha:one")
    serve(db, declare(db, document("two")), "sha:two")
    declare(db, document("three"))
    found = revisions.roll_back(db.read, resources.get(db.read, "deployment", "web"), None, source="cli", now=5.0)
    assert row(db, found.generation).copies == 2


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


def web(db: Database) -> resources.Resource:
    return resources.get(db.read, "deployment", "web")


def test_to_scale_is_a_generation_that_replaces_nothing(db: Database) -> None:
    serve(db, first := declare(db, document(replicas=1)), "sha:one")
    found = revisions.scale(db.read, web(db), 3, source="cli", now=5.0)
    scaled = row(db, found.generation)
    assert (found.generation, found.spec) == (2, document(replicas=3))
    assert (scaled.cause, scaled.digest, scaled.pin) == ("scaled", first.digest, {"image": "sha:one", "models": {}})
    assert revisions.scale(db.read, web(db), 3, source="cli", now=6.0).generation == 2, "asked again, it is no other"


def test_a_scale_beyond_the_bounds_is_refused(db: Database) -> None:
    scaling = {
        "enabled": True,
        "maxReplicas": 4,
        "metrics": [{"metric": "cpu", "summary": "average", "value": 50}],
    }
    spec = document()
    spec["resources"]["autoscaling"] = scaling
    serve(db, declare(db, spec), "sha:one")
    with pytest.raises(UsageError, match="more than its autoscaling allows, 4"):
        revisions.scale(db.read, web(db), 5, source="cli", now=5.0)
    with pytest.raises(UsageError, match="-1 is not a number"):
        revisions.scale(db.read, web(db), -1, source="cli", now=5.0)
    assert web(db).generation == 1
    assert revisions.scale(db.read, web(db), 4, source="cli", now=5.0).spec["resources"]["autoscaling"] == scaling


def test_what_was_undone_is_not_begun_again_by_a_scale(db: Database) -> None:
    serve(db, declare(db, document("one")), "sha:one")
    bad = declare(db, document("bad"))
    rollouts.set_phase(db.read, bad.uid, 2, "Undone", now=4.0)
    with pytest.raises(Conflict, match="generation 2 was undone") as caught:
        revisions.scale(db.read, web(db), 3, source="cli", now=5.0)
    assert "rollback web --to 1" in caught.value.hint
    revisions.roll_back(db.read, web(db), 1, source="cli", now=5.0)
    assert revisions.scale(db.read, web(db), 3, source="cli", now=6.0).spec == document("one", replicas=3)


def test_a_rollback_to_a_model_that_is_gone_is_refused(db: Database) -> None:
    serve(db, first := declare(db, document("one")), "sha:one")
    pin = {"image": "sha:one", "models": {"/opt/models": "mo123"}}
    rollouts.set_pin(db.read, first.uid, 1, pin, began=2.0)
    serve(db, declare(db, document("two")), "sha:two")
    with pytest.raises(Conflict, match="the model mo123, which is gone"):
        revisions.roll_back(db.read, web(db), 1, source="cli", now=5.0)
    assert web(db).generation == 2


def test_the_history_tells_what_each_revision_was(db: Database) -> None:
    serve(db, declare(db, document("one")), "sha:one")
    serve(db, declare(db, document("two")), "sha:two")
    revisions.roll_back(db.read, web(db), None, source="tui", now=5.0)
    told = revisions.history(db.read, web(db))
    assert [(one.generation, one.cause, one.copies, one.phase) for one in told] == [
        (3, "rolled back", 1, "Waiting"),
        (2, "applied", None, "Serving"),
        (1, "applied", None, "Superseded"),
    ]
    assert [(one.image, one.image_id, one.serving) for one in told] == [
        ("one", "sha:one", False),
        ("two", "sha:two", True),
        ("one", "sha:one", False),
    ]
    assert told[2].ready == 3.0


def test_the_difference_is_in_lines_image_and_models(db: Database) -> None:
    serve(db, declare(db, document("one", replicas=1)), "sha:one")
    second = declare(db, document("two", replicas=1))
    pin = {"image": "sha:two", "models": {"/opt/models": "mo2"}}
    rollouts.set_pin(db.read, second.uid, 2, pin, began=2.0)
    found = revisions.diff(db.read, web(db), 1, 2)
    assert "-image: one" in found.spec
    assert "+image: two" in found.spec
    assert (found.image, found.models) == (("sha:one", "sha:two"), {"/opt/models": ("", "mo2")})
    same = revisions.diff(db.read, web(db), 2, 2)
    assert (same.spec, same.image, same.models) == ((), None, {})
    with pytest.raises(NotFound, match="no generation 7"):
        revisions.diff(db.read, web(db), 1, 7)


def test_a_changed_line_of_a_script_is_one_changed_line(db: Database) -> None:
    script, long = "set -e\n\techo start  \npython serve.py", " word" * 40
    declare(db, document(env=[{"name": "A", "value": f"one{long}"}], command=["sh", "-c", script]))
    faster = script.replace("serve.py", "serve.py --fast")
    declare(db, document(env=[{"name": "A", "value": f"two{long}"}], command=["sh", "-c", faster]))
    lines = revisions.diff(db.read, web(db), 1, 2).spec
    changed = [line for line in lines[2:] if line[0] in "+-"]
    assert changed == [
        f"-  value: one{long}",
        f"+  value: two{long}",
        "-  python serve.py",
        "+  python serve.py --fast",
    ]


@pytest.mark.parametrize("hidden", ["\r\n", "\x1b[2J\n", "\u2028\n", "\x85\n"])
def test_a_character_that_is_not_seen_is_written_out(db: Database, hidden: str) -> None:
    declare(db, document(env=[{"name": "A", "value": "a\n"}]))
    declare(db, document(env=[{"name": "A", "value": f"a{hidden}"}]))
    lines = revisions.diff(db.read, web(db), 1, 2).spec
    added = [line for line in lines[2:] if line.startswith("+")]
    assert len(added) == 1
    assert added[0].isprintable()
    assert "\\" in added[0]


def test_only_so_many_revisions_are_kept_and_those_one_may_need(db: Database) -> None:
    serve(db, declare(db, document("served-long-ago")), "sha:0")
    for number in range(12):
        serve(db, declare(db, document(f"served-{number}")), f"sha:{number}")
    for number in range(20):
        bad = declare(db, document(f"bad-{number}"))
        rollouts.set_phase(db.read, bad.uid, bad.generation, "Undone", now=4.0)
    uid = web(db).uid
    revisions.forget_old(db.read, uid, 5)
    left = [one.generation for one in resources.revisions(db.read, uid)]
    assert left == [row.generation for row in rollouts.every(db.read, uid)]
    assert left[:5] == [33, 32, 31, 30, 29], "the newest"
    assert left[5:] == list(range(13, 3, -1)), "and the last ten that have served"
    revisions.forget_old(db.read, uid, 1)
    assert web(db).generation == 33
    revisions.roll_back(db.read, web(db), None, source="cli", now=9.0)


def told(db: Database, spec: dict[str, Any]) -> revisions.Preview:
    return revisions.preview(db.read, Loaded("deployment", "web", spec, parsed(spec), 1, ()))


def parsed(spec: dict[str, Any]) -> Deployment:
    return revisions.parse_spec("web", spec)


def test_a_preview_tells_what_would_happen_and_does_nothing(db: Database) -> None:
    assert told(db, document("one")).plan == ("web: generation 1 begins with 1 replica: image one",)
    serve(db, declare(db, document("one")), "sha:one")
    assert told(db, document("one")).plan == ("web: nothing changes; generation 1 stays",)
    assert told(db, document("one", replicas=3)).plan == (
        "web: generation 2 replaces no replica",
        "web: 1 -> 3 replicas",
    )
    first, second = told(db, document("two", rollout={"strategy": "surge"})).plan
    assert first == "web: generation 2 replaces 1: image one -> two; other rollout"
    assert "the new replicas are made beside the old ones, 1 beside 1" in second
    (_, swap) = told(db, document("two", rollout={"strategy": "swap", "hold": 90})).plan
    assert "the old replicas stop first; requests wait up to 90 s" in swap
    assert told(db, document("two", enabled=False)).plan == ("web: generation 2 stops all replicas",)
    assert web(db).generation == 1
    resources.set_desired(db.read, web(db).uid, "stopped", now=4.0)
    assert "nothing runs until `appliance deployment start web`" in told(db, document("two")).plan[-1]
    bad = declare(db, document("bad"))
    rollouts.set_phase(db.read, bad.uid, 2, "Undone", now=4.0)
    (unchanged,) = told(db, document("bad")).plan
    assert "generation 2 was undone" in unchanged
    assert "restart web" in unchanged


def test_a_preview_tells_what_is_missing(db: Database) -> None:
    needs = document(env=[{"name": "K", "value": "secret:KEY"}], models=[{"id": "net"}])
    secret, model = told(db, needs).missing
    assert secret == "no secret named 'KEY'; `appliance secret set KEY` asks for the value"
    assert model.startswith("no model 'net'")
    assert told(db, needs).sentences[-1] == f"missing: {model}"


def back(db: Database) -> Rollout:
    found = revisions.roll_back(db.read, resources.get(db.read, "deployment", "web"), None, source="cli", now=5.0)
    return row(db, found.generation)


def every(db: Database) -> list[Rollout]:
    return list(rollouts.every(db.read, resources.get(db.read, "deployment", "web").uid))


def test_where_a_rollback_leads_is_held_after_a_scale_too(db: Database) -> None:
    serve(db, declare(db, document("one")), "sha:one")
    serve(db, declare(db, document("two")), "sha:two")
    revisions.scale(db.read, resources.get(db.read, "deployment", "web"), 3, source="cli", now=4.0)
    serve(db, row(db, 3), "sha:two")
    assert [one.generation for one in rollouts.held(every(db))] == [3, 1]
    assert back(db).copies == 1


def test_a_rollback_of_what_is_stopped_leads_to_the_one_before_it(db: Database) -> None:
    serve(db, declare(db, document("one")), "sha:one")
    serve(db, second := declare(db, document("two")), "sha:two")
    rollouts.set_phase(db.read, second.uid, 2, "Waiting", now=4.0)
    rollouts.rest(db.read, second.uid, 2)
    assert back(db).copies == 1


def test_a_rollback_leads_to_nothing_that_was_switched_off(db: Database) -> None:
    serve(db, declare(db, document("one")), "sha:one")
    serve(db, declare(db, document("one", enabled=False)), "sha:one")
    off = declare(db, document("never", enabled=False))
    rollouts.set_phase(db.read, off.uid, 3, "Serving", now=3.0)
    serve(db, declare(db, document("two")), "sha:two")
    assert back(db).copies == 1
    assert "enabled" not in resources.get(db.read, "deployment", "web").spec


def test_a_rollback_keeps_who_may_call(db: Database) -> None:
    def asking(image: str, **more: Any) -> dict[str, Any]:
        inside = {"machineType": "C4", "replicas": 1, "ports": [80]}
        return {"apiVersion": "v1", "image": image, "resources": inside, **more}

    serve(db, declare(db, asking("one", endpoint={"rate": "100/10s"})), "sha:one")
    serve(db, declare(db, asking("two", endpoint={"keys": ["secret:NEW"]})), "sha:two")
    assert back(db).copies == 1
    spec = resources.get(db.read, "deployment", "web").spec
    assert spec["endpoint"] == {"rate": "100/10s", "keys": ["secret:NEW"]}
    serve(db, row(db, 3), "sha:one")
    serve(db, declare(db, asking("three", basicAuthKey="secret:PASS")), "sha:three")
    assert back(db).copies == 3
    spec = resources.get(db.read, "deployment", "web").spec
    assert spec["endpoint"] == {"rate": "100/10s"}
    assert (spec["image"], spec["basicAuthKey"]) == ("one", "secret:PASS")
    rollouts.set_phase(db.read, row(db, 5).uid, 5, "Superseded", now=6.0)
    serve(db, declare(db, asking("four")), "sha:four")
    assert back(db).copies == 4
    assert "basicAuthKey" not in resources.get(db.read, "deployment", "web").spec


def test_a_rollback_that_could_not_ask_for_the_password_of_now_is_refused(db: Database) -> None:
    serve(db, declare(db, document("one")), "sha:one")
    inside = {"machineType": "C4", "replicas": 1, "ports": [80]}
    two = {"apiVersion": "v1", "image": "two", "resources": inside, "basicAuthKey": "secret:PASS"}
    serve(db, declare(db, two), "sha:two")
    with pytest.raises(SpecError, match="basicAuthKey"):
        back(db)
    assert resources.get(db.read, "deployment", "web").generation == 2


def test_what_an_earlier_version_made_without_its_content_is_not_gone_on_with(db: Database) -> None:
    inside = {"machineType": "C4", "replicas": 1, "ports": [80]}
    kept = [{"type": "volume", "name": "kept"}]
    asked = {"apiVersion": "v1", "image": "one", "resources": inside, "integrations": kept}
    serve(db, first := declare(db, asked), "sha:one")
    second = declare(db, {**asked, "resources": {**inside, "replicas": 3}})
    assert second.digest != first.digest
    assert second.pin is None
