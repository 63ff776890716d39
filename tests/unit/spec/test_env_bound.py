"""How many variables a job may have, and how large they may be."""

from __future__ import annotations

import json

import pytest

from appliance.errors import SpecError
from appliance.spec import env
from appliance.spec.load import parse
from appliance.spec.models import Workflow
from tests.unit.spec.conftest import Load, Wrong

JOB = {"uses": "script@v1", "with": {"image": "i", "script": "true"}}


def text(defaults: dict[str, str], own: dict[str, str], **more: object) -> str:
    """A workflow whose job `a` has the variables of `own`."""
    jobs = {"a": {**JOB, "env": own, **more}, "b": JOB}
    return json.dumps({"defaults": {"env": defaults}, "jobs": jobs})


def some(count: int, prefix: str = "V", size: int = 1) -> dict[str, str]:
    return {f"{prefix}{number}": "x" * size for number in range(count)}


def test_as_many_as_there_may_be(load: Load) -> None:
    found = load(text(some(env.MOST_VARIABLES - 1), {"OWN": "x", "V0": "mine"})).spec
    assert isinstance(found, Workflow)
    assert len(found.jobs["a"].env) == env.MOST_VARIABLES


@pytest.mark.parametrize(
    ("defaults", "own", "path"),
    [
        (env.MOST_VARIABLES + 1, 0, "defaults.env"),
        (0, env.MOST_VARIABLES + 1, "jobs.a.env"),
        (env.MOST_VARIABLES, 1, "jobs.a.env"),
    ],
)
def test_one_too_many_is_an_error_at_its_place(wrong: Wrong, defaults: int, own: int, path: str) -> None:
    (found,) = wrong(text(some(defaults), some(own, "W")))
    assert (found.path, found.line) == (path, 1)
    assert f"{env.MOST_VARIABLES + 1} variables" in found.message


def test_the_values_of_a_matrix_count_where_it_is_written(wrong: Wrong, load: Load) -> None:
    matrix = {"matrix": {"LR": ["1", "2"]}}
    (found,) = wrong(text(some(env.MOST_VARIABLES), {}, strategy=matrix))
    assert found.path == "jobs.a.strategy"
    for defaults in (some(env.MOST_VARIABLES - 1), {**some(env.MOST_VARIABLES - 1), "LR": "0"}):
        made = load(text(defaults, {}, strategy=matrix)).spec
        assert isinstance(made, Workflow)
        assert [len(made.jobs[name].env) for name in ("a-1", "a-2")] == [env.MOST_VARIABLES] * 2


def test_many_jobs_have_a_bound_together(wrong: Wrong, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them holds the variables of `defaults`: a short text would fill the memory."""
    monkeypatch.setattr(env, "MOST_TOGETHER", 39)
    matrix = {"matrix": {"LR": ["1", "2"]}}
    assert isinstance(load(text(some(12), {"OWN": "x"})).spec, Workflow)
    (found,) = wrong(text(some(12), {"OWN": "x"}, strategy=matrix))
    assert found.path == "jobs.b"
    assert "all jobs together" in found.message


def stored(text: str) -> list[str]:
    """Where a stored document, which may be larger than a file, has its problems."""
    try:
        parse("workflow", "w", json.loads(text))
    except SpecError as error:
        return [problem.path for problem in error.problems if "1 MiB" in problem.message]
    return []


@pytest.mark.parametrize(
    ("defaults", "own", "path"), [(9, 0, "defaults.env"), (0, 9, "jobs.a.env"), (5, 4, "jobs.a.env")]
)
def test_too_large_is_an_error_at_its_place(defaults: int, own: int, path: str) -> None:
    assert stored(text(some(defaults, size=1 << 17), some(own, "W", size=1 << 17))) == [path]


def test_bytes_count_and_not_letters() -> None:
    assert stored(text({}, {"A": "ä" * (1 << 19)})) == ["jobs.a.env"]
    assert stored(text({}, {"A": "ä" * (1 << 18)})) == []


def test_a_value_of_a_matrix_may_be_what_is_too_large() -> None:
    large = "x" * (env.MOST_BYTES // 2)
    matrix = {"matrix": {"LR": ["1", large]}}
    assert stored(text({"A": large}, {}, strategy=matrix)) == ["jobs.a.strategy"]
    assert stored(text({"LR": large, "A": "x"}, {}, strategy=matrix)) == []
