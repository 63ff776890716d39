"""How the history looks in a terminal, with a stand-in for the daemon."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.cli import render
from appliance.cli.main import main

MOMENT = {
    "id": "0123456789",
    "cause": "manual",
    "message": "a\x1b[2Jb",
    "created": 1.8e9,
    "author": "ada",
    "subject": "session 3",
    "bytes": 2_500_000,
    "held": ["user: the paper"],
}


class FakeClient:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.content = [b""]

    def history(self, name: str) -> list[Any]:
        return [MOMENT, {**MOMENT, "id": "older", "bytes": None, "held": []}]

    def entries(self, *arguments: Any, **more: Any) -> Any:
        self.calls.append((*arguments, more["at"]))
        item = {"name": "out\n", "kind": "link", "size": 4, "modified": 1.8e9, "target": "/etc\x1b"}
        return {"items": [item], "total": 3}

    def read_file(self, *arguments: Any, at: str) -> Iterator[bytes]:
        self.calls.append((*arguments, at))
        return iter(self.content)

    def prune(self, name: str, *, dry_run: bool) -> Any:
        self.calls.append((name, dry_run))
        items = [{"snapshot": MOMENT, "why": "held: user: the paper"}, {"snapshot": MOMENT, "why": ""}]
        return {"items": items, "bytes": 10_000_000, "exact": False, "dry_run": dry_run}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    made = FakeClient()
    monkeypatch.setattr(render, "client", lambda: made)
    return made


def test_the_timeline_is_a_table_without_foreign_commands(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notebook", "history", "nb", "-n", "1"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "TIME", "CAUSE", "AUTHOR", "OF", "WRITTEN", "HELD", "MESSAGE"]
    assert row.startswith("0123456789")
    assert "2.5 MB" in row
    assert row.endswith("held  a\N{REPLACEMENT CHARACTER}[2Jb")


def test_a_preview_says_what_goes_and_why_the_rest_stays(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notebook", "prune", "nb", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert client.calls == [("nb", True)]
    assert [line.split("  ")[-1].strip() for line in said.out.splitlines()[1:]] == ["held: user: the paper", "would go"]
    assert said.err == "1 of 2 snapshots would go, which frees at least 10.0 MB\n"


def test_a_listing_shows_odd_names_and_says_what_is_left_out(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["notebook", "ls", "nb", "d/caf\udce9", "--at", "0123456789"]) == 0
    said = capsys.readouterr()
    assert client.calls == [("nb", r"d/caf\xe9", "0123456789")]
    assert said.out.splitlines()[1].endswith("out\N{REPLACEMENT CHARACTER} -> /etc\N{REPLACEMENT CHARACTER}")
    assert said.err == "2 more are not shown\n"


def test_a_file_is_itself_in_a_pipe_and_harmless_on_a_terminal(
    client: FakeClient, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.content = [b"a\x1b[2J\r\n\tb\xff", b"c\nend"]
    assert main(["notebook", "cat", "nb", "f"]) == 0
    assert capfdbinary.readouterr().out == b"a\x1b[2J\r\n\tb\xffc\nend"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["notebook", "cat", "nb", "f"]) == 0
    assert terminal.getvalue() == "a\N{REPLACEMENT CHARACTER}[2J\n\tb\N{REPLACEMENT CHARACTER}c\nend\n"
