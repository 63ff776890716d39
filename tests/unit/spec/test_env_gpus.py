"""Which GPUs a container sees is not said by variables."""

from __future__ import annotations

import pytest

from appliance.errors import SpecError
from appliance.spec.env import CUDA_VARIABLE, LEASE_VARIABLES
from appliance.spec.load import parse
from appliance.spec.models import Notebook, Workflow
from tests.unit.spec.conftest import Load, Wrong

NOTEBOOK = "kind: notebook\nname: a\nenv:\n  A: b\n  {name}: {value}\n"
OLD_DEPLOYMENT = "image: x\nport: 80\nenv:\n  - name: {name}\n    value: {value}\n"
OWN_DEPLOYMENT = "kind: deployment\nname: a\nimage: x\nenv:\n  {name}: {value}\n"
JOB = "uses: script@v1\n    with: {image: i, script: 'true'}"
WORKFLOW = "jobs:\n  a:\n    {job}\n    env:\n      {name}: {value}\n"
DEFAULTS = "defaults:\n  env:\n    {name}: {value}\njobs:\n  a:\n    {job}\n"


@pytest.mark.parametrize("name", sorted(LEASE_VARIABLES))
@pytest.mark.parametrize(
    ("text", "line", "path"),
    [(NOTEBOOK, 5, "env.{name}"), (OLD_DEPLOYMENT, 4, "env[0].name"), (OWN_DEPLOYMENT, 5, "env.{name}")],
)
@pytest.mark.parametrize("value", ["all", "secret:WHICH"])
def test_our_kinds_refuse_them_at_their_place(
    wrong: Wrong, name: str, text: str, line: int, path: str, value: str
) -> None:
    (found,) = wrong(text.replace("{name}", name).replace("{value}", value))
    assert (found.line, found.path) == (line, path.replace("{name}", name))
    assert "not yours to set" in found.message
    assert "machine" in found.hint


@pytest.mark.parametrize("name", sorted(LEASE_VARIABLES - {CUDA_VARIABLE}))
@pytest.mark.parametrize("text", [WORKFLOW, DEFAULTS])
def test_a_workflow_does_not_talk_to_the_runtime(wrong: Wrong, name: str, text: str) -> None:
    (found,) = wrong(text.replace("{job}", JOB).replace("{name}", name).replace("{value}", "all"))
    assert found.path.endswith(f"env.{name}")
    assert found.line > 1


@pytest.mark.parametrize("text", [WORKFLOW, DEFAULTS])
def test_a_workflow_that_chooses_cards_by_number_is_valid_and_told(load: Load, text: str) -> None:
    loaded = load(text.replace("{job}", JOB).replace("{name}", CUDA_VARIABLE).replace("{value}", '"0"'))
    assert isinstance(loaded.spec, Workflow)
    assert loaded.spec.jobs["a"].env == {}
    (warning,) = loaded.warnings
    assert warning.path.endswith(f"env.{CUDA_VARIABLE}")
    assert warning.line > 1
    assert "left out" in warning.message
    assert parse("workflow", "thing", loaded.document) == loaded.spec


def test_its_value_is_checked_all_the_same(wrong: Wrong) -> None:
    (found,) = wrong(WORKFLOW.replace("{job}", JOB).replace("{name}", CUDA_VARIABLE).replace("{value}", "0"))
    assert "not the number" in found.message


def test_a_matrix_is_ours_and_has_none_of_them(wrong: Wrong) -> None:
    for name in LEASE_VARIABLES:
        text = f"jobs:\n  a:\n    {JOB}\n    strategy: {{matrix: {{{name}: ['0', '1']}}}}\n"
        assert any("not yours to set" in found.message for found in wrong(text)), name


@pytest.mark.parametrize("name", ["MY_CUDA_VISIBLE_DEVICES", "NVIDIA_REQUIRE_CUDA", "CUDA_DEVICE_ORDER"])
def test_their_neighbours_are_anybodys(load: Load, name: str) -> None:
    spec = load(NOTEBOOK.replace("{name}", name).replace("{value}", "x")).spec
    assert isinstance(spec, Notebook)
    assert spec.env == {"A": "b", name: "x"}


def test_a_stored_document_of_before_goes_on_unchanged() -> None:
    """What it is made from stays the same, or its session would be begun again by an upgrade."""
    stored = {"kind": "notebook", "name": "a", "env": {CUDA_VARIABLE: "1", "NVIDIA_VISIBLE_DEVICES": "all"}}
    spec = parse("notebook", "a", stored)
    assert isinstance(spec, Notebook)
    assert set(spec.env) == {CUDA_VARIABLE, "NVIDIA_VISIBLE_DEVICES"}
    with pytest.raises(SpecError):
        parse("notebook", "a", {**stored, "env": {"1A": "x"}})
