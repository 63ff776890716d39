"""What has been said and what has happened: log lines and events."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict


class Event(TypedDict):
    id: int
    at: float
    kind: str
    name: str
    level: Literal["info", "warning", "error"]
    reason: str
    message: str


class LogLine(TypedDict):
    seq: int
    at: float
    kind: str
    name: str
    part: str
    stream: str
    line: str
