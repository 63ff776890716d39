"""What has been said and what has happened: log lines, events, queries over them."""

from __future__ import annotations

from typing import Any, Literal

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


class SqlRequest(TypedDict):
    query: str


class SqlAnswer(TypedDict):
    columns: list[str]
    rows: list[list[Any]]
