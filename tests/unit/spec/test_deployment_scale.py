"""How many replicas: `resources.autoscaling` and, ours, `resources.scaleToZero`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.spec.load import load_text
from appliance.spec.models import Autoscaling, Deployment, Metric, Sleep
from tests.unit.spec.conftest import Load, Wrong

MEMORY = "[{metric: memory, summary: average, value: 50}]"


def resources(load: Load, text: str) -> Deployment:
    spec = load(f"image: x\nresources: {{{text}}}\n").spec
    assert isinstance(spec, Deployment)
    return spec


def test_there_is_none_unless_it_is_asked_for(load: Load) -> None:
    spec = resources(load, "replicas: 2")
    assert (spec.autoscaling, spec.sleep) == (None, None)


def test_it_is_on_unless_it_is_switched_off(load: Load) -> None:
    wanted = Autoscaling(most=2, metrics=(Metric(kind="memory", value=50),))
    assert resources(load, f"autoscaling: {{maxReplicas: 2, metrics: {MEMORY}}}").autoscaling == wanted
    assert resources(load, f"autoscaling: {{enabled: true, maxReplicas: 2, metrics: {MEMORY}}}").autoscaling == wanted
    assert resources(load, f"autoscaling: {{enabled: false, maxReplicas: 2, metrics: {MEMORY}}}").autoscaling is None


def test_switched_off_it_may_lack_the_rest(load: Load) -> None:
    found = load("image: x\nresources: {autoscaling: {enabled: false}}\n")
    assert isinstance(found.spec, Deployment)
    assert found.spec.autoscaling is None
    assert [warning.path for warning in found.warnings] == ["resources.autoscaling.enabled"]


def test_what_is_switched_off_is_checked_all_the_same(wrong: Wrong) -> None:
    found = wrong("image: x\nresources: {autoscaling: {enabled: false, metrics: [{metric: gpu, value: 0}]}}\n")
    paths = [problem.path.removeprefix("resources.autoscaling.") for problem in found]
    assert sorted(paths) == ["metrics[0].metric", "metrics[0].summary", "metrics[0].value"]


@pytest.mark.parametrize(
    ("text", "path", "words", "hint"),
    [
        ("autoscaling: true", "autoscaling", "must be a map, not true", "maxReplicas: 3"),
        (f"autoscaling: {{metrics: {MEMORY}}}", "autoscaling.maxReplicas", "is required", "the most"),
        (f"autoscaling: {{maxReplicas: 65, metrics: {MEMORY}}}", "autoscaling.maxReplicas", "from 1 to 64", ""),
        (f"autoscaling: {{maxReplicas: 0, metrics: {MEMORY}}}", "autoscaling.maxReplicas", "from 1 to 64", ""),
        (f"autoscaling: {{maxReplicas: 2.5, metrics: {MEMORY}}}", "autoscaling.maxReplicas", "whole number", ""),
        ("autoscaling: {maxReplicas: 2}", "autoscaling.metrics", "is required", "metric: cpu"),
        ("autoscaling: {maxReplicas: 2, metrics: []}", "autoscaling.metrics", "at least one", "metric: cpu"),
        ("autoscaling: {maxReplicas: 2, metrics: {}}", "autoscaling.metrics", "must be a list", "metric: cpu"),
        (
            f"autoscaling: {{minReplicas: 1, maxReplicas: 2, metrics: {MEMORY}}}",
            "autoscaling.minReplicas",
            "unknown key",
            "`resources.replicas`",
        ),
        (
            "autoscaling: {maxReplicas: 2, metrics: [{metric: requestduration, summary: average, value: 1}]}",
            "autoscaling.metrics[0].metric",
            "must be `cpu`, `memory` or `requestDuration`",
            "did you mean `requestDuration`?",
        ),
        (
            "autoscaling: {maxReplicas: 2, metrics: [{metric: cpu, summary: max, value: 1}]}",
            "autoscaling.metrics[0].summary",
            "must be `average`",
            "",
        ),
        (
            "autoscaling: {maxReplicas: 2, metrics: [{metric: cpu, summary: average, value: '80'}]}",
            "autoscaling.metrics[0].value",
            "must be a number",
            "remove the quotes",
        ),
        (
            "autoscaling: {maxReplicas: 2, metrics: [{metric: requestDuration, summary: average, value: 0.001}]}",
            "autoscaling.metrics[0].value",
            "at least 0.01",
            "",
        ),
        (
            "autoscaling: {maxReplicas: 2, metrics: [{metric: cpu, summary: average}]}",
            "autoscaling.metrics[0].value",
            "is required",
            "",
        ),
        ("scaleToZero: true", "scaleToZero", "must be a map, not true", "{after: 15m}"),
        ("scaleToZero: {after: 0}", "scaleToZero.after", "must be from 1s", ""),
        ("scaleToZero: {after: soon}", "scaleToZero.after", "must be a time", "10m"),
        ("scaleToZero: {hold: 2h}", "scaleToZero.hold", "to 1h", ""),
        ("scaleToZero: {idle: 5}", "scaleToZero.idle", "unknown key", "`after`"),
        ("scaleToZer: {after: 5}", "scaleToZer", "unknown key", "did you mean `scaleToZero`?"),
    ],
)
def test_mistakes(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    (found,) = wrong(f"image: x\nresources: {{{text}}}\n")
    assert (found.path, words in found.message, hint in found.hint) == (f"resources.{path}", True, True), found
    assert found.line


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (f"replicas: 3, autoscaling: {{maxReplicas: 2, metrics: {MEMORY}}}", "autoscaling.maxReplicas", "less than"),
        (f"replicas: 0, autoscaling: {{maxReplicas: 2, metrics: {MEMORY}}}", "autoscaling", "nothing runs"),
        ("replicas: 0, scaleToZero: {}", "scaleToZero", "nothing runs"),
        (
            "autoscaling: {maxReplicas: 2, metrics: [{metric: cpu, summary: average, value: 0.8}]}",
            "autoscaling.metrics[0].value",
            "in percent",
        ),
        (
            "autoscaling: {maxReplicas: 2, metrics: [{metric: cpu, summary: average, value: 150}]}",
            "autoscaling.metrics[0].value",
            "never reached",
        ),
    ],
)
def test_what_is_odd_is_said(load: Load, text: str, path: str, words: str) -> None:
    (warning,) = load(f"image: x\nresources: {{{text}}}\n").warnings
    assert (warning.path, words in warning.message) == (f"resources.{path}", True), warning


@given(st.integers(0, 64), st.integers(1, 64))
def test_the_most_is_never_below_the_least(replicas: int, most: int) -> None:
    text = f"image: x\nresources: {{replicas: {replicas}, autoscaling: {{maxReplicas: {most}, metrics: {MEMORY}}}}}\n"
    spec = load_text(text, file="a.yaml")[0].spec
    assert isinstance(spec, Deployment)
    assert spec.autoscaling is not None
    assert spec.autoscaling.most == max(replicas, most)


@pytest.mark.parametrize(
    ("text", "sleep"),
    [
        ("{}", Sleep()),
        ("{after: 60}", Sleep(after_s=60)),
        ("{after: 15m, hold: 120}", Sleep(after_s=900, hold_s=120)),
        ("{hold: 0.5m}", None),
        ("{after: 2.5, hold: 1.5}", Sleep(after_s=2.5, hold_s=1.5)),
    ],
)
def test_scale_to_zero(load: Load, wrong: Wrong, text: str, sleep: Sleep | None) -> None:
    whole = f"image: x\nresources: {{scaleToZero: {text}}}\n"
    if sleep is None:
        assert wrong(whole)
        return
    spec = load(whole).spec
    assert isinstance(spec, Deployment)
    assert (spec.sleep, spec.extensions) == (sleep, ("resources.scaleToZero",))
