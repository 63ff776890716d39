"""Measured values over time, one series for each thing that is measured."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


class MetricPoint(TypedDict):
    at: float
    """Of a bucket or a roll-up: its beginning."""
    value: float
    """Of a bucket or a roll-up: the mean."""
    step: NotRequired[int]
    """Of training, where whoever measured it said so."""
    least: NotRequired[float]
    """Of a bucket or a roll-up, as `most`."""
    most: NotRequired[float]


class MetricSeries(TypedDict):
    kind: str
    """`notebook`, `run`, `deployment` or `machine`; what is the machine's own has no name, part and container."""
    name: str
    part: str
    container: str
    metric: str
    """Units are in the name, as Prometheus has it; `_total` only grows, until its container begins anew."""
    labels: dict[str, str]
    points: list[MetricPoint]
    """Oldest first."""
    cut: bool
    """There may be older points: the limit of the question, or of all answers, was reached."""


class MetricName(TypedDict):
    """Whose metric there is; with other labels it may be there more than once."""

    kind: str
    name: str
    part: str
    container: str
    metric: str
