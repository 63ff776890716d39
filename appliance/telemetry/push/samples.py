"""A push as samples of whoever pushed it. Pure.

Whose they are is what the machine knows of the sender, not what the sender says: `job`, the host's name and the handles
that Gradient's library sends along are left out. Its step, in the path or beside the value, is the sample's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from appliance.telemetry.metrics.types import Sample, Subject
from appliance.telemetry.push.exposition import Measure

STEP = "step"
_HANDLE = re.compile(r"label_metrics_\w+_handle", re.ASCII)
_IDENTITY = frozenset({"job", "pod"})
_CREATED = "_created"
_COUNTED = ("_total", "_count")
MOST_STEP = 2**63 - 1


def samples(subject: Subject, key: Mapping[str, str], measures: Sequence[Measure], *, at: float) -> list[Sample]:
    """`key`: the labels of the path, which go before those of a sample. `at`: when it came, unix seconds.

    When a counter was made is left out: Prometheus' libraries send it beside each.
    """
    names = {measure.metric for measure in measures}
    return [
        _sample(subject, {**dict(measure.labels), **key}, measure, at)
        for measure in measures
        if not _is_creation(measure.metric, names)
    ]


def step_of(text: str) -> int | None:
    """None: it is no number of a step."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    return int(text) if int(text) <= MOST_STEP else None


def _sample(subject: Subject, labels: dict[str, str], measure: Measure, at: float) -> Sample:
    step = step_of(labels.get(STEP, ""))
    if step is not None or labels.get(STEP) in ("None", ""):
        labels.pop(STEP, None)
    if labels.get("name") == measure.metric:  # how Gradient's library keeps metrics apart
        del labels["name"]
    kept = {name: value for name, value in labels.items() if value and not _is_identity(name)}
    return Sample(subject, measure.metric, measure.value, at, step=step, labels=tuple(sorted(kept.items())))


def _is_identity(label: str) -> bool:
    return label in _IDENTITY or _HANDLE.fullmatch(label) is not None


def _is_creation(metric: str, names: set[str]) -> bool:
    base = metric.removesuffix(_CREATED)
    return base != metric and any(base + suffix in names for suffix in _COUNTED)
