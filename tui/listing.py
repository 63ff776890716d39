"""A list of one kind, live: rows change in place, so that the cursor and the scroll stay where the user left them."""

from __future__ import annotations

import time
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Static

from tui.kinds import Document, Kind, matches, subject
from tui.table import LiveTable

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
        yield LiveTable(self.kind.columns)

    def on_mount(self) -> None:
        self.table.display = False

    @property
    def table(self) -> LiveTable:
        return self.query_one(LiveTable)

    @property
    def current(self) -> Document | None:
        """The document under the cursor."""
        return (self._documents or {}).get(self.table.current)

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
        self.table.show(shown)
        note = self.query_one(Static)
        if not rows:
            note.update(self.kind.empty)
        elif not shown:
            note.update(f"0 of {len(rows)} match {wanted!r}. esc clears the filter.")
        note.display = not shown
        self.table.display = bool(shown)
