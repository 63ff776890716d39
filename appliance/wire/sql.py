"""Questions in SQL, their answers, and what can be asked."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class SqlRequest(TypedDict):
    query: str
    limit: NotRequired[int]
    """Rows at most; 10,000 where nothing is said."""
    timeout_s: NotRequired[float]
    format: NotRequired[Literal["json", "csv", "parquet"]]
    id: NotRequired[str]
    """To cancel it by; of the caller's own choice."""


class SqlAnswer(TypedDict):
    columns: list[str]
    types: list[str]
    """As DuckDB writes them. Times are text, in UTC."""
    rows: list[list[Any]]
    truncated: bool
    """There are more rows than these."""
    notes: list[str]
    """In words: what else is not whole."""


class SqlColumn(TypedDict):
    name: str
    type: str
    about: str


class SqlTable(TypedDict):
    name: str
    about: str
    columns: list[SqlColumn]


class SqlReady(TypedDict):
    """A ready query, and the question in words that it answers."""

    name: str
    question: str
    sql: str


class SqlRunning(TypedDict):
    id: str
    query: str
    seconds: float
