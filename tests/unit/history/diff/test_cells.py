"""Cells: each is told as a person would, whether the ids say so or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.history.diff import cells, outputs

EXAMPLES = Path(__file__).parents[4] / "specs" / "examples"
SOURCES = (
    "import torch\nimport numpy as np",
    "# Training\nWe train on digits.",
    "model = Net()\noptimizer = Adam(model.parameters(), lr=1e-3)",
    "for epoch in range(10):\n    loss = train(model)\n    print(epoch, loss)",
    "plt.plot(losses)\nplt.show()",
    "torch.save(model, 'model.pt')",
)


def notebook(*sources: str, ids: str | list[str] = "", **more: Any) -> cells.Notebook:
    """`ids`: none, or one for each source; of a text its characters."""
    made: list[dict[str, Any]] = [
        {
            "cell_type": "markdown" if source.startswith("# ") else "code",
            "source": source.splitlines(keepends=True),
            "metadata": {},
            "outputs": [],
            **({"id": ids[number]} if ids else {}),
        }
        for number, source in enumerate(sources)
    ]
    return cells.read({"cells": made, "metadata": {}, "nbformat": 4, **more})


def told(before: cells.Notebook, after: cells.Notebook) -> list[tuple[str, int | None, int | None]]:
    return [(change["change"], change["was"], change["now"]) for change in cells.compare(before, after).cells]


def test_nothing_differs() -> None:
    found = cells.compare(notebook(*SOURCES), notebook(*SOURCES, ids="abcdef"))
    assert (found.cells, found.unchanged, found.metadata) == ([], 6, [])


@pytest.mark.parametrize("ids", ["", "abcdef"])
def test_an_inserted_cell_is_one_addition(ids: str) -> None:
    after = notebook(SOURCES[0], "x = 1", *SOURCES[1:], ids=ids and "aXbcdef")
    assert told(notebook(*SOURCES, ids=ids), after) == [("added", None, 2)]


@pytest.mark.parametrize("ids", ["", "abcdef"])
def test_a_removed_cell_is_one_removal_in_its_place(ids: str) -> None:
    after = notebook(*SOURCES[:2], *SOURCES[3:], ids=ids and "abdef")
    assert told(notebook(*SOURCES, ids=ids), after) == [("removed", 3, None)]


@pytest.mark.parametrize("ids", ["", "abcdef"])
def test_an_edited_cell_shows_its_lines(ids: str) -> None:
    changed = SOURCES[3].replace("10", "20")
    found = cells.compare(notebook(*SOURCES, ids=ids), notebook(*SOURCES[:3], changed, *SOURCES[4:], ids=ids))
    [change] = found.cells
    assert (change["change"], change["was"], change["now"], found.unchanged) == ("changed", 4, 4, 5)
    assert change["hunks"][0]["lines"][:2] == ["-for epoch in range(10):", "+for epoch in range(20):"]


@pytest.mark.parametrize("ids", ["", "abcdef"])
def test_a_line_added_at_the_end_of_a_cell_is_one_line(ids: str) -> None:
    after = notebook(SOURCES[0] + "\nimport os", *SOURCES[1:], ids=ids)
    [change] = cells.compare(notebook(*SOURCES, ids=ids), after).cells
    assert change["hunks"][0]["lines"] == [" import torch", " import numpy as np", "+import os"]


@pytest.mark.parametrize("ids", ["", "abcdef"])
def test_a_moved_cell_is_told_once(ids: str) -> None:
    order = [5, 0, 1, 2, 3, 4]
    after = notebook(*(SOURCES[at] for at in order), ids=ids and [ids[at] for at in order])
    found = cells.compare(notebook(*SOURCES, ids=ids), after)
    assert told(notebook(*SOURCES, ids=ids), after) == [("moved", 6, 1)]
    assert found.cells[0]["notes"] == ["moved from 6 to 1"]


@pytest.mark.parametrize("ids", ["", "abcdef"])
def test_a_cell_that_moved_and_changed(ids: str) -> None:
    longer = SOURCES[3] + "\n    log(loss)"
    order = [3, 0, 1, 2, 4, 5]
    sources = [longer, *(SOURCES[at] for at in order[1:])]
    [change] = cells.compare(
        notebook(*SOURCES, ids=ids), notebook(*sources, ids=ids and [ids[at] for at in order])
    ).cells
    assert (change["change"], change["was"], change["now"]) == ("changed", 4, 1)
    assert "+    log(loss)" in change["hunks"][0]["lines"]


def test_an_id_stays_with_its_cell_when_all_of_it_is_rewritten() -> None:
    after = notebook(*SOURCES[:2], "something(else_)", *SOURCES[3:], ids="abcdef")
    assert told(notebook(*SOURCES, ids="abcdef"), after) == [("changed", 3, 3)]


def test_ids_that_are_made_anew_do_not_matter() -> None:
    after = notebook(*SOURCES[:3], SOURCES[3].replace("10", "20"), *SOURCES[4:], ids="uvwxyz")
    assert told(notebook(*SOURCES, ids="abcdef"), after) == [("changed", 4, 4)]


def test_ids_that_are_numbers_do_not_shift_everything() -> None:
    names = [f"cell-{number}" for number in range(7)]
    after = notebook(SOURCES[0], "x = 1", *SOURCES[1:], ids=names)
    assert told(notebook(*SOURCES, ids=names[:6]), after) == [("added", None, 2)]


def test_a_copy_that_is_edited_leaves_the_original_alone() -> None:
    after = notebook(*SOURCES[:4], SOURCES[3].replace("10", "99"), *SOURCES[4:], ids="abcdXef")
    assert told(notebook(*SOURCES, ids="abcdef"), after) == [("added", None, 5)]


def test_same_cells_twice_are_not_confused() -> None:
    twice = ("plt.show()", "x = 1", "plt.show()", "y = 2")
    assert told(notebook(*twice), notebook("plt.show()", "x = 1", "y = 2")) == [("removed", 3, None)]


def test_a_new_and_a_removed_notebook() -> None:
    whole = notebook(*SOURCES[:2], metadata={"kernelspec": {"name": "python3"}})
    assert told(cells.EMPTY, whole) == [("added", None, 1), ("added", None, 2)]
    assert told(whole, cells.EMPTY) == [("removed", 1, None), ("removed", 2, None)]
    assert cells.compare(cells.EMPTY, whole).metadata == []


def with_outputs(*given: Any, count: int = 1, **metadata: Any) -> cells.Notebook:
    cell = {
        "cell_type": "code",
        "source": "train()",
        "execution_count": count,
        "metadata": metadata,
        "outputs": list(given),
    }
    return cells.read({"cells": [cell]})


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)}


def test_another_run_with_the_same_outputs_is_folded() -> None:
    one = with_outputs({"output_type": "execute_result", "execution_count": 1, "data": {"text/plain": ["7"]}})
    two = with_outputs(
        {"output_type": "execute_result", "execution_count": 9, "data": {"text/plain": "7"}},
        count=9,
        execution={"iopub.execute_input": "2026-01-01"},
    )
    found = cells.compare(one, two)
    assert found.cells == []
    assert found.metadata == ["1 cell executed again with the same outputs"]


def test_how_a_stream_was_cut_does_not_matter() -> None:
    assert cells.compare(with_outputs(stream("a\n"), stream("b\n")), with_outputs(stream("a\nb\n"))).cells == []


def test_where_an_object_was_in_memory_does_not_matter() -> None:
    one, two = (
        with_outputs({"output_type": "execute_result", "data": {"text/plain": [f"<Line2D at 0x7f{end}>"]}})
        for end in ("489b9256d0", "9739442090")
    )
    assert cells.compare(one, two).cells == []


def test_outputs_are_folded_to_one_line() -> None:
    picture = {"output_type": "display_data", "data": {"image/png": "A" * 40_000, "text/plain": "<Figure>"}}
    before = with_outputs(stream("accuracy 0.97\n"))
    [change] = cells.compare(before, with_outputs(stream("1\n2\n3\n"), picture)).cells
    assert change["change"] == "changed"
    assert change["hunks"] == []
    assert change["outputs_changed"]
    assert change["outputs_before"] == "1 output: stdout 'accuracy 0.97'"
    assert change["outputs_after"] == "2 outputs: stdout 3 lines, image/png 30.0 kB"


def test_an_error_is_told() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no\nsuch", "traceback": ["\x1b[31mx"]}
    assert outputs.describe([error]) == "1 output: error ValueError: no such"


def test_metadata_that_counts() -> None:
    before, after = with_outputs(), with_outputs(tags=["parameters"])
    [change] = cells.compare(before, after).cells
    assert change["notes"] == ["metadata: tags"]
    one = cells.read({"cells": [], "metadata": {"kernelspec": {"name": "python3"}}, "nbformat_minor": 4})
    two = cells.read({"cells": [], "metadata": {"kernelspec": {"name": "ir"}}, "nbformat_minor": 5})
    assert cells.compare(one, two).metadata == ["kernelspec.name: python3 -> ir", "nbformat_minor: 4 -> 5"]


def test_the_third_format() -> None:
    old = cells.read({"worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1", "prompt_number": 3}]}]})
    assert [(cell.type, cell.source) for cell in old.cells] == [("code", "x = 1")]


def test_the_example() -> None:
    document = json.loads((EXAMPLES / "digits.ipynb").read_text())
    before = cells.read(document)
    document["cells"].append({"cell_type": "code", "source": "1 + 1", "metadata": {}, "outputs": []})
    assert told(before, cells.read(document)) == [("added", None, len(document["cells"]))]


def test_source_lines_are_bounded() -> None:
    before, after = notebook("a\n" * 50, "z"), notebook("b\n" * 50, "y")
    found = cells.compare(before, after, most=20)
    assert sum(len(hunk["lines"]) for cell in found.cells for hunk in cell["hunks"]) == 20
    assert found.note == "cut after 20 lines of source"


def test_hundreds_of_unlike_cells_end_in_time() -> None:
    before = notebook(*(f"a{n} = {n}\n" * 20 for n in range(600)))
    after = notebook(*(f"b{n} = {n + 1000}\n" * 20 for n in range(600)))
    assert len(cells.compare(before, after).cells) > 0


KEYS = [
    "cells",
    "source",
    "outputs",
    "data",
    "metadata",
    "id",
    "cell_type",
    "text",
    "output_type",
    "name",
    "text/plain",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5), max_size=4), JSON)
def test_any_json_is_a_notebook_or_none(made: list[Any], other: Any) -> None:
    """Documents are foreign: whatever they hold, there is an answer."""
    one = cells.read({"cells": made, "metadata": other})
    try:
        two = cells.read(other)
    except cells.NotANotebook:
        two = one
    json.dumps(cells.compare(one, two))
    json.dumps(cells.compare(cells.EMPTY, one))


SHUFFLED = st.permutations(range(6))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SHUFFLED, st.booleans())
def test_a_new_order_only_moves(order: list[int], named: bool) -> None:
    ids = "abcdef" if named else ""
    after = notebook(*(SOURCES[at] for at in order), ids=ids and [ids[at] for at in order])
    found = told(notebook(*SOURCES, ids=ids), after)
    assert {change for change, _, _ in found} <= {"moved"}
    assert all(was is not None and now is not None and order[now - 1] == was - 1 for _, was, now in found)
