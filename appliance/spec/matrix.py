"""`strategy.matrix`, ours: one job of the file becomes a job for each combination of values. Pure.

The combinations are the product of the axes in the order of the file, less those of `exclude`, then those of
`include`. The values become variables of the job; a number or a boolean is the text that stands in the file.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

from appliance.spec.env import check_variable, read_value_text
from appliance.spec.fields import Fields, describe
from appliance.spec.models import Alias, Value
from appliance.spec.names import PART
from appliance.spec.problems import Mark, Problems, quoted
from appliance.spec.tree import Node, child_path

MOST_JOBS = 256
"""Of one matrix."""
MOST_TOGETHER = 1024
"""Of all matrices of a workflow."""
_MOST_EXAMINED = 4 * MOST_JOBS
"""Combinations before `exclude`."""
_HINTS = {
    "fail-fast": "remove it; the other jobs of a matrix go on when one fails",
    "max-parallel": "remove it; what the machine has bounds how many run at once",
}

Values = dict[str, str]


def read_matrix(job: Fields, env: Mapping[str, str]) -> tuple[Values, ...]:
    """The values of each job, in order; empty: there is no matrix. `env` is the job's own."""
    job.extension("strategy", "Gradient has no matrix: write one job for each combination")
    strategy = job.map("strategy", hint='such as `matrix: {LR: ["0.1", "0.2"]}`')
    if strategy is None:
        return ()
    matrix = strategy.map("matrix", required=True, hint='such as `matrix: {LR: ["0.1", "0.2"]}`')
    strategy.close(_HINTS)
    if matrix is None:
        return ()
    axes = _axes(matrix, env)
    count = math.prod(len(values) for values in axes.values()) if axes else 0
    if count > _MOST_EXAMINED:
        _too_many(job, count)
        return ()
    combinations = (
        [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    )
    combinations = _without_excluded(matrix, axes, combinations)
    combinations += _included(matrix, axes, combinations, env)
    if len(combinations) > MOST_JOBS:
        _too_many(job, len(combinations))
        return ()
    if not combinations and not job.problems.errors:
        job.error("strategy", "leaves no job", "give an axis such as `LR: [...]`, or exclude less")
    return tuple(combinations)


def _too_many(job: Fields, count: int) -> None:
    job.error("strategy", f"makes {count} jobs, and a matrix may make {MOST_JOBS}", "write fewer values")


def _axes(matrix: Fields, env: Mapping[str, str]) -> dict[str, list[str]]:
    axes: dict[str, list[str]] = {}
    for name, path, mark, node in matrix.entries():
        if name in ("include", "exclude"):
            continue
        _check_axis(name, mark, path, matrix.problems, env)
        if not isinstance(node.value, list):
            message = f"must be a list of values, not {describe(node)}"
            matrix.problems.error(node.mark, path, message, f'such as `{name}: ["0.1", "0.2"]`')
            continue
        if not node.value:
            matrix.problems.error(node.mark, path, "must have at least one value")
        values: dict[str, None] = {}
        for item_path, item in matrix.items(name):
            text = _text(item, item_path, matrix.problems)
            if text in values:
                matrix.problems.error(item.mark, item_path, f"{quoted(text)} is a value of this axis already")
            values[text] = None
        axes[name] = list(values)
    return axes


def _check_axis(name: str, mark: Mark, path: str, problems: Problems, env: Mapping[str, str]) -> None:
    check_variable(name, mark, path, problems)
    if name in env:
        problems.error(mark, path, f"the job's `env` sets {quoted(name)} already", "remove one of the two")


def _without_excluded(matrix: Fields, axes: Mapping[str, list[str]], combinations: list[Values]) -> list[Values]:
    for path, node in _listed(matrix, "exclude", "such as `- {LR: 0.1}`"):
        excluded = _entry(node, path, matrix.problems)
        for name, mark in _strange(node, axes):
            hint = matrix.problems.nearest(name, axes) or f"the axes are {', '.join(axes) or 'none'}"
            matrix.problems.error(mark, child_path(path, name), f"{quoted(name)} is no axis", hint)
        kept = [values for values in combinations if not excluded or not excluded.items() <= values.items()]
        if len(kept) == len(combinations) and not matrix.problems.errors:
            hint = "values count as they are written: 0.1 is not 0.10"
            matrix.problems.warn(node.mark, path, "excludes nothing", hint)
        combinations = kept
    return combinations


def _included(
    matrix: Fields, axes: Mapping[str, list[str]], combinations: list[Values], env: Mapping[str, str]
) -> list[Values]:
    """Further jobs. Each has a value for every axis, and may have variables of its own."""
    found: list[Values] = []
    taken = {tuple(values[axis] for axis in axes) for values in combinations}
    included: set[frozenset[tuple[str, str]]] = set()
    for path, node in _listed(matrix, "include", "such as `- {LR: 0.5, DEPTH: 9}`"):
        values = _entry(node, path, matrix.problems)
        for name, mark in _strange(node, axes):
            _check_axis(name, mark, child_path(path, name), matrix.problems, env)
        missing = [axis for axis in axes if axis not in values]
        if missing and isinstance(node.value, dict):
            message = f"has no value for {', '.join(map(quoted, missing))}: it is a further job, not more for others"
            matrix.problems.error(node.mark, path, message)
        elif not values and isinstance(node.value, dict):
            matrix.problems.error(node.mark, path, "must have at least one value")
        elif axes and tuple(values.get(axis, "") for axis in axes) in taken:
            matrix.problems.error(node.mark, path, "is a combination of the axes already", "remove it")
        elif frozenset(values.items()) in included:
            matrix.problems.error(node.mark, path, "is included already", "remove it")
        included.add(frozenset(values.items()))
        found.append(values)
    return found


def _listed(matrix: Fields, key: str, hint: str) -> list[tuple[str, Node]]:
    items = matrix.items(key, what="a list of maps", hint=hint)
    if len(items) > _MOST_EXAMINED:
        matrix.error(key, f"must have at most {_MOST_EXAMINED} items, not {len(items)}")
        return []
    return items


def _entry(node: Node, path: str, problems: Problems) -> Values:
    item = Fields(node, path, problems, what="a map of names to values")
    return {name: _text(value, where, problems) for name, where, _, value in item.entries()}


def _strange(node: Node, axes: Mapping[str, list[str]]) -> list[tuple[str, Mark]]:
    return [(name, mark) for name, mark in node.keys.items() if name not in axes]


def _text(node: Node, path: str, problems: Problems) -> str:
    if isinstance(node.value, (dict, list)) or node.value is None:
        problems.error(node.mark, path, f"must be a text, a number or a boolean, not {describe(node)}")
        return ""
    return read_value_text(Node(as_written(node), node.mark), path, problems)


def as_written(node: Node) -> Any:
    """A scalar's text; a stored document has numbers without the text they had."""
    if node.value is None or isinstance(node.value, str):
        return node.value
    return node.plain or json.dumps(node.value)


def keep_as_written(root: Node, document: dict[str, Any]) -> None:
    """Put the text of every value of a matrix into `document`, which is `root` as plain JSON: `0.10` is not 0.1."""
    for name, job in _entries(root, "jobs"):
        for key, matrix in _entries(job, "strategy"):
            if key == "matrix":
                document["jobs"][name]["strategy"]["matrix"] = _texts(matrix)


def _entries(node: Node, key: str) -> list[tuple[str, Node]]:
    found = node.value.get(key) if isinstance(node.value, dict) else None
    return list(found.value.items()) if found and isinstance(found.value, dict) else []


def _texts(node: Node) -> Any:
    """`MAX_DEPTH` bounds the recursion."""
    if isinstance(node.value, dict):
        return {key: _texts(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [_texts(child) for child in node.value]
    return as_written(node)


Names = Mapping[str, tuple[str, ...]]
"""A job of the file with a matrix -> the jobs that it becomes."""


def names_of(jobs: Mapping[str, tuple[Mark, str, int]], problems: Problems) -> dict[str, tuple[str, ...]]:
    """`jobs`: name -> place and path of its matrix, and how many jobs that makes; 0: it has none.

    Notes names that are too long or taken, and too many jobs.
    """
    found: dict[str, tuple[str, ...]] = {}
    taken = set(jobs)
    total = 0
    for name, (mark, path, count) in jobs.items():
        if not count:
            continue
        total += count
        if total > MOST_TOGETHER:
            message = f"makes {total} jobs together with the matrices above, and a workflow may have {MOST_TOGETHER}"
            problems.error(mark, path, message, "split the workflow")
            return found
        found[name] = tuple(f"{name}-{number}" for number in range(1, count + 1))
        if PART.fullmatch(name) and not PART.fullmatch(found[name][-1]):
            message = f"the name {quoted(found[name][-1])} would be longer than 63 characters"
            problems.error(mark, path, message, "give the job a shorter name")
        for one in found[name]:
            if one in taken:
                hint = "give one of the two another name"
                problems.error(mark, path, f"{quoted(one)} is one of its jobs, and a job of this file already", hint)
        taken.update(found[name])
    return found


def needs_of(needs: Mapping[str, object], names: Names) -> tuple[str, ...]:
    return tuple(one for need in needs for one in names.get(need, (need,)))


def inputs_of(inputs: Mapping[str, Alias | Value], names: Names) -> dict[str, Alias | Value]:
    return {
        name: value.model_copy(update={"gather": names[value.job]})
        if isinstance(value, Alias) and value.job in names
        else value
        for name, value in inputs.items()
    }
