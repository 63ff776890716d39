"""The app: screens by number, one table of actions, and a pulse that asks the daemon for what is on the screen."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import ContentSwitcher, Footer, Static, Tab, Tabs

from appliance.client import Client
from appliance.errors import ApplianceError
from tui.asking import answer, show
from tui.deployment import DeploymentScreen
from tui.dialogs import AskScreen, DetailScreen, LogScreen, TextScreen, read_spec
from tui.feed import Feed
from tui.history import HistoryScreen
from tui.home import Home
from tui.kinds import BY_NAME, EVERYWHERE, KINDS, Action, Document, singular, subject
from tui.listing import Listing
from tui.notebook_life import VERBS, act
from tui.run import RunScreen
from tui.terminal import shell

PULSE_S = 1.0
TITLES = ("Home", *(kind.title for kind in KINDS))
SCREEN_KEYS = (*((digit, digit) for digit in "1234567890"), ("minus", "-"))
"""By number: the key as the terminal calls it, and as it is written."""
SCREENS = tuple(zip(SCREEN_KEYS, TITLES, strict=True))
OF_THE_LISTS = frozenset({"act", "apply", "clear", "details", "down", "filter", "screen", "up"})
ONCE_MORE = frozenset({"resume", "replay"})
"""Make a new run of the one under the cursor."""
LOSSES = {
    "datasets": "its data and its history go with it",
    "runs": "its record, and all that is kept of it, go with it",
    "workflows": "it is forgotten; its runs stay",
    "repositories": "it is forgotten; its pushes start nothing any more",
}
WHOLE = frozenset({"notebooks", "workflows", "datasets", "repositories"})
"""Kinds of which one resource tells more than its row."""


class ApplianceApp(App[None]):
    TITLE = "appliance"
    CSS = """
    #banner { display: none; background: $error; color: $text; padding: 0 1; height: auto; }
    .stale #banner { display: block; }
    .stale ContentSwitcher { opacity: 60%; }
    ContentSwitcher { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape", "clear", "clear", show=False),
        Binding("a", "apply", "apply"),
        Binding("enter", "details", show=False),
        Binding("j", "down", show=False),
        Binding("k", "up", show=False),
        *(Binding(key, f"screen({number})", show=False) for number, (key, _) in enumerate(SCREEN_KEYS)),
        *(
            Binding(action.key, f"act('{action.verb}')", action.text)
            for action in {action.verb: action for kind in KINDS for action in kind.actions}.values()
        ),
    ]

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed
        self._stale_since = 0

    def compose(self) -> ComposeResult:
        yield Tabs(*(Tab(f"{shown} {title}", id=f"tab-{number}") for number, ((_, shown), title) in enumerate(SCREENS)))
        yield Static("", id="banner", markup=False)
        with ContentSwitcher(initial="home"):
            yield Home()
            for kind in KINDS:
                yield Listing(kind)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self.set_interval(PULSE_S, self.pulse)
        self.pulse()

    # -- what is on the screen

    @property
    def listing(self) -> Listing | None:
        """The list on the screen; None on Home."""
        current = self.query_one(ContentSwitcher).current
        return self.query_one(f"#{current}", Listing) if current in BY_NAME else None

    @work(exclusive=True, group="pulse", exit_on_error=False)
    async def pulse(self) -> None:
        """Ask for what the user looks at. Without a daemon the last data stays, greyed, and the app asks on."""
        listing = self.listing
        try:
            if listing is None:
                self.query_one(Home).show(await self._feed.call(lambda client: client.status()))
            else:
                name = listing.kind.name
                rows = await self._feed.call(lambda client: client.items(name))
                listing.show(rows[::-1] if name == "events" else rows)
        except ApplianceError as error:
            self._stale_since += 1
            self.query_one("#banner", Static).update(f"{error.message}: asking again ({self._stale_since})")
            self.screen_stack[0].add_class("stale")
            return
        self._stale_since = 0
        self.screen_stack[0].remove_class("stale")

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        number = int(str(event.tab.id).removeprefix("tab-"))
        self.query_one(ContentSwitcher).current = KINDS[number - 1].name if number else "home"
        if self.listing:
            self.listing.table.focus()
        self.refresh_bindings()
        self.pulse()

    def action_screen(self, number: int) -> None:
        self.query_one(Tabs).active = f"tab-{number}"

    def action_filter(self) -> None:
        if self.listing:
            self.listing.filter()

    def action_clear(self) -> None:
        if self.listing:
            self.listing.clear_filter()

    def action_down(self) -> None:
        if self.listing:
            self.listing.table.action_cursor_down()

    def action_up(self) -> None:
        if self.listing:
            self.listing.table.action_cursor_up()

    # -- doing

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key is offered only where its screen has the action; a screen on top of the lists has keys of its own."""
        if len(self.screen_stack) > 1 and action in OF_THE_LISTS:
            return False
        if action == "help":
            return not isinstance(self.screen, ModalScreen)
        if action == "act":
            return bool(self.listing and any(found.verb == parameters[0] for found in self.listing.kind.actions))
        return True

    def on_data_table_row_selected(self) -> None:
        if len(self.screen_stack) == 1:
            self.action_details()

    @work(exit_on_error=False)
    async def action_details(self) -> None:
        listing, row = self.listing, self.listing.current if self.listing else None
        if listing is None or row is None:
            return
        kind, name = listing.kind.name, subject(row)
        if kind == "runs":
            await self.push_screen(RunScreen(self._feed, name))
            return
        if kind == "deployments":
            await self.push_screen(DeploymentScreen(self._feed, name))
            return
        document = await self._ask(lambda client: client.get(kind, name)) if kind in WHOLE else row
        if document is not None:
            await self.push_screen(DetailScreen(document))

    @work(exit_on_error=False)
    async def action_act(self, verb: str) -> None:
        """Do `verb` with the row under the cursor."""
        listing, row = self.listing, self.listing.current if self.listing else None
        if listing is None or row is None:
            self.notify("no row is chosen", severity="warning")
            return
        kind, name = listing.kind.name, subject(row)
        if verb == "logs":
            await self.push_screen(LogScreen(self._feed, singular(kind), name))
        elif verb == "history":
            await self.push_screen(HistoryScreen(self._feed, name))
        elif kind == "notebooks" and verb in VERBS:
            await act(self, self._feed, verb, name)
        elif verb == "terminal":
            shell(self, kind, name)
        elif verb == "open":
            await self._open(kind, name, row)
        elif verb == "delete":
            await self._delete(kind, name)
        elif verb == "run":
            if run := await self._ask(lambda client: client.start_run(name)):
                self.notify(f"run {run['name']} has started", markup=False)
                await self.push_screen(RunScreen(self._feed, run["name"]))
        elif verb in ONCE_MORE:
            if run := await self._ask(lambda client: client.act(kind, name, verb)):
                self.notify(f"{verb} of {name}: run {run['name']} has started", markup=False)
        elif await self._ask(lambda client: client.act(kind, name, verb)) is not None:
            self.notify(f"{verb} {name}", markup=False)
        self.pulse()

    async def _open(self, kind: str, name: str, row: Document) -> None:
        url = row["url"]
        if kind == "notebooks":
            access = await self._ask(lambda client: client.access(name))
            url = access["url"] if access else ""
        if not url:
            return
        self.copy_to_clipboard(url)
        opened = webbrowser.open(url) if not self.is_headless else False
        told = "opened in a browser" if opened else "no browser on this machine: forward the port and open it there"
        await self.push_screen(TextScreen(f"{url}\n\nCopied to the clipboard where the terminal allows it; {told}."))

    async def _delete(self, kind: str, name: str) -> None:
        loss = LOSSES.get(kind, "it stops and is forgotten")
        question = f"Delete {singular(kind)} {name}: {loss}. Type its name to go on:"
        if not await self.push_screen_wait(AskScreen(question, must=name)):
            return

        def delete(client: Client) -> bool:
            client.delete(kind, name, confirm=name)
            return True

        if await self._ask(delete):
            self.notify(f"{name} is gone" if kind == "runs" else f"{name} is being deleted", markup=False)

    @work(exit_on_error=False)
    async def action_apply(self) -> None:
        path = await self.push_screen_wait(AskScreen("Spec file to apply:"))
        if not path:
            return
        try:
            text, file = read_spec(path)
        except ApplianceError as error:
            show(self, error)
            return
        changes = await self._ask(lambda client: client.apply(text, file))
        if changes is not None:
            told = ", ".join(f"{change['kind']} {change['name']} {change['change']}" for change in changes)
            self.notify(told or "the file declares nothing", markup=False)
        self.pulse()

    async def _ask(self, ask: Callable[[Client], Any]) -> Any:
        return await answer(self, self._feed, ask)

    def action_help(self) -> None:
        if len(self.screen_stack) > 1:
            bound = [binding for binding in self.screen.BINDINGS if isinstance(binding, Binding) and binding.show]
            rows = [f"{binding.key.partition(',')[0]:<8}{binding.tooltip or binding.description}" for binding in bound]
        else:
            here: tuple[Action, ...] = self.listing.kind.actions if self.listing else ()
            rows = [f"{action.key:<8}{action.text}" for action in (*here, *EVERYWHERE)]
            rows += ["", "screens: " + ", ".join(f"{number % 10} {title}" for number, title in enumerate(TITLES, 1))]
        self.push_screen(TextScreen("\n".join(["Keys on this screen", "", *rows])))


def main(home: Path) -> int:
    ApplianceApp(Feed.of_home(home)).run()
    return 0
