"""What the daemon does itself: models registered once, deployments applied once, waited for, and refused in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.errors import Conflict, NotFound, UsageError
from appliance.spec.models import CreateModelAction, DeployAction
from appliance.state import resources
from appliance.state.resources import Resource
from appliance.state.versions import Version
from appliance.workflows.steps import hosted
from appliance.workflows.steps.deploying import document_of, judge
from tests.unit.workflows.desk import DEPLOY, SPEC, Desk

pytestmark = pytest.mark.anyio


def dataset(version: Version, name: str = "weights") -> dict[str, str]:
    return {"type": "dataset", "ref": name, "id": f"{name}:{version.version}"}


# create-model@v1


async def test_a_model_is_registered_once(desk: Desk) -> None:
    job = desk.job(CreateModelAction(name="digits", type="ONNX"))
    given = dataset(await desk.version())
    first, second = [await desk.act(job, model=given) for _ in range(2)]
    assert isinstance(first, hosted.Done)
    assert first == second
    (model,) = desk.models.every()
    assert first.outputs == {"model-id": {"type": "string", "value": model.id}}
    assert (model.name, model.type, model.run) == ("digits", "ONNX", job[0].id)


@pytest.mark.parametrize("given", [{}, {"model": {"type": "string", "value": "x"}}, {"other": {"type": "dataset"}}])
async def test_a_model_is_made_of_a_dataset_called_model(desk: Desk, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="input `model`"):
        await desk.act(desk.job(CreateModelAction(name="digits", type="Custom")), **given)


# deploy@v1


async def test_a_deployment_is_made_once_and_waited_for(desk: Desk) -> None:
    model = desk.models.register("digits", "Custom", await desk.version())
    job = desk.job(DEPLOY)
    given = {"type": "string", "value": f"{model.id}\n"}
    assert await desk.act(job, model=given) == "deployment web is created"
    assert desk.web().spec["models"] == [{"id": model.id, "path": "/opt/models"}]
    assert desk.hints == [("deployment", desk.web().uid)]
    assert await desk.act(job, model=given) == "generation 1: the controller has not looked at it yet"
    desk.observe("Starting", "1 of 2 replicas ready; replica 1-1: loading")
    assert await desk.act(job, model=given) == "generation 1: 1 of 2 replicas ready; replica 1-1: loading"
    desk.observe("Ready", "2 of 2 replicas ready", generation_ready=1)
    done = await desk.act(job, model=given)
    assert done == hosted.Done({"endpoint": {"type": "string", "value": "/deployments/web/"}})
    assert (desk.web().generation, desk.web().source) == (1, "run:flow.1/act")


async def test_a_dataset_is_deployed_as_the_model_that_it_is_or_becomes(desk: Desk) -> None:
    known, unknown = await desk.version(), await desk.version()
    model = desk.models.register("digits", "ONNX", known)
    await desk.act(desk.job(DEPLOY), model=dataset(known))
    assert desk.web().spec["models"][0]["id"] == model.id
    job = desk.job(DEPLOY)
    await desk.act(job, model=dataset(unknown))
    made = desk.models.resolve(desk.web().spec["models"][0]["id"])
    assert (made.name, made.version, made.run) == ("web", unknown.version, job[0].id)
    assert desk.web().generation == 2


async def test_without_a_spec_the_deployment_there_is_gets_the_model(desk: Desk) -> None:
    model = desk.models.register("digits", "Custom", await desk.version())
    given = {"type": "string", "value": model.id}
    empty = DeployAction(name="web")
    with pytest.raises(NotFound, match="no `spec` to make one"):
        await desk.act(desk.job(empty), model=given)
    document = {**SPEC, "models": [{"id": "old", "path": "/srv/model"}]}
    with desk.db.write() as db:
        resources.put(db, "deployment", "web", document, source="cli", now=0.0)
    await desk.act(desk.job(empty), model=given)
    assert desk.web().spec == {**SPEC, "models": [{"id": model.id, "path": "/srv/model"}]}


async def test_what_is_not_overwritten(desk: Desk) -> None:
    with desk.db.write() as db:
        web, _ = resources.put(db, "deployment", "web", SPEC, source="file:web.yaml", now=0.0)
    changed = replace_spec(image="other")
    with pytest.raises(Conflict, match=r"web\.yaml in the watched folder"):
        await desk.act(desk.job(changed))
    with desk.db.write() as db:
        resources.set_source(db, web.uid, "cli")
        resources.set_desired(db, web.uid, "stopped", now=0.0)
    with pytest.raises(Conflict, match="stopped by hand"):
        await desk.act(desk.job(changed))
    assert (desk.web().generation, desk.web().spec) == (1, SPEC)
    assert desk.hints == []


def replace_spec(**fields: Any) -> DeployAction:
    return DeployAction(name="web", spec={**SPEC, **fields})


async def test_a_missing_model_and_a_volume_are_told(desk: Desk) -> None:
    with pytest.raises(NotFound, match="no model 'mo1'"):
        await desk.act(desk.job(DEPLOY), model={"type": "string", "value": "mo1"})
    with pytest.raises(UsageError, match="is a volume"):
        await desk.act(desk.job(DEPLOY), model={"type": "volume", "run": "r", "job": "j", "output": "o"})
    assert resources.find(desk.db.read, "deployment", "web") is None


async def test_a_second_deploy_while_the_first_waits_ends_the_first(desk: Desk) -> None:
    first = desk.job(DEPLOY)
    await desk.act(first)
    await desk.act(desk.job(replace_spec(image="other")))
    with pytest.raises(Conflict, match="generation 2 was applied before generation 1 was ready"):
        await desk.act(first)


# How it stands


def resource(**fields: Any) -> Resource:
    found = Resource("u", "deployment", "web", 3, {}, "cli", "running", False, 0.0, 0.0, "Updating", "waits", 3, {})
    return replace(found, **fields)


def verdict(found: Resource | None, waited: float = 10.0) -> str | None:
    return judge(found, 3, waited, DEPLOY, slow_after_s=300.0)


READY = {"generation_ready": 3}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"phase": "Ready", "status": READY}, None),
        ({"phase": "Disabled", "status": READY}, None),
        ({"phase": "Ready", "status": READY, "generation": 4}, None),
        ({"phase": "Degraded", "status": READY, "message": "the front door"}, "generation 3: the front door"),
        ({}, "generation 3: waits"),
        ({"phase": "Ready", "observed": 2, "status": {"generation_ready": 2}}, "generation 3: the controller has not"),
        ({"phase": "Failed", "observed": 2}, "generation 3: the controller has not"),
    ],
)
def test_ready_or_waiting(fields: dict[str, Any], expected: str | None) -> None:
    found = verdict(resource(**fields))
    assert found is None if expected is None else found is not None and found.startswith(expected)


@pytest.mark.parametrize(
    ("found", "waited", "words"),
    [
        (None, 1.0, "was deleted"),
        (resource(deleting=True), 1.0, "was deleted"),
        (resource(desired="stopped"), 1.0, "was stopped"),
        (resource(generation=4), 1.0, "generation 4 was applied"),
        (resource(phase="Failed", message="no such image"), 1.0, "generation 3 fails: no such image"),
        (resource(phase="Degraded", message="crash loop"), 1.0, "generation 3 fails: crash loop"),
        (resource(phase="Degraded", status={"undone": {"generation": 3}}), 400.0, "generation 3 fails: waits"),
        (resource(), 601.0, "not ready after 600 s: waits"),
        (resource(phase="Degraded", message="late"), 601.0, "not ready after 600 s: late"),
    ],
)
def test_when_it_will_not_be_ready(found: Resource | None, waited: float, words: str) -> None:
    with pytest.raises((Conflict, NotFound), match=words):
        verdict(found, waited)


def test_to_be_late_is_no_failure_before_the_job_says_so() -> None:
    """The controller calls a revision late after its own deadline, and goes on trying."""
    assert verdict(resource(phase="Degraded", message="late"), 400.0) == "generation 3: late"


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ({}, "/opt/models", {"models": [{"id": "mo", "path": "/opt/models"}]}),
        ({"models": [{"id": "a"}]}, "/opt/models", {"models": [{"id": "mo"}]}),
        ({"models": [{"id": "a", "path": "/x/"}]}, "/x", {"models": [{"id": "mo", "path": "/x/"}]}),
        (
            {"models": [{"id": "a", "path": "/x"}]},
            "/y",
            {"models": [{"id": "a", "path": "/x"}, {"id": "mo", "path": "/y"}]},
        ),
        (
            {"integrations": [{"type": "model", "name": "m", "id": "a"}, {"type": "volume", "name": "v"}]},
            "/opt/models",
            {"integrations": [{"type": "model", "name": "m", "id": "mo"}, {"type": "volume", "name": "v"}]},
        ),
        ({"name": "other"}, "/y", {"name": "web", "models": [{"id": "mo", "path": "/y"}]}),
    ],
)
def test_where_the_model_goes(base: dict[str, Any], path: str, expected: dict[str, Any]) -> None:
    before = str(base)
    assert document_of(DeployAction(name="web", path=path), base, "mo") == expected
    assert str(base) == before
