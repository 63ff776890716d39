"""One deployment: its rollout, its scale and its traffic, below them its replicas and its revisions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Label, Static

from appliance.client import Client, words
from appliance.errors import ApplianceError
from tui.asking import answer
from tui.dialogs import AskScreen, DetailScreen, LogScreen, PageScreen
from tui.feed import Feed
from tui.kinds import Cells, Document, age, first_line
from tui.table import LiveTable

PULSE_S = 1.0
TRAFFIC_EVERY = 5
"""Pulses between two looks at the traffic: it is counted from what is stored."""
REPLICAS = ("replica", "gen", "state", "in flight", "restarts", "detail")
REVISIONS = ("gen", "phase", "cause", "age", "image", "models", "detail")
BARS = "▁▂▃▄▅▆▇█"
IMAGE = 20
"""Characters of an image's name that a cell shows; its end tells most."""


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
    DeploymentScreen #head { padding: 0 1; height: auto; max-height: 7; }
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
        if event.data_table is self.replicas:
            self.action_logs()
        else:
            self.action_diff()

    def action_logs(self) -> None:
        """Of the replica under the cursor where the cursor is among them, else of all."""
        part = ""
        if self.focused is self.replicas:
            rows = self._document["status"].get("replicas", ())
            part = next((str(row["id"]) for row in rows if row["container"] == self.replicas.current), "")
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
        if item := await self._ask(lambda client: client.roll_back(self._of, to)):
            self.notify(f"generation {item['generation']} brings back generation {to}", markup=False)
            if doubts := words.doubts(row):
                self.notify(first_line(doubts), severity="warning", markup=False)
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


def head(item: Document, now: float) -> str:
    status = item["status"]
    lines = [
        f"deployment {item['name']}   {item['phase']}   {item['url']}",
        item["problem"] or words.message(item, now),
        words.rollout(status, now),
        words.asleep(status, now) or words.scale(status, now),
        words.held(status),
        *status.get("missing", ()),
    ]
    return "\n".join(first_line(line) for line in lines if line)


def replica(row: Document, now: float) -> Cells:
    under_way = "-" if row.get("in_flight") is None else str(row["in_flight"])
    told = first_line(words.replica(row, now))
    return (row["id"], str(row["generation"]), row["state"], under_way, str(row.get("restarts", 0)), told)


def revision(row: Document, now: float) -> Cells:
    image = first_line(row["image"])
    image = image if len(image) <= IMAGE else f"…{image[1 - IMAGE :]}"
    models = first_line(", ".join(row["models"])) or "-"
    told = first_line(words.revision(row))
    return (
        *(str(row["generation"]), row["phase"], first_line(words.cause(row))),
        *(age(row["created"], now), image, models, told),
    )


def traffic(found: Document, width: int) -> str:
    """In words, above a line of bars: the requests of each step, as many steps as there is room for."""
    counts = [int(step["requests"]) for step in found["steps"]]
    return f"requests: {words.traffic(found)}\n{bars(counts[-max(1, width) :])}"


def bars(counts: Sequence[int]) -> str:
    """The highest fills its line; what is not nothing is seen."""
    most = max(counts, default=0)
    return "".join(" " if not count else BARS[(count * len(BARS) - 1) // most] for count in counts)


def compared(revisions: Sequence[Document], under: Document | None) -> tuple[int, int] | None:
    """Generations, newest first in `revisions`; None: there is nothing to compare with."""
    if under is None or len(revisions) < 2:
        return None
    newest, before = int(revisions[0]["generation"]), int(revisions[1]["generation"])
    older = int(under["generation"])
    return (before, newest) if older == newest else (older, newest)


def difference(found: Document) -> str:
    lines = [first_line(line) for line in (*found["made_of"], *found["spec"])] or ["the same spec, image and models"]
    return "\n".join([f"generation {found['older']} -> {found['newer']}", "", *lines])
