"""A list of one kind, live: rows change in place, so that the cursor and the scroll stay where the user left them."""

from __future__ import annotations

import time
from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable, Input, Static

from tui.kinds import Document, Kind, matches, style, subject

MOST_ROWS = 500


class Listing(Vertical):
    """`show` takes the newest documents; the app decides when to ask for them."""

    DEFAULT_CSS = """
    Listing { height: 1fr; }
    Listing DataTable { height: 1fr; }
    Listing .note { padding: 1 2; color: $text-muted; }
    Listing Input { display: none; border: none; height: 1; }
    Listing.filtering Input { display: block; }
    """

    def __init__(self, kind: Kind) -> None:
        super().__init__(id=kind.name)
        self.kind = kind
        self._documents: dict[str, Document] | None = None

    def compose(self) -> ComposeResult:
        yield Input(placeholder="filter: words, !word for those without it; esc clears")
        yield Static("loading ...", classes="note", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=True)

    def on_mount(self) -> None:
        table = self.table
        for column in self.kind.columns:
            table.add_column(column.upper(), key=column)
        table.display = False

    @property
    def table(self) -> DataTable[Text]:
        return self.query_one(DataTable)

    @property
    def current(self) -> Document | None:
        """The document under the cursor."""
        table = self.table
        if not self._documents or not table.row_count or not table.display:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return self._documents.get(str(key))

    def show(self, documents: list[Any]) -> None:
        self._documents = {f"{subject(row)}#{row.get('id', '')}": row for row in documents[:MOST_ROWS]}
        self._refresh_rows()

    def filter(self) -> None:
        self.add_class("filtering")
        self.query_one(Input).focus()

    def clear_filter(self) -> None:
        self.query_one(Input).value = ""
        self.remove_class("filtering")
        self.table.focus()

    def on_input_changed(self) -> None:
        self._refresh_rows()

    def on_input_submitted(self) -> None:
        self.table.focus()

    def _refresh_rows(self) -> None:
        if self._documents is None:
            return
        wanted = self.query_one(Input).value
        now = time.time()
        rows = {key: self.kind.cells(row, now) for key, row in self._documents.items()}
        shown = {key: cells for key, cells in rows.items() if matches(cells, wanted)}
        self._change(shown)
        note = self.query_one(Static)
        if not rows:
            note.update(self.kind.empty)
        elif not shown:
            note.update(f"0 of {len(rows)} match {wanted!r}. esc clears the filter.")
        note.display = not shown
        self.table.display = bool(shown)

    def _change(self, shown: dict[str, tuple[str, ...]]) -> None:
        """Only what differs. Another order means other rows above, so then the table is filled anew."""
        table = self.table
        present = [str(key.value) for key in table.rows]
        if present != list(shown):
            at = present[table.cursor_row] if table.is_valid_row_index(table.cursor_row) else ""
            table.clear()
            for key, cells in shown.items():
                table.add_row(*(Text(cell, style(cell)) for cell in cells), key=key)
            if at in shown:
                table.move_cursor(row=list(shown).index(at))
            return
        for key, cells in shown.items():
            for column, cell in zip(self.kind.columns, cells, strict=True):
                if table.get_cell(key, column).plain != cell:
                    table.update_cell(key, column, Text(cell, style(cell)), update_width=True)
