from __future__ import annotations

import pytest

from appliance.telemetry.metrics.types import Sample, Subject
from appliance.telemetry.push.exposition import Measure
from appliance.telemetry.push.samples import samples, step_of

JOB = Subject("run", "train.3", "fit", "c0ffee")


def of(key: dict[str, str], *measures: Measure) -> list[Sample]:
    return samples(JOB, {"job": "somebody else", **key}, measures, at=5.0)


def test_what_gradient_s_library_pushes() -> None:
    key = {"label_metrics_workflow_handle": "r1", "name": "loss", "step": "7"}
    labels = (("label_metrics_workflow_handle", "r1"), ("pod", "host"), ("step", "7"))
    assert of(key, Measure("loss", labels, 0.5)) == [Sample(JOB, "loss", 0.5, 5.0, step=7)]


def test_no_step() -> None:
    assert of({"step": "None"}, Measure("loss", (("step", "None"),), 1)) == [Sample(JOB, "loss", 1, 5.0)]
    assert of({}, Measure("loss", (), 1)) == [Sample(JOB, "loss", 1, 5.0)]


def test_the_step_of_a_sample_counts_where_the_path_has_none() -> None:
    assert [sample.step for sample in of({}, Measure("a", (("step", "1"),), 1), Measure("a", (("step", "2"),), 1))] == [
        1,
        2,
    ]
    assert of({"step": "3"}, Measure("a", (("step", "1"),), 1))[0].step == 3


def test_a_step_that_is_no_number_stays_a_label() -> None:
    (found,) = of({}, Measure("a", (("step", "warm-up"),), 1))
    assert (found.step, found.labels) == (None, (("step", "warm-up"),))


def test_other_labels_are_kept_and_those_of_the_path_go_first() -> None:
    (found,) = of({"instance": "a", "name": "group"}, Measure("x", (("instance", "b"), ("le", "1"), ("empty", "")), 1))
    assert found.labels == (("instance", "a"), ("le", "1"), ("name", "group"))


def test_when_a_counter_was_made_is_left_out() -> None:
    found = of({}, Measure("n_total", (), 1), Measure("n_created", (), 1.7e9), Measure("model_created", (), 2))
    assert [sample.metric for sample in found] == ["n_total", "model_created"]


@pytest.mark.parametrize(
    ("text", "step"),
    [("0", 0), ("12", 12), (str(2**63 - 1), 2**63 - 1), (str(2**63), None), ("-1", None), ("1.0", None), ("٣", None)],
)
def test_steps(text: str, step: int | None) -> None:
    assert step_of(text) == step
