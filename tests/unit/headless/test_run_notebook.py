"""The program that executes notebooks: what needs no kernel."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.headless.inside import run_notebook
from appliance.headless.inside.run_notebook import merge

PIECES = st.lists(st.tuples(st.sampled_from(["stdout", "stderr", "display"]), st.text(min_size=1, max_size=5)))


def output(kind: str, text: str) -> dict[str, Any]:
    if kind == "display":
        return {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}
    return {"output_type": "stream", "name": kind, "text": text}


def came(pieces: list[tuple[str, str]]) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = []
    for kind, text in pieces:
        outputs.append(output(kind, text))
        merge(outputs)
    return outputs


@given(PIECES)
def test_pieces_of_one_stream_become_one_and_nothing_is_lost(pieces: list[tuple[str, str]]) -> None:
    expected = []
    for kind, group in groupby(pieces, key=lambda piece: piece[0]):
        texts = [text for _, text in group]
        expected += [output(kind, text) for text in texts] if kind == "display" else [output(kind, "".join(texts))]
    assert came(pieces) == expected


def test_hours_of_printing_are_few_outputs_of_bounded_size() -> None:
    outputs = came([("stdout", "x" * 100)] * 10_000)
    assert sum(len(one["text"]) for one in outputs) == 1_000_000
    assert len(outputs) < 20
    assert all(len(one["text"]) < run_notebook.LARGEST_PIECE + 100 for one in outputs)
