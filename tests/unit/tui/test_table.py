"""The last column has the room that is left: what does not fit into it ends in a mark."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.table import LEAST_ROOM, fitted

NAMES = ("name", "detail")
CELLS = st.tuples(st.text("ab日", max_size=12), st.text("abc日 ", max_size=60))


@given(st.dictionaries(st.text(max_size=3), CELLS, max_size=5), st.integers(0, 80), st.integers(0, 2))
def test_a_row_fits_or_the_table_is_as_it_was(rows: Mapping[str, tuple[str, str]], width: int, padding: int) -> None:
    found = fitted(rows, NAMES, width, padding)
    assert list(found) == list(rows)
    first = max([len("name"), *(cell_len(name) for name, _ in rows.values())])
    room = width - first - 4 * padding
    if room < LEAST_ROOM:
        assert found == rows
        return
    for key, (name, detail) in found.items():
        assert name == rows[key][0]
        assert cell_len(detail) <= room
        if detail != rows[key][1]:
            assert detail.endswith("…")
            assert cell_len(rows[key][1]) > room
            assert rows[key][1].startswith(detail[:-1])
