"""What a question may be: one SELECT over the documented tables, with functions that are known to be harmless.

Decided from the parsed statement, before anything of it runs. The memory limit of the database does not count what a
function makes of one row, so `repeat('x', 1e9)` or ten joinings of a text with itself would end the daemon: how much
longer than its input a text or list can get is bounded here, by what is written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.errors import UsageError
from appliance.telemetry.sql.functions import COUNTED, FUNCTIONS, GATHERING, JOINING, MOST_COUNT, TABLE_FUNCTIONS

LONGEST_TEXT = 65_536
"""Characters of a question."""
MOST_GROWTH = 10_000.0
"""Times the longest input that a text or a list may become."""
MOST_GROWTH_GATHERED = 10.0
"""The same, where rows are gathered into one text or list first."""
PER_COLUMN = 3 ** (1 / 3)
"""Of columns that are joined: to join one with itself through names of its own triples it with three of them."""
HINT = "`appliance sql --tables` lists the tables and their columns; times are UTC"

_QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLES = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "SHOW_REF", "PIVOT"}
)
_MODIFIERS = frozenset({"ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"})
_ORDERS = frozenset({"ORDER_DEFAULT", "ASCENDING", "DESCENDING"})
_EXPRESSIONS = frozenset(
    {
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "LAMBDA",
        "OPERATOR",
        "POSITIONAL_REFERENCE",
        "STAR",
        "SUBQUERY",
        "WINDOW",
        "TYPE",
    }
)
"""LAMBDA: `a -> b` of JSON is read as one, and no function that calls one is allowed."""
_INTERNAL = re.compile(r"(duckdb|pragma|sqlite|pg|information)_", re.IGNORECASE)
_GROUP = re.compile(r"\\\d")


@dataclass(frozen=True, slots=True)
class Checked:
    tables: frozenset[str]
    """Of those that are documented, the ones that are named."""
    plain: bool
    """A SELECT, and not a DESCRIBE or SUMMARIZE of something."""


def check(parsed: Mapping[str, Any], documented: Collection[str]) -> Checked:
    """`parsed` is what `json_serialize_sql` tells. Raises UsageError that says what is not allowed."""
    if parsed.get("error"):
        raise _refused(str(parsed.get("error_message") or "it cannot be read"))
    statements = parsed.get("statements", [])
    if len(statements) != 1:
        raise _refused("one SELECT is expected")
    root = statements[0]["node"]
    found = _Walk(documented)
    try:
        found.walk(statements[0])
    except RecursionError:
        raise _refused("it is nested too deeply") from None
    most = MOST_GROWTH_GATHERED if found.gathers else MOST_GROWTH
    if found.growth * PER_COLUMN**found.joined > most:
        raise _refused("it joins texts to texts so often that they could fill the memory")
    if found.recursive and found.joined > 1:
        raise _refused("WITH RECURSIVE that joins texts or lists", hint="use list_append, or join them outside of it")
    show = root.get("from_table", {}).get("type") == "SHOW_REF"
    return Checked(frozenset(found.tables), not show)


class _Walk:
    def __init__(self, documented: Collection[str]) -> None:
        self.tables: set[str] = set()
        self.growth = 1.0
        self.joined = 0
        """Columns inside of functions that join."""
        self.recursive = False
        self.gathers = False
        self._documented = documented
        self._named: set[str] = set()

    def walk(self, node: Any, *, joining: bool = False) -> None:
        if isinstance(node, list):
            for item in node:
                self.walk(item, joining=joining)
            return
        if not isinstance(node, dict):
            return
        if "class" in node:
            joining = self._expression(node) or joining
            self.joined += joining and node["class"] in ("COLUMN_REF", "STAR", "SUBQUERY", "POSITIONAL_REFERENCE")
        elif isinstance(kind := node.get("type"), str):
            self._other(kind, node)
        for key, value in node.items():
            if key == "cte_map":
                self._ctes(value)
            elif key == "function" and node.get("type") == "TABLE_FUNCTION":
                self.walk(value.get("arguments"))
            else:
                self.walk(value, joining=joining)

    def _ctes(self, value: Mapping[str, Any]) -> None:
        for entry in value.get("map", ()):
            name = str(entry["key"])
            if _INTERNAL.match(name):
                raise _refused(f"the name {name!r} is the database's own")
            self._named.add(name.lower())
            self.walk(entry["value"])

    def _other(self, kind: str, node: Mapping[str, Any]) -> None:
        """What is no expression: a query, a table, a modifier."""
        if kind == "BASE_TABLE":
            self._table(node)
        elif kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS or len(_path(node["function"])) > 1:
                raise _refused(f"the table function {name!r} is not allowed")
        elif kind == "SHOW_REF" and "query" not in node:
            raise _refused("SHOW of that kind is not allowed")
        elif kind == "RECURSIVE_CTE_NODE":
            self.recursive = True
        elif kind not in _QUERIES | _TABLES | _MODIFIERS | _ORDERS:
            raise _refused(f"{kind.removesuffix('_NODE').replace('_', ' ')} is not allowed")

    def _table(self, node: Mapping[str, Any]) -> None:
        path = _path(node) or [str(node.get("table_name", ""))]
        name = path[-1].lower()
        if len(path) > 1 or (name not in self._documented and name not in self._named) or node.get("at_clause"):
            raise _refused(f"there is no table {'.'.join(path)!r}")
        if name in self._documented:
            self.tables.add(name)

    def _expression(self, node: Mapping[str, Any]) -> bool:
        """Whether it joins what it is given."""
        if node["class"] == "PARAMETER":
            raise _refused("parameters are not allowed", hint="write the value")
        if node["class"] not in _EXPRESSIONS:
            raise _refused(f"{str(node['class']).replace('_', ' ')} is not allowed")
        if node["class"] not in ("FUNCTION", "WINDOW"):
            return False
        name = str(node.get("function_name", "")).lower()
        if name not in FUNCTIONS or len(_path(node)) > 1:
            raise _refused(f"the function {name!r} is not allowed")
        arguments = [item.get("expression", item) for item in node.get("arguments", ())]
        self._count(name, arguments)
        self.gathers = self.gathers or name in GATHERING
        return name in JOINING

    def _count(self, name: str, arguments: list[Mapping[str, Any]]) -> None:
        """How much longer than its input this one makes it."""
        if name in COUNTED:
            first = COUNTED[name]
            counts = [_whole(argument) for argument in arguments[first : None if first == 0 else first + 1]]
            if any(count is None or count > MOST_COUNT for count in counts):
                raise _refused(
                    f"the length in {name}() must be written out and at most {MOST_COUNT}",
                    hint="to count, use `FROM range(...)`" if first == 0 else "",
                )
            self.growth *= max(1, *(count or 0 for count in counts)) if counts else MOST_COUNT
        elif name in ("replace", "regexp_replace", "translate"):
            by = _literal(arguments[2]) if len(arguments) > 2 else None
            if by is None:
                raise _refused(f"the replacement in {name}() must be written out")
            every = name == "regexp_replace"
            self.growth *= max(1, len(by) + every + (len(by) if every and _GROUP.search(by) else 0))
        elif name in ("string_agg", "group_concat", "listagg", "array_to_string", "concat_ws"):
            place = 0 if name == "concat_ws" else 1
            by = _literal(arguments[place]) if len(arguments) > place else ""
            if by is None or len(by) > MOST_COUNT:
                raise _refused(f"the separator in {name}() must be written out")
            self.growth *= 1 + len(by) if name == "array_to_string" else 1


def _path(node: Mapping[str, Any]) -> list[str]:
    return [str(part) for part in node.get("qualified_name", {}).get("path", ())]


def _literal(node: Mapping[str, Any]) -> str | None:
    """The text of a constant, also one that is given as `chr(10)`; None for anything else."""
    if node.get("function_name") == "chr" and node.get("arguments"):
        return _literal(node["arguments"][0].get("expression", {}))
    if node.get("class") != "CONSTANT":
        return None
    return str(node.get("literal", {}).get("text", node.get("value", {}).get("value", "")))


def _whole(node: Mapping[str, Any]) -> int | None:
    text = _literal(node)
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None


def _refused(what: str, *, hint: str = "") -> UsageError:
    return UsageError(what, where="sql", hint=f"{hint}; {HINT}" if hint else HINT)
