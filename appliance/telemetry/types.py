"""What crosses the telemetry room's door."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogSource:
    """Whose lines these are: the owner of the container, as its labels tell."""

    kind: str
    """notebook, run or deployment."""
    name: str
    """Resource name; a run is `WORKFLOW.NUMBER`."""
    part: str
    """Job name, or replica id; empty for a notebook."""
    container: str
    """Container id."""


@dataclass(frozen=True, slots=True)
class LogLine:
    seq: int
    """Grows with arrival over all sources; a cursor for paging and following."""
    at: float
    """Unix seconds, from the engine."""
    kind: str
    name: str
    part: str
    container: str
    stream: str
    """stdout or stderr."""
    line: str
    """Without its newline; bytes that are not UTF-8 are replaced."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines. Empty fields match everything."""

    kind: str = ""
    name: str = ""
    part: str = ""
    after: int = 0
    """Only lines with a seq above this."""
    since: float = 0.0
    """Only lines at or after this unix time."""
    contains: str = ""
    """Only lines that hold this text, letter case ignored, and colours too."""
    limit: int = 1000
    """With `after` the oldest, else the newest that match; always answered oldest first."""
