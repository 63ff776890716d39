"""The screens on top of a list: logs, details, help, asking for a file, confirming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Input, Label, Log, Static, TextArea

from appliance import foreign
from appliance.errors import ApplianceError
from tui.feed import Feed
from tui.kinds import Document, first_line

LEAVE = "esc: back"


class LogScreen(Screen[None]):
    """Follows the lines of one subject. Log and not RichLog: it takes batches quickly and never steals the scroll."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "back"),
        Binding("f", "follow", "follow"),
        Binding("g", "top", "top"),
    ]

    def __init__(self, feed: Feed, kind: str, name: str, part: str = "") -> None:
        super().__init__()
        self._feed = feed
        self._query = {"kind": kind, "name": name, "part": part}

    def compose(self) -> ComposeResult:
        yield Label(f"logs of {'/'.join(word for word in self._query.values() if word)}", markup=False)
        yield Log(max_lines=50_000)
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self._read()

    @work(exclusive=True, exit_on_error=False)
    async def _read(self) -> None:
        view = self.query_one(Log)
        try:
            async for batch in self._feed.stream(lambda client: client.follow_logs(**self._query)):
                view.write_lines([_line(line) for line in batch])
            view.write_line("-- the stream has ended --")
        except ApplianceError as error:
            view.write_line(f"-- {first_line(error.message)} --")

    def action_follow(self) -> None:
        view = self.query_one(Log)
        view.auto_scroll = True
        view.scroll_end(animate=False)

    def action_top(self) -> None:
        self.query_one(Log).scroll_home(animate=False)


class PageScreen(ModalScreen[None]):
    """A long text, to be scrolled and selected from."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "back", priority=True)]
    DEFAULT_CSS = "PageScreen { align: center middle; } PageScreen TextArea { width: 90%; height: 90%; }"

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        area = TextArea(self._text, read_only=True, language=None)
        area.border_subtitle = LEAVE
        yield area


class DetailScreen(PageScreen):
    """A document as it came."""

    def __init__(self, document: Document) -> None:
        super().__init__(json.dumps(document, indent=2, ensure_ascii=False))


class TextScreen(ModalScreen[None]):
    """A text to read, such as the help or an address to copy."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "back")]
    DEFAULT_CSS = """
    TextScreen { align: center middle; }
    TextScreen Static { width: auto; max-width: 90%; height: auto; padding: 1 2; border: round $primary; }
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        text = Static(self._text, markup=False)
        text.border_subtitle = LEAVE
        yield text


class AskScreen(ModalScreen[str | None]):
    """One line of input; `must` is the only answer that goes through, where something is destroyed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "cancel")]
    DEFAULT_CSS = """
    AskScreen { align: center middle; }
    AskScreen Vertical { width: 80%; height: auto; padding: 1 2; border: round $primary; background: $surface; }
    AskScreen Label { width: 100%; height: auto; }
    """

    def __init__(self, question: str, *, must: str = "") -> None:
        super().__init__()
        self._question, self._must = question, must

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_subtitle = "enter: go on, esc: leave it"
            yield Label(self._question, markup=False)
            yield Input()
            yield Label("", id="wrong", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if self._must and event.value != self._must:
            self.query_one("#wrong", Label).update("That is not it; nothing is done. esc goes back.")
            return
        self.dismiss(event.value or None)

    def action_cancel(self) -> None:
        self.dismiss(None)


def read_spec(path: str) -> tuple[str, str]:
    """Text and name of a spec file. Raises ApplianceError in words."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8"), path
    except (OSError, UnicodeDecodeError) as error:
        raise ApplianceError(f"cannot be read: {error}", where=path) from None


def _line(line: Any) -> str:
    part = f"{line['part']} | " if line["part"] else ""
    return part + foreign.line(line["line"])
