"""Samples that programs send of their own accord."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


class PushedSample(TypedDict):
    metric: str
    value: float
    """A finite number."""
    step: NotRequired[int]
    """Of training, from 0 up."""
    at: NotRequired[float]
    """When it was so; absent: now."""
    labels: NotRequired[dict[str, str]]


class MetricOwner(TypedDict):
    """Whose the samples are."""

    kind: str
    """`notebook`, `run` or `deployment`."""
    name: str
    """A run is `WORKFLOW.NUMBER`; a workflow's name means its newest run."""
    part: NotRequired[str]
    """Such as the job of a run."""


MetricsPush = TypedDict("MetricsPush", {"for": MetricOwner, "samples": list[PushedSample]})
"""At most 10,000 samples."""


class PushedMetrics(TypedDict):
    """What was stored, for good."""

    kind: str
    name: str
    samples: int
