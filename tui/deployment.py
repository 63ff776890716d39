"""One deployment: its rollout, its scale and its traffic, below them its replicas and its revisions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Label, Static

from appliance.client import Client, words
from appliance.errors import ApplianceError
from tui.asking import answer
from tui.deployed import (
    REPLICAS,
    REVISIONS,
    compared,
    difference,
    head,
    replica,
    replica_page,
    revision,
    revision_page,
    traffic,
    way_back,
)
from tui.dialogs import AskScreen, DetailScreen, LogScreen, PageScreen
from tui.feed import Feed
from tui.kinds import Document, first_line
from tui.table import LiveTable

PULSE_S = 1.0
TRAFFIC_EVERY = 5
"""Pulses between two looks at the traffic: it is counted from what is stored."""


class DeploymentScreen(Screen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "back"),
        Binding("l", "logs", "logs"),
        Binding("c", "scale", "scale"),
        Binding("R", "rollback", "roll back", tooltip="bring back the revision under the cursor"),
        Binding("t", "restart", "restart", tooltip="all replicas anew, image and models looked up again"),
        Binding("d", "diff", "diff", tooltip="what the revision under the cursor differs in from the newest"),
        Binding("v", "document", "document"),
        Binding("j", "down", show=False),
        Binding("k", "up", show=False),
    ]
    DEFAULT_CSS = """
    DeploymentScreen #top { padding: 0 1; height: auto; max-height: 9; }
    DeploymentScreen #head { width: 100%; height: auto; }
    DeploymentScreen #traffic { padding: 0 1; height: auto; max-height: 3; }
    DeploymentScreen #replicas { height: auto; max-height: 35%; }
    DeploymentScreen #revisions { height: 1fr; }
    """

    def __init__(self, feed: Feed, name: str) -> None:
        super().__init__()
        self._feed, self._of = feed, name
        self._document: Document = {}
        self._revisions: Sequence[Document] = ()
        self._pulses = 0

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="top", can_focus=False):  # its bar is the mark that there is more
            yield Label(f"deployment {self._of}: loading ...", id="head", markup=False)
        yield Static("", id="traffic", markup=False)
        yield LiveTable(REPLICAS, css_id="replicas")
        yield LiveTable(REVISIONS, css_id="revisions")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.revisions.focus()
        self.set_interval(PULSE_S, self.load)
        self.load()

    @property
    def replicas(self) -> LiveTable:
        return self.query_one("#replicas", LiveTable)

    @property
    def revisions(self) -> LiveTable:
        return self.query_one("#revisions", LiveTable)

    @property
    def revision(self) -> Document | None:
        """The one under the cursor."""
        return next((row for row in self._revisions if str(row["generation"]) == self.revisions.current), None)

    @property
    def replica(self) -> Document | None:
        """The one under the cursor."""
        rows: Sequence[Document] = self._document.get("status", {}).get("replicas", ())
        return next((row for row in rows if row["container"] == self.replicas.current), None)

    @work(exclusive=True, group="load", exit_on_error=False)
    async def load(self) -> None:
        """Ask again. Without a daemon what was known stays, and the head says so."""
        try:
            self._document = await self._feed.call(lambda client: client.get("deployments", self._of))
            self._revisions = await self._feed.call(lambda client: client.revisions(self._of))
        except ApplianceError as error:
            self.query_one("#head", Label).update(f"deployment {self._of}: {first_line(error.message)}: asking again")
            return
        now = time.time()
        self.query_one("#head", Label).update(head(self._document, now))
        replicas = {row["container"]: replica(row, now) for row in self._document["status"].get("replicas", ())}
        self.replicas.show(replicas)
        self.replicas.display = bool(replicas)
        self.revisions.show({str(row["generation"]): revision(row, now) for row in self._revisions})
        self.refresh_bindings()
        if self._pulses % TRAFFIC_EVERY == 0:
            await self._load_traffic()
        self._pulses += 1

    async def _load_traffic(self) -> None:
        try:
            found = await self._feed.call(lambda client: client.traffic(self._of))
            told = traffic(found, self.size.width - 2)
        except ApplianceError as error:
            told = f"requests: not known: {first_line(error.message)}"
        self.query_one("#traffic", Static).update(told)

    # -- doing

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key is offered only where it would do something."""
        if action in ("diff", "rollback"):
            return len(self._revisions) > 1
        return True

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """The row in full: its cells show what fits."""
        now = time.time()
        if event.data_table is self.revisions:
            if row := self.revision:
                self.app.push_screen(PageScreen(revision_page(row, now)))
        elif row := self.replica:
            self.app.push_screen(PageScreen(replica_page(row, now)))

    def action_logs(self) -> None:
        """Of the replica under the cursor where the cursor is among them, else of all."""
        row = self.replica if self.focused is self.replicas else None
        part = str(row["id"]) if row else ""
        self.app.push_screen(LogScreen(self._feed, "deployment", self._of, part))

    def action_document(self) -> None:
        if self._document:
            self.app.push_screen(DetailScreen(self._document))

    @work(exit_on_error=False)
    async def action_scale(self) -> None:
        given = await self.app.push_screen_wait(AskScreen(f"How many replicas of {self._of}?"))
        if not given:
            return
        if not (given.isascii() and given.isdigit() and len(given) < 4):
            self.notify(f"not a number of replicas: {given}", severity="warning", markup=False)
            return
        count = int(given)
        if item := await self._ask(lambda client: client.scale(self._of, count)):
            self.notify(f"{words.replicas(count)} in generation {item['generation']}", markup=False)
            self.load()

    @work(exit_on_error=False)
    async def action_rollback(self) -> None:
        """It makes a new generation, so that a rollback of the rollback is another one."""
        if not (row := self.revision):
            return
        to = int(row["generation"])
        question = way_back(self._of, self._revisions, row, time.time())
        if not await self.app.push_screen_wait(AskScreen(question, must="yes")):
            return
        if item := await self._ask(lambda client: client.roll_back(self._of, to)):
            self.notify(f"generation {item['generation']} brings back generation {to}", markup=False)
            self.load()

    @work(exit_on_error=False)
    async def action_restart(self) -> None:
        if item := await self._ask(lambda client: client.restart(self._of)):
            self.notify(f"generation {item['generation']} begins afresh", markup=False)
            self.load()

    @work(exit_on_error=False)
    async def action_diff(self) -> None:
        """From the revision under the cursor to the newest; from the one before it where that is the newest."""
        pair = compared(self._revisions, self.revision)
        if pair is None:
            return
        older, newer = pair
        if found := await self._ask(lambda client: client.revision_diff(self._of, older, newer)):
            await self.app.push_screen(PageScreen(difference(found)))

    def action_down(self) -> None:
        self._table.action_cursor_down()

    def action_up(self) -> None:
        self._table.action_cursor_up()

    @property
    def _table(self) -> LiveTable:
        return self.replicas if self.focused is self.replicas else self.revisions

    async def _ask(self, ask: Callable[[Client], Any]) -> Any:
        return await answer(self, self._feed, ask)
