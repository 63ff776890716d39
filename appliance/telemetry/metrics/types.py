"""What crosses the door of the metrics: samples go in, series of points come out."""

from __future__ import annotations

from dataclasses import dataclass

Labels = tuple[tuple[str, str], ...]
"""Sorted by key."""
MACHINE = "machine"
"""Kind of the one subject that is the machine itself; its name, part and container are empty."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose metric this is: the owner of a container, or the machine."""

    kind: str
    """notebook, run, deployment or machine."""
    name: str
    """Resource name; a run is `WORKFLOW.NUMBER`."""
    part: str
    """Job name, or replica id; empty for a notebook."""
    container: str
    """Container id; empty where the metric is of no container."""


@dataclass(frozen=True, slots=True)
class Sample:
    subject: Subject
    metric: str
    value: float
    at: float
    """Unix seconds."""
    step: int | None = None
    """As the program counts its steps; None where it counts none."""
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """Which points. Empty fields match everything."""

    kind: str = ""
    name: str = ""
    part: str = ""
    metric: str = ""
    since: float = 0.0
    """Only points at or after this unix time."""
    until: float = 0.0
    """Only points before this unix time; 0: up to now."""
    every_s: float = 0.0
    """Width of a bucket, seconds: a point is the mean of one. 0: every sample, rolled-up ones as their means."""
    limit: int = 10_000
    """Points of one series: the newest that match."""


@dataclass(frozen=True, slots=True)
class Point:
    at: float
    """Unix seconds; the beginning of what it stands for, where that is more than one sample."""
    value: float
    step: int | None = None
    """Of a bucket: the highest in it."""
    least: float | None = None
    """Of the samples that it stands for; None where it is one sample."""
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one metric of one subject with one set of labels, oldest first."""

    subject: Subject
    metric: str
    labels: Labels
    points: tuple[Point, ...]
