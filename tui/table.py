"""A table that is filled anew every second, and whose cursor and scroll stay where the user left them.

Its last column takes the room that is left, and ends in an ellipsis where that is too little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable
from textual.widgets.data_table import ColumnKey

from tui.kinds import Cells, style

LEAST_ROOM = 8
"""Characters of the last column, below which the table is scrolled sideways instead."""


class LiveTable(DataTable[Text]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "open")]

    def __init__(self, columns: Cells, *, css_id: str | None = None) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True, id=css_id)
        self._names = columns
        self._rows: Mapping[str, Cells] = {}
        """As they were given, before they were fitted."""

    def on_mount(self) -> None:
        for name in self._names:
            self.add_column(name.upper(), key=name)

    @property
    def current(self) -> str:
        """Key of the row under the cursor; empty where there is none."""
        if not self.row_count or not self.display:
            return ""
        return str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value)

    def _widen(self, rows: Mapping[str, Cells]) -> None:
        """The table itself looks at widths when it is idle, and until then would cut each cell to its heading."""
        for at, name in enumerate(self._names):
            widest = max((cell_len(cells[at]) for cells in rows.values()), default=0)
            self.columns[ColumnKey(name)].content_width = max(len(name), widest)

    def on_resize(self) -> None:
        self.show(self._rows)

    def show(self, rows: Mapping[str, Cells]) -> None:
        """Only what differs. Another order means other rows above, so then the table is filled anew."""
        self._rows, rows = rows, fitted(rows, self._names, self.scrollable_content_region.width, self.cell_padding)
        present = [str(key.value) for key in self.rows]
        if present != list(rows):
            at = present[self.cursor_row] if self.is_valid_row_index(self.cursor_row) else ""
            self.clear()
            self._widen(rows)
            for key, cells in rows.items():
                self.add_row(*(Text(cell, style(cell)) for cell in cells), key=key)
            if at in rows:
                self.move_cursor(row=list(rows).index(at))
            return
        for key, cells in rows.items():
            for column, cell in zip(self._names, cells, strict=True):
                if self.get_cell(key, column).plain != cell:
                    self.update_cell(key, column, Text(cell, style(cell)), update_width=True)


def fitted(rows: Mapping[str, Cells], names: Cells, width: int, padding: int) -> Mapping[str, Cells]:
    """With last cells that fit into `width`, each cell with `padding` at both sides; else as they are, to be scrolled.

    Pure.
    """
    cells = [names, *rows.values()]
    before = [max(cell_len(line[at]) for line in cells) for at in range(len(names) - 1)]
    room = width - sum(before) - 2 * padding * len(names)
    if room < LEAST_ROOM:
        return rows
    return {key: (*line[:-1], _short(line[-1], room)) for key, line in rows.items()}


def _short(text: str, room: int) -> str:
    return text if cell_len(text) <= room else f"{set_cell_size(text, room - 1).rstrip()}…"
