"""One run: its jobs as they go, below them all that is known of the job under the cursor."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Label, Static

from appliance.client import Client
from appliance.errors import ApplianceError
from tui.asking import answer
from tui.dialogs import AskScreen, DetailScreen, LogScreen, TextScreen
from tui.feed import Feed
from tui.kinds import Cells, Document, age, first_line
from tui.table import LiveTable

PULSE_S = 1.0
COLUMNS = ("job", "phase", "took", "needs", "detail")
MOST_NEEDS = 3
IMAGE_ID = len("sha256:") + 12
"""Characters of an image's id that people compare."""


class RunScreen(Screen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "back"),
        Binding("l", "logs", "logs"),
        Binding("L", "all_logs", "all logs"),
        Binding("x", "cancel", "cancel"),
        Binding("e", "again('resume')", "resume"),
        Binding("y", "again('replay')", "replay"),
        Binding("n", "notebook", "notebook", tooltip="notebook of the job"),
        Binding("d", "document", "document"),
        Binding("j", "down", show=False),
        Binding("k", "up", show=False),
    ]
    DEFAULT_CSS = """
    RunScreen #head { padding: 0 1; height: auto; max-height: 4; }
    RunScreen LiveTable { height: 1fr; }
    RunScreen VerticalScroll { height: auto; max-height: 40%; border-top: solid $primary; padding: 0 1; }
    RunScreen VerticalScroll Static { height: auto; }
    """

    def __init__(self, feed: Feed, name: str) -> None:
        super().__init__()
        self._feed, self._of = feed, name
        self._document: Document = {}

    def compose(self) -> ComposeResult:
        yield Label(f"run {self._of}: loading ...", id="head", markup=False)
        yield LiveTable(COLUMNS)
        with VerticalScroll(can_focus=False):
            yield Static("", id="job", markup=False)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.table.focus()
        self.set_interval(PULSE_S, self.load)
        self.load()

    @property
    def table(self) -> LiveTable:
        return self.query_one(LiveTable)

    @property
    def job(self) -> Document | None:
        """The one under the cursor."""
        return next((job for job in self._document.get("jobs", ()) if job["name"] == self.table.current), None)

    @work(exclusive=True, group="load", exit_on_error=False)
    async def load(self) -> None:
        """Ask again. Without a daemon what was known stays, and the head says so."""
        try:
            self._document = await self._feed.call(lambda client: client.get("runs", self._of))
        except ApplianceError as error:
            self.query_one("#head", Label).update(f"run {self._of}: {first_line(error.message)}: asking again")
            return
        now = time.time()
        self.query_one("#head", Label).update(head(self._document, now))
        self.table.show({job["name"]: cells(job, now) for job in self._document["jobs"]})
        self._show_job()

    def on_data_table_row_highlighted(self) -> None:
        self._show_job()

    def _show_job(self) -> None:
        self.query_one("#job", Static).update(about(job) if (job := self.job) else "")
        self.refresh_bindings()

    # -- doing

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key is offered only where it would do something."""
        if action == "cancel":
            return bool(self._document) and not self._document["finished"]
        if action == "again":
            over = bool(self._document) and bool(self._document["finished"])
            return over and (parameters != ("resume",) or self._document["phase"] != "Succeeded")
        return action != "notebook" or bool(self.job and self.job["capsule"])

    def on_data_table_row_selected(self) -> None:
        self.action_logs()

    def action_logs(self) -> None:
        if job := self.job:
            self.app.push_screen(LogScreen(self._feed, "run", self._of, str(job["name"])))

    def action_all_logs(self) -> None:
        self.app.push_screen(LogScreen(self._feed, "run", self._of))

    def action_document(self) -> None:
        if self._document:
            self.app.push_screen(DetailScreen(self._document))

    @work(exit_on_error=False)
    async def action_cancel(self) -> None:
        if await self._ask(lambda client: client.act("runs", self._of, "cancel")):
            self.notify(f"{self._of} is being canceled", markup=False)
            self.load()

    @work(exit_on_error=False)
    async def action_again(self, verb: str) -> None:
        """Resume or replay: from now on the new run is shown."""
        if run := await self._ask(lambda client: client.act("runs", self._of, verb)):
            self.notify(f"{verb} of {self._of}: run {run['name']} has started", markup=False)
            self._of = str(run["name"])
            self.load()

    @work(exit_on_error=False)
    async def action_notebook(self) -> None:
        """Look into a job that failed."""
        if not (job := self.job):
            return
        kept = str(job["name"])
        name = await self.app.push_screen_wait(AskScreen(f"Name of the notebook that holds what {kept} had:"))
        if not name:
            return
        self.notify(f"notebook {name} is being filled", markup=False)
        made = await self._ask(lambda client: client.notebook_from_job(self._of, kept, name))
        if made:
            missing = [f"not there: {what}" for what in made["missing"]]
            told = [f"Notebook {name} starts; open it on the Notebooks screen.", "", made["reason"], *missing]
            await self.app.push_screen(TextScreen(lines("\n".join(told))))

    def action_down(self) -> None:
        self.table.action_cursor_down()

    def action_up(self) -> None:
        self.table.action_cursor_up()

    async def _ask(self, ask: Callable[[Client], Any]) -> Any:
        return await answer(self, self._feed, ask)


def head(run: Document, now: float) -> str:
    cause = " ".join(part for part in (run["cause"], run["parent"]) if part)
    took = age(run["started"], run["finished"] or now) if run["started"] else "not begun"
    lines = [f"run {run['name']}   {run['phase']}   {took}   started by: {cause}"]
    if run["source"] and not run["parent"]:
        lines.append(first_line(run["source"]))
    if run["message"].lower() != run["phase"].lower():
        lines.append(first_line(run["message"]))
    return "\n".join(line for line in lines if line)


def cells(job: Document, now: float) -> Cells:
    needs = " ".join(job["needs"][:MOST_NEEDS])
    if (more := len(job["needs"]) - MOST_NEEDS) > 0:
        needs += f" and {more} more"
    took = age(job["started"], job["finished"] or now) if job["started"] else "-"
    told = "" if job["message"].lower() == job["phase"].lower() else job["message"]
    values = " ".join(f"{name}={value}" for name, value in job["matrix"].items())
    return (job["name"], job["phase"], took, needs, first_line("; ".join(part for part in (values, told) if part)))


def about(job: Document) -> str:
    """What the table has no room for, a line each."""
    rows = [
        (job["name"], job["message"] or job["phase"]),
        ("values", " ".join(f"{name}={value}" for name, value in job["matrix"].items())),
        ("attempt", str(job["attempt"]) if job["attempt"] > 1 else ""),
        ("taken from", job["reused"]),
        ("commit", job["commit_id"]),
        ("image", job["image"][:IMAGE_ID]),
        *((f"input {name}", value(given)) for name, given in job["inputs"].items()),
        *((f"output {name}", value(made)) for name, made in job["outputs"].items()),
    ]
    width = max(len(what) for what, text in rows if text)
    return "\n".join(f"{first_line(what):<{width}}  {lines(text)}" for what, text in rows if text)


def value(document: Document) -> str:
    """A dataset's version or a text; of a volume nothing."""
    return str(document.get("id") or document.get("ref") or document.get("value") or "")


def lines(text: str) -> str:
    """Foreign text, its lines kept."""
    return "\n".join(first_line(line) for line in text.splitlines())
