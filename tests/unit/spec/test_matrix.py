from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import SpecError
from appliance.spec.load import load_text, parse
from appliance.spec.models import Alias, Job, Output, Workflow
from tests.unit.spec.conftest import Load, Wrong

SWEEP = """
defaults: {env: {DEPTH: "0", SEED: "7"}}
jobs:
  data: {uses: script@v1, with: {image: x, script: y}, outputs: {d: {type: volume}}}
  train:
    uses: script@v1
    with: {image: x, script: y}
    needs: [data]
    inputs: {d: data.outputs.d}
    outputs: {model: {type: dataset, with: {ref: models}}, score: {type: string}}
    strategy:
      matrix:
        LR: [0.10, 1e-4]
        DEPTH: [2, True, "x y"]
        exclude:
          - {LR: 0.10, DEPTH: 2}
        include:
          - {LR: "9", DEPTH: no, NOTE: extra}
  pick:
    uses: script@v1
    with: {image: x, script: y}
    needs: [train]
    inputs: {scores: train.outputs.score, d: data.outputs.d}
"""


def workflow(load: Load, text: str) -> Workflow:
    spec = load(text).spec
    assert isinstance(spec, Workflow)
    return spec


def test_a_matrix_becomes_jobs_in_the_order_of_the_file(load: Load) -> None:
    spec = workflow(load, SWEEP)
    trains = ("train-1", "train-2", "train-3", "train-4", "train-5", "train-6")
    assert tuple(spec.jobs) == ("data", *trains, "pick")
    assert [spec.jobs[name].matrix for name in trains] == [
        {"LR": "0.10", "DEPTH": "True"},
        {"LR": "0.10", "DEPTH": "x y"},
        {"LR": "1e-4", "DEPTH": "2"},
        {"LR": "1e-4", "DEPTH": "True"},
        {"LR": "1e-4", "DEPTH": "x y"},
        {"LR": "9", "DEPTH": "no", "NOTE": "extra"},
    ]
    assert spec.jobs["train-3"].env == {"LR": "1e-4", "DEPTH": "2", "SEED": "7"}
    assert spec.jobs["train-3"].needs == ("data",)
    assert spec.jobs["train-3"].outputs["model"] == Output(type="dataset", ref="models")
    assert spec.jobs["pick"].needs == trains
    assert spec.jobs["pick"].inputs == {
        "scores": Alias(job="train", name="score", gather=trains),
        "d": Alias(job="data", name="d"),
    }
    assert spec.jobs["data"].matrix == {}
    assert spec.extensions == ("jobs.train.strategy",)


def test_the_stored_document_keeps_the_values_as_written(load: Load) -> None:
    found = load(SWEEP)
    assert found.document["jobs"]["train"]["strategy"]["matrix"]["LR"] == ["0.10", "1e-4"]
    assert parse(found.kind, found.name, json.loads(json.dumps(found.document))) == found.spec


def test_numbers_that_come_without_their_text(load: Load) -> None:
    document = {"jobs": {"a": {**JOB, "strategy": {"matrix": {"LR": [0.1, 1e-05, True, 3]}}}}}
    spec = parse("workflow", "w", document)
    assert isinstance(spec, Workflow)
    assert [job.env["LR"] for job in spec.jobs.values()] == ["0.1", "1e-05", "true", "3"]


def test_a_matrix_may_wait_for_a_matrix(load: Load) -> None:
    spec = workflow(
        load,
        """
        jobs:
          a: {uses: script@v1, with: {image: x, script: y}, outputs: {o: {type: volume}},
              strategy: {matrix: {N: [1, 2]}}}
          b: {uses: script@v1, with: {image: x, script: y}, needs: [a], inputs: {o: a.outputs.o},
              strategy: {matrix: {M: [1, 2]}}}
        """,
    )
    assert spec.jobs["b-2"].needs == ("a-1", "a-2")
    assert spec.jobs["b-2"].inputs == {"o": Alias(job="a", name="o", gather=("a-1", "a-2"))}


def job(strategy: str, more: str = "") -> str:
    return f"jobs: {{train: {{uses: script@v1, with: {{image: x, script: y}}, strategy: {strategy}{more}}}}}"


@pytest.mark.parametrize(
    ("text", "path", "words", "hint"),
    [
        (job("3"), "", "must be a map", "matrix"),
        (job("{}"), ".matrix", "is required", "LR"),
        (job("{matrx: {A: [1]}, matrix: {A: [1]}}"), ".matrx", "unknown key", "did you mean `matrix`?"),
        (job("{matrix: {A: [1]}, fail-fast: true}"), ".fail-fast", "unknown key", "go on when one fails"),
        (job("{matrix: {}}"), "", "leaves no job", "axis"),
        (job("{matrix: {A: []}}"), ".matrix.A", "at least one value", ""),
        (job("{matrix: {A: 5}}"), ".matrix.A", "must be a list of values, not the number `5`", "A: ["),
        (job("{matrix: {A: [1, [2]]}}"), ".matrix.A[1]", "must be a text, a number or a boolean", ""),
        (job("{matrix: {A: [1, ]}}".replace(", ]", ", ~]")), ".matrix.A[1]", "not empty (null)", ""),
        (job("{matrix: {A: [1, '1']}}"), ".matrix.A[1]", "is a value of this axis already", ""),
        (job("{matrix: {1A: [1]}}"), ".matrix.1A", "not a variable's name", "letters"),
        (job("{matrix: {A: [1]}}", ", env: {A: b}"), ".matrix.A", "`env` sets `A` already", "remove one"),
        (job("{matrix: {A: ['${{ x }}']}}"), ".matrix.A[0]", "GitHub Actions expression", ""),
        (job("{matrix: {A: [1], exclude: [{B: 1}]}}"), ".matrix.exclude[0].B", "`B` is no axis", "axes are A"),
        (job("{matrix: {A: [1], exclude: [{A: 1}]}}"), "", "leaves no job", ""),
        (job("{matrix: {A: [1], exclude: {A: 1}}}"), ".matrix.exclude", "must be a list of maps", ""),
        (job("{matrix: {A: [1], B: [2], include: [{A: 3}]}}"), ".matrix.include[0]", "has no value for `B`", ""),
        (job("{matrix: {A: [1], include: [{A: 1, B: 2}]}}"), ".matrix.include[0]", "combination of the axes", ""),
        (job("{matrix: {A: [1], include: [{A: 2}, {A: 2}]}}"), ".matrix.include[1]", "is included already", ""),
        (job("{matrix: {include: [{}]}}"), ".matrix.include[0]", "at least one value", ""),
        (job("{matrix: {A: [1], include: [x]}}"), ".matrix.include[0]", "must be a map of names", ""),
        (job(f"{{matrix: {{A: {list(range(257))}}}}}"), "", "makes 257 jobs, and a matrix may make 256", ""),
        (job(f"{{matrix: {{A: {list(range(90))}, B: {list(range(90))}}}}}"), "", "makes 8100 jobs", ""),
    ],
)
def test_mistakes(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    (found,) = wrong(text)
    expected = f"jobs.train.strategy{path}"
    assert (found.path, words in found.message, hint in found.hint) == (expected, True, True), found
    assert found.line


@pytest.mark.parametrize("key", ["include", "exclude"])
def test_very_long_lists_are_refused_soon(wrong: Wrong, key: str) -> None:
    started = time.monotonic()
    entries = ", ".join(f"{{A: {number}}}" for number in range(9000))
    (found,) = wrong(job(f"{{matrix: {{A: {list(range(256))}, {key}: [{entries}]}}}}"))
    assert (found.path, found.message) == (
        f"jobs.train.strategy.matrix.{key}",
        "must have at most 1024 items, not 9000",
    )
    assert time.monotonic() - started < 60


def test_what_excludes_nothing_is_odd(load: Load) -> None:
    found = load(job("{matrix: {A: [0.10], exclude: [{A: 0.1}]}}"))
    assert [(one.path, one.message) for one in found.warnings] == [
        ("jobs.train.strategy.matrix.exclude[0]", "excludes nothing")
    ]


PLAIN = "uses: script@v1, with: {image: x, script: y}"


@pytest.mark.parametrize(
    ("jobs", "path", "words"),
    [
        (
            f"a: {{{PLAIN}, strategy: {{matrix: {{A: [1, 2]}}}}}}, a-2: {{{PLAIN}}}",
            "jobs.a.strategy",
            "`a-2` is one of",
        ),
        (f"{'a' * 62}: {{{PLAIN}, strategy: {{matrix: {{A: [1]}}}}}}", f"jobs.{'a' * 62}.strategy", "longer than 63"),
    ],
)
def test_names_of_jobs(wrong: Wrong, jobs: str, path: str, words: str) -> None:
    (found,) = wrong(f"jobs: {{{jobs}}}")
    assert (found.path, words in found.message) == (path, True), found


def test_too_many_jobs_together(wrong: Wrong) -> None:
    jobs = ", ".join(f"j{n}: {{{PLAIN}, strategy: {{matrix: {{A: {list(range(250))}}}}}}}" for n in range(5))
    (found,) = wrong(f"jobs: {{{jobs}}}")
    assert (found.path, "makes 1250 jobs together" in found.message) == ("jobs.j4.strategy", True)


def test_one_job_of_a_matrix_cannot_be_named(wrong: Wrong) -> None:
    matrix = f"a: {{{PLAIN}, outputs: {{o: {{type: volume}}}}, strategy: {{matrix: {{A: [1, 2]}}}}}}"
    found = wrong(f"jobs: {{{matrix}, b: {{{PLAIN}, needs: [a-1], inputs: {{o: a-1.outputs.o}}}}}}")
    assert [one.path for one in found] == ["jobs.b.needs[0]", "jobs.b.inputs.o"]
    assert all("write `a`, which means all jobs of its matrix" in one.hint for one in found)


def test_a_model_is_made_from_one_dataset(wrong: Wrong) -> None:
    matrix = f"a: {{{PLAIN}, outputs: {{o: {{type: dataset, with: {{ref: m}}}}}}, strategy: {{matrix: {{A: [1, 2]}}}}}}"
    model = "uses: create-model@v1, with: {name: m, type: ONNX}, needs: [a], inputs: {model: a.outputs.o}"
    (found,) = wrong(f"jobs: {{{matrix}, b: {{{model}}}}}")
    assert (found.path, "makes 2 of them" in found.message) == ("jobs.b.inputs.model", True)


JOB: dict[str, Any] = {"uses": "script@v1", "with": {"image": "x", "script": "y"}}
texts = st.text(alphabet="ab 0.1-", min_size=1, max_size=4)
axes = st.dictionaries(
    st.sampled_from(["LR", "DEPTH", "SEED", "_x"]), st.lists(texts, min_size=1, max_size=4, unique=True), max_size=3
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_matrix_is_the_product_less_the_excluded_plus_the_included(data: st.DataObject) -> None:
    found = data.draw(axes)
    one_of_each = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in found.items()})
    some = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in found.items()})
    exclude = data.draw(st.lists(some.filter(bool) if found else st.nothing(), max_size=3)) if found else []
    further = st.fixed_dictionaries(dict.fromkeys(found, texts) or {"ONLY": texts}, optional={"MORE": texts})
    include = data.draw(st.lists(further | one_of_each if found else further, max_size=3))
    product = [dict(zip(found, values, strict=True)) for values in itertools.product(*found.values())] if found else []
    left = [one for one in product if not any(gone.items() <= one.items() for gone in exclude)]
    expected = left + include
    matrix: dict[str, Any] = {**found, "exclude": exclude, "include": include}
    text = json.dumps({"jobs": {"a": {**JOB, "strategy": {"matrix": matrix}}}})
    repeated = (
        any(all(one[name] == extra[name] for name in found) for one in left for extra in include) if found else False
    )
    repeated = repeated or any(include[i] == include[j] for i in range(len(include)) for j in range(i))
    if repeated or not expected:
        with pytest.raises(SpecError):
            load_text(text, file="x.json")
        return
    (loaded,) = load_text(text, file="x.json")
    assert isinstance(loaded.spec, Workflow)
    jobs: dict[str, Job] = loaded.spec.jobs
    assert list(jobs) == [f"a-{number}" for number in range(1, len(expected) + 1)]
    assert [one.matrix for one in jobs.values()] == expected
    assert [one.env for one in jobs.values()] == expected
    assert parse("workflow", loaded.name, loaded.document) == loaded.spec
