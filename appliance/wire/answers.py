"""What every route may answer: a problem, a list."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict


class Problem(TypedDict):
    """RFC 9457 problem, the one shape of every error. `code` is the class in errors.py."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    where: str
    problems: NotRequired[list[dict[str, Any]]]
    """Of a spec: file, line, column, path, message, hint."""


class Page(TypedDict):
    items: list[Any]
