"""A document as plain values with their places, and the limits that keep a hostile one small."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.spec.problems import NOWHERE, Mark, Problems, quoted

MAX_BYTES = 1 << 20
MAX_NODES = 50_000
"""Values in one document, aliases counted as often as they are used. Reading so many takes some seconds."""
MAX_DEPTH = 40
MAX_INTEGER = 2**63 - 1

Scalar = None | bool | int | float | str


@dataclass(slots=True)
class Node:
    """A value. Two places of a document may share one node, where YAML's alias does so."""

    value: Scalar | list[Node] | dict[str, Node]
    mark: Mark
    plain: str = ""
    """How a scalar without quotes is written; empty for anything else."""
    keys: dict[str, Mark] = field(default_factory=dict)
    """Where each key of a map stands."""
    size: int = 1
    """Values in it, itself included."""
    height: int = 1
    """Levels in it, itself included."""

    def holds(self, child: Node) -> None:
        """Count `child` in."""
        self.size += child.size
        self.height = max(self.height, child.height + 1)


@dataclass(frozen=True, slots=True)
class Document:
    root: Node | None
    """None: it could not be read; `problems` says why."""
    problems: Problems


class Refused(Exception):
    """The text cannot be read any further."""

    def __init__(self, mark: Mark, path: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.mark, self.path, self.message, self.hint = mark, path, message, hint

    def add_to(self, problems: Problems) -> None:
        problems.error(self.mark, self.path, self.message, self.hint)


TOO_LARGE = f"holds more than {MAX_NODES:,} values"
TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep"
SPLIT_IT = "split it into several files"

_WORD = re.compile(r"[A-Za-z0-9_$-]+", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


def child_path(path: str, key: str) -> str:
    if not _WORD.fullmatch(key):
        return f"{path}[{quoted(key)}]"
    return f"{path}.{key}" if path else key


def item_path(path: str, index: int) -> str:
    return f"{path}[{index}]"


def wrong_value(value: Scalar) -> str:
    """Why this scalar can be stored nowhere; empty: it is fine."""
    if isinstance(value, str):
        if "\0" in value:
            return "must not contain a NUL character"
        return "contains half of a surrogate pair, which is no character" if _SURROGATE.search(value) else ""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "is a number of more than 64 bits"
    return ""


def to_plain(node: Node) -> Any:
    """The value as JSON has it. `MAX_DEPTH` bounds the recursion."""
    if isinstance(node.value, dict):
        return {key: to_plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [to_plain(child) for child in node.value]
    return node.value


def from_plain(value: Any, path: str = "", depth: int = 1) -> Node:
    """A tree without places. Raises Refused where the value is not what JSON can say, or beyond the limits."""
    if depth > MAX_DEPTH:
        raise Refused(NOWHERE, path, TOO_DEEP, SPLIT_IT)
    if isinstance(value, Mapping):
        return _map_from_plain(value, path, depth)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        items = [from_plain(item, item_path(path, index), depth + 1) for index, item in enumerate(value)]
        return _counted(Node(items, NOWHERE), items, path)
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise Refused(NOWHERE, path, f"is of type {type(value).__name__}, which JSON does not have")
    if wrong := wrong_value(value):
        raise Refused(NOWHERE, path, wrong)
    return Node(value, NOWHERE)


def _map_from_plain(value: Mapping[Any, Any], path: str, depth: int) -> Node:
    entries: dict[str, Node] = {}
    for key, item in value.items():
        if not isinstance(key, str) or wrong_value(key):
            raise Refused(NOWHERE, path, f"has the key {ascii(key)[:80]}, which is no text")
        entries[key] = from_plain(item, child_path(path, key), depth + 1)
    return _counted(Node(entries, NOWHERE, keys=dict.fromkeys(entries, NOWHERE)), list(entries.values()), path)


def _counted(node: Node, children: list[Node], path: str) -> Node:
    for child in children:
        node.holds(child)
    if node.size > MAX_NODES:
        raise Refused(NOWHERE, path, TOO_LARGE, SPLIT_IT)
    return node
