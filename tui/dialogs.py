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

from appliance.errors import ApplianceError
from tui.feed import Feed
from tui.kinds import Document, first_line


class LogScreen(Screen[None]):
    """Follows the lines of one subject. Log and not RichLog: it takes batches quickly and never steals the scroll."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "back"),
        Binding("f", "follow", "follow"),
        Binding("g", "top", "top"),
    ]

    def __init__(self, feed: Feed, kind: str, name: str) -> None:
        super().__init__()
        self._feed, self._kind, self._name = feed, kind, name

    def compose(self) -> ComposeResult:
        yield Label(f"logs of {self._kind}/{self._name}", markup=False)
        yield Log(max_lines=50_000)
        yield Footer()

    def on_mount(self) -> None:
        self._read()

    @work(exclusive=True, exit_on_error=False)
    async def _read(self) -> None:
        view = self.query_one(Log)
        try:
            async for batch in self._feed.stream(lambda client: client.follow_logs(kind=self._kind, name=self._name)):
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


class DetailScreen(ModalScreen[None]):
    """A document as it came."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "back", priority=True)]
    DEFAULT_CSS = "DetailScreen { align: center middle; } DetailScreen TextArea { width: 90%; height: 90%; }"

    def __init__(self, document: Document) -> None:
        super().__init__()
        self._text = json.dumps(document, indent=2, ensure_ascii=False)

    def compose(self) -> ComposeResult:
        yield TextArea(self._text, read_only=True, language=None)


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
        yield Static(self._text, markup=False)


class AskScreen(ModalScreen[str | None]):
    """One line of input; `must` is the only answer that goes through, where something is destroyed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "cancel")]
    DEFAULT_CSS = """
    AskScreen { align: center middle; }
    AskScreen Vertical { width: 80%; height: auto; padding: 1 2; border: round $primary; background: $surface; }
    """

    def __init__(self, question: str, *, must: str = "") -> None:
        super().__init__()
        self._question, self._must = question, must

    def compose(self) -> ComposeResult:
        with Vertical():
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
    return part + "".join(
        character if character.isprintable() or character == "\t" else " " for character in line["line"]
    )
