"""A running cell is asked for before its session ends."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from appliance.cli import ending
from appliance.cli.front_door import Jupyter
from appliance.client import Client
from appliance.errors import Conflict, Unavailable


class Daemon:
    """What is asked of the client."""

    def __init__(self, phase: str = "Running") -> None:
        self.phase = phase

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return {"phase": self.phase}

    def access(self, name: str) -> dict[str, str]:
        return {"base_url": "http://127.0.0.1:1/notebooks/nb/", "token": "t", "url": ""}


def client(phase: str = "Running") -> Client:
    return Daemon(phase)  # type: ignore[return-value]


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Jupyter, "busy", lambda _: ["train.ipynb"])


@pytest.mark.usefixtures("busy")
def test_a_script_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(Conflict, match=r"a cell runs in train\.ipynb; nothing was changed") as refused:
        ending.agree(client(), "nb", yes=False)
    assert "--yes" in refused.value.hint


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(("typed", "agreed"), [("yes", True), ("y", False), ("", False)])
def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: typed)
    if agreed:
        ending.agree(client(), "nb", yes=False)
    else:
        with pytest.raises(Conflict):
            ending.agree(client(), "nb", yes=False)


@pytest.mark.usefixtures("busy")
def test_nobody_is_asked_where_it_is_agreed_to_or_nothing_runs() -> None:
    ending.agree(client(), "nb", yes=True)
    ending.agree(client("Stopped"), "nb", yes=False)


@pytest.mark.parametrize("wrong", [Unavailable("hangs"), ValueError("no JSON"), AttributeError("a list of texts")])
def test_a_server_that_cannot_be_asked_holds_nothing_up(monkeypatch: pytest.MonkeyPatch, wrong: Exception) -> None:
    def fail(_: Jupyter) -> list[str]:
        raise wrong

    monkeypatch.setattr(Jupyter, "busy", fail)
    ending.agree(client(), "nb", yes=False)
