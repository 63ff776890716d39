"""Whatever the text, a SpecError with a message for a person is all that comes out; and what loads, loads again."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.errors import Problem, SpecError
from appliance.spec.dump import to_yaml
from appliance.spec.load import Loaded, load_text, parse
from appliance.spec.models import KINDS
from appliance.spec.tree import to_plain
from appliance.spec.yaml import read_yaml
from tests.unit.spec.test_deployment import NEWER, OLDER
from tests.unit.spec.test_deployment_front import OURS as FRONT
from tests.unit.spec.test_matrix import SWEEP
from tests.unit.spec.test_own_actions import OURS
from tests.unit.spec.test_workflow import WHOLE, YEAR_2021

LAB = "{kind: notebook, name: lab, image: a, command: [b], env: {A: b}, machine: C4, gpus: 1, datasets: {m: {ref: d}}}"

STARTED = """
kind: workflow
name: started
on:
  github: {branches: {include: [main], ignore: ["x*"]}}
  schedule: [{cron: "0 3 * * *", timezone: Europe/Berlin}]
  dataset: [a, b]
  folder: /data
  spec: true
  webhook: {secret: secret:A}
concurrency: skip
jobs: {a: {uses: script@v1, with: {image: x, script: y}, retry: {limit: 1, delay: 5s}, cache: false}}
"""
POLLED = "{kind: repository, name: a, url: https://host/x, username: b, password: 'secret:A', interval: 5m}"

VOCABULARY = """
on true jobs defaults inputs context timeout kind name image apiVersion port resources env command models integrations
healthChecks readiness liveness startup path exec uses with needs outputs type ref id value optional script args url
script@v1 container@v1 git-checkout@v1 s3-download@v1 create-model@v1 volume dataset string workflow.inputs.a
a.outputs.b a b secret:A ${{a}} no 3.10 ../x latest v1 machineType instanceType ports replicas autoscaling metrics
workflow deployment notebook gpus datasets github branches only context.event.github.url /outputs/a enabled
strategy matrix include exclude retry limit delay cache concurrency queue schedule cron timezone UTC dataset folder spec
rollout strategy swap hold endpoint keys rate 5/s maxBody 64Mi scaleToZero after tcpSocket maxReplicas summary average
webhook secret repository interval deploy@v1 notebook@v1 notebook parameters kernel timeout 1e-4 0.10 089 1_000 5m
"""
WORDS = VOCABULARY.split()
PIECES = [
    *"{}[]:,-?&*!|>'\"%@`#\t\n \\~<",
    "\n  ",
    "\n    ",
    ": ",
    "- ",
    "<<: ",
    "&a ",
    "*a",
    "!!str ",
    "---\n",
    "\ufeff",
]

words = st.sampled_from(WORDS) | st.text(max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | words
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner), max_leaves=15)
documents = st.dictionaries(words, trees, max_size=8)
texts = st.lists(st.sampled_from(WORDS + PIECES) | st.text(max_size=3), max_size=60).map("".join)


def loaded(text: str | bytes, file: str) -> list[Loaded] | SpecError:
    try:
        return load_text(text, file=file)
    except SpecError as error:
        return error


LINE_END = re.compile(r"\r\n|\n|\r")


def assert_within(text: str | bytes, problem: Problem) -> None:
    """The place that a problem names is in the text, or right behind the end of a line."""
    whole = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    lines = LINE_END.split(whole)
    assert 1 <= problem.line <= len(lines), problem
    assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, problem


def check(text: str | bytes, file: str) -> None:
    found = loaded(text, file)
    if isinstance(found, SpecError):
        assert found.problems
        for problem in found.problems:
            assert problem.message
            assert str(problem).isprintable()
            assert_within(text, problem)
        return
    for one in found:
        stored = json.loads(json.dumps(one.document, allow_nan=False))
        stored_text = json.dumps(one.document, ensure_ascii=False)
        stored_text.encode()
        assert parse(one.kind, one.name, stored) == one.spec
        (again,) = load_text(stored_text, file="x.json", name=one.name, kind=one.kind)
        assert (again.name, again.spec) == (one.name, one.spec)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["x.yaml", "x.json", "x.jsonc", "stdin"]))
@example(b"%YAML 1.1\n---\na: 1", "x.yaml")
@example(b'"\\U99999999"', "x.yaml")
@example(b"a: !<tag:x> b", "x.yaml")
@example(b"[" * 5000, "x.json")
def test_any_bytes(text: bytes, file: str) -> None:
    check(text, file)


@settings(max_examples=200, deadline=None)
@given(texts, st.sampled_from(["x.yaml", "x.jsonc"]))
def test_any_text_of_the_right_letters(text: str, file: str) -> None:
    check(text, file)


@settings(max_examples=40, deadline=None)
@given(documents, st.booleans())
def test_any_structure(document: dict[str, Any], as_yaml: bool) -> None:
    check(to_yaml(document) if as_yaml else json.dumps(document), "x.yaml" if as_yaml else "x.json")


TEXTS = (WHOLE, OLDER, NEWER, FRONT, LAB, SWEEP, OURS, STARTED, POLLED, YEAR_2021)
BASES = [to_plain(root) for text in TEXTS if (root := read_yaml(text, "x.yaml")[0].root)]
new_values: st.SearchStrategy[Any] = leaves | st.just([]) | st.just({})
changes = st.tuples(st.integers(0, 10_000), st.sampled_from(["value", "key", "drop"]), words, new_values)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BASES), st.lists(changes, min_size=1, max_size=3), st.sampled_from(KINDS))
def test_a_valid_spec_with_any_parts_changed(base: Any, changed: list[Any], kind: Any) -> None:
    document = copy.deepcopy(base)
    for where, how, key, value in changed:
        places = list(places_in(document)) or [(document, "a")]
        holder, old_key = places[where % len(places)]
        change(holder, old_key, how, key, value)
    check(json.dumps(document), "x.json")
    with contextlib.suppress(SpecError):
        assert parse(kind, "a", document).name == "a"


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every member of every list and map, as its holder and its key or index."""
    for key, inner in list(value.items()) if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from places_in(inner)


def change(holder: Any, key: Any, how: str, new_key: str, value: Any) -> None:
    if how == "value" or isinstance(holder, list):
        holder[key] = value
        return
    old = holder.pop(key, None)
    if how == "key":
        holder[new_key] = old


JOBS = "abcd"
jobs = st.fixed_dictionaries(
    {"uses": st.just("script@v1"), "with": st.just({"image": "x", "script": "y"})},
    optional={
        "needs": st.lists(st.sampled_from(JOBS), max_size=2),
        "outputs": st.dictionaries(st.sampled_from("xy"), st.just({"type": "volume"})),
        "inputs": st.dictionaries(
            st.sampled_from("xy"), st.builds("{}.outputs.{}".format, st.sampled_from(JOBS), st.sampled_from("xy"))
        ),
    },
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(JOBS), jobs, min_size=1))
def test_a_workflow_is_valid_exactly_when_every_input_comes_from_a_job_it_waits_for(found: dict[str, Any]) -> None:
    needs = {name: job.get("needs", []) for name, job in found.items()}

    def above(job: str, seen: frozenset[str] = frozenset()) -> set[str]:
        return {up for need in needs.get(job, ()) if need not in seen for up in {need, *above(need, seen | {need})}}

    valid = all(need in found for need_list in needs.values() for need in need_list)
    valid = valid and not any(name in above(name) for name in found)
    for name, job in found.items():
        for alias in job.get("inputs", {}).values():
            producer, _, output = alias.split(".")
            valid = valid and producer in above(name) and output in found.get(producer, {}).get("outputs", {})
    text = json.dumps({"jobs": found})
    if valid:
        check(text, "x.json")
        load_text(text, file="x.json")
    else:
        with pytest.raises(SpecError):
            load_text(text, file="x.json")
