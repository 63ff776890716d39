"""Inputs of runs and jobs, in every form users write them."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.errors import NotFound, UsageError
from appliance.spec.models import Alias, Job, ScriptAction, Value, Workflow
from appliance.workflows.inputs import job_inputs, leaves, pinned, run_inputs, sources

WORKFLOW = Workflow(
    name="flow",
    inputs={
        "data": Value(type="dataset"),
        "greeting": Value(type="string", value="hello"),
        "extra": Value(type="dataset", optional=True),
    },
)
DATA = {"type": "dataset", "ref": "digits:v1"}


@pytest.mark.parametrize(
    "given",
    [
        {"ref": "digits:v1"},
        {"id": "digits:v1"},
        {"type": "dataset", "with": {"ref": "digits:v1"}},
        {"type": "dataset", "optional": False, "with": {"id": "digits:v1"}},
        "digits:v1",
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_dataset_is_given_in_any_form(given: object, wrapped: bool) -> None:
    found = run_inputs(WORKFLOW, {"inputs": {"data": given}} if wrapped else {"data": given})
    assert found == {"data": DATA, "greeting": {"type": "string", "value": "hello"}}


@pytest.mark.parametrize(
    "given", [{"value": ""}, {"type": "string", "with": {"value": ""}}, {"with": {"value": ""}}, ""]
)
def test_a_string_may_be_empty(given: object) -> None:
    assert run_inputs(WORKFLOW, {"data": "d", "greeting": given})["greeting"] == {"type": "string", "value": ""}


def test_everything_wrong_is_named_at_once() -> None:
    workflow = Workflow(name="flow", inputs={"data": Value(type="dataset"), "other": Value(type="string")})
    with pytest.raises(UsageError) as caught:
        run_inputs(workflow, {"dta": {"ref": "x"}})
    for word in ("'dta'", "did you mean 'data'", "inputs data, other"):
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (3, "a number"),
        (None, "null"),
        ({"value": True}, "a boolean"),
        ({"ref": "digits"}, "'value'"),
        ({"value": "x", "other": 1}, "'value'"),
        ({"type": "dataset", "with": {"ref": "d"}}, "type string"),
        ([], "a list"),
    ],
)
def test_a_value_of_the_wrong_kind_says_so(value: object, word: str) -> None:
    with pytest.raises(UsageError, match="greeting") as caught:
        run_inputs(WORKFLOW, {"data": "d", "greeting": value})
    assert word in caught.value.message


def resolve(ref: str) -> str:
    if ref.startswith("empty"):
        raise NotFound(f"dataset {ref!r} has no committed version", hint="write one")
    name, _, version = ref.partition(":")
    return f"{name}:{version or 'v9'}"


def test_a_run_pins_what_exists_and_leaves_the_rest_for_later() -> None:
    found = pinned({"a": {"type": "dataset", "ref": "digits"}, "b": {"type": "dataset", "ref": "empty"}}, resolve)
    assert found["a"]["id"] == "digits:v9"
    assert "id" not in found["b"]
    assert pinned(found, lambda ref: "changed:x")["a"]["id"] == "digits:v9"


def job(**inputs: Alias | Value) -> Job:
    return Job(action=ScriptAction(image="i", script="s"), inputs=dict(inputs))


def test_a_job_gets_what_its_aliases_mean() -> None:
    declared = job(
        mine=Alias(name="data"),
        none=Alias(name="extra"),
        theirs=Alias(job="train", name="model"),
        inline=Value(type="dataset", ref="digits"),
        text=Value(type="string", value="x"),
    )
    outputs: dict[str, dict[str, Any]] = {"train": {"model": {"type": "volume", "job": "train", "output": "model"}}}
    found = job_inputs(declared, {"data": {**DATA, "id": "digits:v1"}}, outputs, resolve)
    assert found == {
        "mine": {**DATA, "id": "digits:v1"},
        "theirs": {"type": "volume", "job": "train", "output": "model"},
        "inline": {"type": "dataset", "ref": "digits", "id": "digits:v9"},
        "text": {"type": "string", "value": "x"},
    }


def test_a_missing_version_names_the_input() -> None:
    with pytest.raises(NotFound, match="input 'x': dataset 'empty'"):
        job_inputs(job(x=Value(type="dataset", ref="empty")), {}, {}, resolve)


def test_the_outputs_of_a_matrix_are_given_side_by_side() -> None:
    outputs = {name: {"loss": {"type": "string", "value": name}} for name in ("train-1", "train-2", "other")}
    declared = job(all=Alias(job="train", name="loss", gather=("train-1", "train-2")))
    found = job_inputs(declared, {}, outputs, resolve)
    assert found == {
        "all": {"type": "many", "of": {name: outputs[name]["loss"] for name in ("train-1", "train-2")}},
    }
    assert list(leaves(found)) == list(found["all"]["of"].values())
    assert sources(declared) == {"train-1", "train-2"}
    with pytest.raises(UsageError, match="job 'train-2' has made no output 'loss'"):
        job_inputs(declared, {}, {**outputs, "train-2": {}}, resolve)


def test_a_volume_without_an_alias_is_shared_by_its_name() -> None:
    assert job_inputs(job(repo=Value(type="volume")), {}, {}, resolve) == {"repo": {"type": "shared", "name": "repo"}}


def test_what_is_pinned_is_given_whatever_the_spec_says() -> None:
    pins = {"x": {**DATA, "id": "digits:v1"}, "y": {"type": "string", "value": "then"}, "gone": DATA}
    declared = job(x=Value(type="dataset", ref="empty"), y=Alias(job="train", name="word"))
    assert job_inputs(declared, {}, {}, resolve, pins) == {"x": pins["x"], "y": pins["y"]}


def test_an_output_that_was_never_made_is_an_error() -> None:
    with pytest.raises(UsageError, match="has made no output 'model'"):
        job_inputs(job(x=Alias(job="train", name="model")), {}, {"train": {}}, resolve)
