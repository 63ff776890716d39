"""`owner`, `priority` and `preemptible`, in every kind that may get a GPU."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.notebooks import making
from appliance.spec.digest import made_of
from appliance.spec.load import examine_text
from appliance.spec.models import Deployment, Job, Notebook, Workflow

TERMS = {"owner": "anna@example.org", "priority": -5, "preemptible": True}
JOB = "{uses: script@v1, with: {image: bash, script: ls}%s}"
WRITTEN = "owner: anna@example.org, priority: -5, preemptible: true"
LINES = WRITTEN.replace(", ", "\n")


def examine(text: str) -> Any:
    (found,) = examine_text(text, file="train.yaml")
    return found


def spec(text: str) -> Any:
    found = examine(text)
    assert not found.problems, found.problems
    return found.loaded.spec


def terms(model: Job | Deployment | Notebook) -> dict[str, Any]:
    return {"owner": model.owner, "priority": model.priority, "preemptible": model.preemptible}


def test_a_notebook_has_them() -> None:
    assert terms(spec(f"kind: notebook\nname: nb\n{LINES}")) == TERMS


def test_a_deployment_of_either_dialect_has_them() -> None:
    older = spec(f"image: web\nport: 80\nresources: {{instanceType: C4}}\n{LINES}")
    newer = spec(f"apiVersion: v1\nimage: web\nresources: {{machineType: C4, ports: [80]}}\n{LINES}")
    assert terms(older) == terms(newer) == TERMS
    assert older.extensions == ("owner", "preemptible", "priority")


def test_a_deployment_is_told_that_its_replicas_never_make_way() -> None:
    found = examine("image: web\nresources: {instanceType: C4}\npreemptible: true")
    assert [problem.path for problem in found.warnings] == ["preemptible"]
    assert not examine("image: web\nresources: {instanceType: C4}\npreemptible: false").warnings


def test_a_jobs_own_go_over_the_defaults() -> None:
    workflow = spec(
        f"defaults: {{{WRITTEN}}}\n"
        f"jobs:\n  a: {JOB % ''}\n  b: {JOB % ', owner: ben, priority: 0, preemptible: false, retry: 2'}\n"
    )
    assert isinstance(workflow, Workflow)
    assert terms(workflow.jobs["a"]) == TERMS
    assert terms(workflow.jobs["b"]) == {"owner": "ben", "priority": 0, "preemptible": False}
    assert set(workflow.extensions) >= {"defaults.owner", "jobs.b.priority", "jobs.b.preemptible"}


def test_who_says_nothing_leaves_it_to_the_machine_type() -> None:
    nothing = {"owner": "", "priority": None, "preemptible": None}
    assert terms(spec("kind: notebook\nname: nb")) == nothing
    assert terms(spec(f"jobs:\n  a: {JOB % ''}").jobs["a"]) == nothing


@pytest.mark.parametrize(
    ("line", "path", "message"),
    [
        ("owner: a b", "owner", "cannot be an owner's name"),
        ("owner: 7", "owner", "must be a string"),
        ("owner: ''", "owner", "must not be empty"),
        (f"owner: {'x' * 64}", "owner", "cannot be an owner's name"),
        ("priority: 101", "priority", "must be from -100 to 100"),
        ("priority: -101", "priority", "must be from -100 to 100"),
        ("priority: high", "priority", "must be a whole number"),
        ("priority: 0.5", "priority", "must be a whole number"),
        ("priority: true", "priority", "must be a whole number"),
        ("preemptible: 1", "preemptible", "must be true or false"),
        ("preemptible:", "preemptible", "must be true or false"),
    ],
)
@pytest.mark.parametrize("kind", ["notebook", "deployment", "defaults", "job"])
def test_a_wrong_one_is_told_with_its_place(kind: str, line: str, path: str, message: str) -> None:
    before = {
        "notebook": ("kind: notebook\nname: nb\n", "", ""),
        "deployment": ("image: web\nresources: {instanceType: C4}\n", "", ""),
        "defaults": (f"jobs:\n  a: {JOB % ''}\ndefaults:\n", "  ", "defaults."),
        "job": ("jobs:\n  a:\n    uses: script@v1\n    with: {image: bash, script: ls}\n", "    ", "jobs.a."),
    }
    text, indent, outer = before[kind]
    found = examine(f"{text}{indent}{line}\n")
    assert [problem.path for problem in found.problems] == [outer + path]
    assert message in found.problems[0].message
    assert found.problems[0].line == len(text.splitlines()) + 1


def test_gradients_own_dialect_has_none_of_them() -> None:
    found = examine(f"jobs:\n  a: {JOB % ''}\ndefaults: {{{WRITTEN}}}")
    assert {problem.path for problem in found.extensions} == {f"defaults.{key}" for key in TERMS}


def test_on_a_workflow_itself_they_are_pointed_to_the_defaults() -> None:
    found = examine(f"jobs:\n  a: {JOB % ''}\nowner: anna")
    assert found.problems[0].hint == "write `defaults: {owner: ...}`"


def test_a_job_that_is_not_tried_again_is_told_that_it_never_makes_way() -> None:
    once = examine(f"jobs:\n  a: {JOB % ', preemptible: true'}")
    assert [problem.path for problem in once.warnings] == ["jobs.a.preemptible"]
    assert not examine(f"jobs:\n  a: {JOB % ', preemptible: true, retry: 1'}").warnings


def test_they_ask_for_no_other_session_and_no_other_replicas() -> None:
    plain = Notebook(name="nb", machine="P4000")
    assert making.digest(plain) == making.digest(plain.model_copy(update=TERMS))
    assert making.digest(plain) == "740637d1eb457b04"
    web = Deployment(name="web", image="web", machine="P4000")
    assert made_of(web) == made_of(web.model_copy(update=TERMS)) == "567fe6bbbce3b7c4"
