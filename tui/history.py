"""The past of one notebook: its timeline, beside it what has changed since the moment under the cursor.

The diff of a moment is asked for when the cursor has rested on it, is shown as it comes, and is given up as soon as
the cursor moves on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Label, Static

from appliance.client import Client
from appliance.errors import ApplianceError
from tui.asking import answer
from tui.dialogs import AskScreen, TextScreen
from tui.feed import Feed
from tui.kinds import Document, age, first_line

COLUMNS = ("time", "cause", "changed", "by", "message")
SETTLE_S = 0.3
"""The cursor has rested so long on a moment that its diff is worth asking for."""
MOST_CHANGES = 500
MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "renamed": (">", "cyan")}


class HistoryScreen(Screen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "back"),
        Binding("s", "snapshot", "snapshot"),
        Binding("R", "rollback", "roll back"),
        Binding("u", "undo", "undo"),
        Binding("r", "restore", "restore a file"),
        Binding("F", "fork", "fork"),
        Binding("h", "hold", "hold or release"),
        Binding("d", "file", "diff of a file"),
        Binding("j", "down", show=False),
        Binding("k", "up", show=False),
    ]
    DEFAULT_CSS = """
    HistoryScreen Horizontal { height: 1fr; }
    HistoryScreen DataTable { width: 3fr; }
    HistoryScreen #beside { width: 2fr; border-left: solid $primary; padding: 0 1; overflow-y: auto; }
    HistoryScreen .note { color: $text-muted; }
    """

    def __init__(self, feed: Feed, notebook: str) -> None:
        super().__init__()
        self._feed, self._notebook = feed, notebook
        self._moments: dict[str, Document] = {}

    def compose(self) -> ComposeResult:
        yield Label(f"history of notebook/{self._notebook}, newest first", markup=False)
        with Horizontal():
            yield DataTable(cursor_type="row", zebra_stripes=True)
            with Vertical(id="beside"):
                yield Label("", id="title", classes="note", markup=False)
                yield Static("", id="changes", markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        for column in COLUMNS:
            self.table.add_column(column.upper(), key=column)
        self.table.focus()
        self.load()

    @property
    def table(self) -> DataTable[Text]:
        return self.query_one(DataTable)

    @property
    def moment(self) -> Document | None:
        """The one under the cursor."""
        if not self.table.row_count:
            return None
        key = self.table.coordinate_to_cell_key(self.table.cursor_coordinate).row_key.value
        return self._moments.get(str(key))

    @work(exclusive=True, group="load", exit_on_error=False)
    async def load(self) -> None:
        """The timeline anew; the cursor stays on its moment."""
        moments = await self._ask(lambda client: client.history(self._notebook))
        if moments is None:
            return
        at = self.moment
        self._moments = {row["id"]: row for row in moments}
        self.table.clear()
        for row in moments:
            self.table.add_row(*(Text(cell) for cell in cells(row, time.time())), key=row["id"])
        if at and at["id"] in self._moments:
            self.table.move_cursor(row=list(self._moments).index(at["id"]))
        if not moments:
            self._title("no moments yet: the first one is kept when the notebook starts, or press s")

    # -- the diff beside it

    def on_data_table_row_highlighted(self) -> None:
        if moment := self.moment:
            self.show_changes(str(moment["id"]))

    @work(exclusive=True, group="diff", exit_on_error=False)
    async def show_changes(self, moment: str) -> None:
        await asyncio.sleep(SETTLE_S)
        self._title(f"since {moment}: comparing ...")
        shown: list[Text] = []
        view = self.query_one("#changes", Static)
        view.update("")
        try:
            async for batch in self._feed.stream(
                lambda client: client.diff(self._notebook, moment, "now", limit=MOST_CHANGES)
            ):
                shown += [change_line(row) for row in batch if "change" in row]
                view.update(Text("\n").join(shown))
                for end in (row for row in batch if "end" in row):
                    self._title(summary(moment, end))
        except ApplianceError as error:
            self._title(first_line(error.message))

    def _title(self, text: str) -> None:
        self.query_one("#title", Label).update(text)

    # -- doing

    @work(exit_on_error=False)
    async def action_snapshot(self) -> None:
        message = await self.app.push_screen_wait(AskScreen("Message of the snapshot (may be empty, esc cancels):"))
        if message is not None:
            await self._do("snapshot", {"message": message}, "kept as it is")

    @work(exit_on_error=False)
    async def action_rollback(self) -> None:
        if not (moment := self.moment):
            return
        question = f"Roll {self._notebook} back to {moment['id']}: what is there is kept, u undoes it. Type yes:"
        if await self.app.push_screen_wait(AskScreen(question, must="yes")):
            await self._do("rollback", {"snapshot": moment["id"]}, "rolled back; u undoes it")

    @work(exit_on_error=False)
    async def action_undo(self) -> None:
        await self._do("undo", {}, "the last rollback is undone")

    @work(exit_on_error=False)
    async def action_restore(self) -> None:
        if not (moment := self.moment):
            return
        path = await self.app.push_screen_wait(AskScreen(f"File or folder to bring back from {moment['id']}:"))
        if path:
            asked = {"snapshot": moment["id"], "path": path}
            await self._do("restore", asked, f"{path} is as it was then; the bytes it replaced are in a snapshot")

    @work(exit_on_error=False)
    async def action_fork(self) -> None:
        if not (moment := self.moment):
            return
        name = await self.app.push_screen_wait(AskScreen(f"Name of the notebook forked from {moment['id']}:"))
        if name:
            await self._do("fork", {"name": name, "snapshot": moment["id"]}, f"{name} is there; start it when you like")

    @work(exit_on_error=False)
    async def action_hold(self) -> None:
        if not (moment := self.moment):
            return
        snapshot, held = str(moment["id"]), bool(moment["held"])

        def change(client: Client) -> bool:
            if held:
                client.release(self._notebook, snapshot)
            else:
                client.hold(self._notebook, snapshot)
            return True

        if await self._ask(change):
            self.notify("released" if held else "held: it is never pruned", markup=False)
            self.load()

    @work(exit_on_error=False)
    async def action_file(self) -> None:
        if not (moment := self.moment):
            return
        path = await self.app.push_screen_wait(AskScreen(f"File to compare with {moment['id']}:"))
        if not path:
            return
        found = await self._ask(lambda client: client.diff_file(self._notebook, path, str(moment["id"]), "now"))
        if found is not None:
            await self.app.push_screen(TextScreen(file_text(found)))

    def action_down(self) -> None:
        self.table.action_cursor_down()

    def action_up(self) -> None:
        self.table.action_cursor_up()

    async def _do(self, verb: str, body: Document, told: str) -> None:
        def act(client: Client) -> bool:
            client.act("notebooks", self._notebook, verb, body)
            return True

        if await self._ask(act):
            self.notify(told, markup=False)
            self.load()

    async def _ask(self, ask: Callable[[Client], Any]) -> Any:
        return await answer(self, self._feed, ask)


def cells(row: Document, now: float) -> tuple[str, ...]:
    changed = "" if row["bytes"] is None else size(row["bytes"])
    held = "[held] " if row["held"] else ""
    text = " ".join(part for part in (row["subject"], row["message"]) if part)
    return (
        f"{age(row['created'], now)} ago",
        row["cause"],
        changed,
        first_line(row["author"]),
        held + first_line(text),
    )


def change_line(row: Document) -> Text:
    mark, colour = MARKS.get(row["change"], ("?", ""))
    path = f"{first_line(row['was'])} -> {first_line(row['path'])}" if row.get("was") else first_line(row["path"])
    before, after = row["before"], row["after"]
    grown = "" if before is None or after is None or before == after else f"  {size(before)} -> {size(after)}"
    return Text.assemble((f"{mark} ", colour), path, (grown, "dim"))


def summary(moment: str, end: Document) -> str:
    cut = f"; not whole: {first_line(end['cut'])}" if end["cut"] else ""
    return (
        f"since {moment}: {end['changes']} changes{cut}" if end["changes"] else f"nothing changed since {moment}{cut}"
    )


def size(count: int) -> str:
    """Decimal units, as the CLI writes them."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def file_text(found: Document) -> str:
    """A file's diff as plain lines; of a notebook cell by cell."""
    lines = [first_line(found["path"]), *([found["note"]] if found["note"] else [])]
    if found["same"]:
        lines.append("nothing changed")
    for hunk in found["hunks"]:
        lines += ["", *map(first_line, hunk["lines"])]
    for cell in found["cells"]:
        lines += ["", f"cell {cell['now'] or cell['was']} ({cell['type']}) {cell['change']}"]
        lines += [f"  {first_line(line)}" for hunk in cell["hunks"] for line in hunk["lines"]]
        if cell["outputs_changed"]:
            lines.append(f"  outputs: {cell['outputs_before'] or 'none'} -> {cell['outputs_after'] or 'none'}")
    return "\n".join(lines)
