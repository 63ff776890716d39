"""Changing, renaming, deleting and carrying notebooks in a terminal, with a stand-in for the daemon."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.cli import render
from appliance.cli.main import main
from appliance.errors import DaemonDown

DELETED = {
    "kind": "notebook",
    "name": "old",
    "uid": "u1",
    "deleted": 1.8e9,
    "until": 1.8e9 + 600_000,
    "bytes": 2_500_000,
    "going": False,
}


class FakeClient:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.desired = "running"
        self.session = True
        self.warnings: list[list[str]] = []
        """What each question for them is answered."""
        self.until: float | None = 1.8e9
        self.pieces: Iterable[bytes] = (b"arch", b"ive")
        self.spec: dict[str, Any] = {}

    def get(self, kind: str, name: str) -> Any:
        return {
            "name": name,
            "generation": 3,
            "observed": 3,
            "desired": self.desired,
            "phase": "Running",
            "message": "",
        }

    def items(self, kind: str) -> Any:
        return [{"name": "nb"}]

    def access(self, name: str) -> Any:
        return {
            "url": f"http://x/{name}",
            "base_url": "http://127.0.0.1:1/nb/",
            "token": "t",
            "history_url": f"http://x/history/{name}#t",
        }

    def newest_events(self, kind: str, name: str) -> Any:
        if not self.warnings:
            return []
        found, self.warnings = self.warnings[0], self.warnings[1:]
        return [{"id": number, "level": "warning", "message": text} for number, text in enumerate(found)]

    def act(self, kind: str, name: str, verb: str) -> Any:
        self.calls.append((verb, name))

    def set_notebook(self, name: str, change: Any) -> Any:
        self.calls.append(("set", name, change))
        return {"notebook": {**self.get("notebooks", name), "generation": 4}, "session": self.session}

    def rename_notebook(self, name: str, new: str) -> Any:
        return {**self.get("notebooks", new), "uid": name}

    def delete_notebook(self, name: str, *, purge: bool, confirm: str) -> Any:
        self.calls.append(("delete", name, purge, confirm))
        return {"until": self.until}

    def deleted_notebooks(self) -> Any:
        return [DELETED, {**DELETED, "name": "older\x1b", "bytes": None, "going": True}]

    def undelete_notebook(self, name: str, new: str) -> Any:
        self.calls.append(("undelete", name, new))
        return {"name": new or name}

    def purge_notebook(self, name: str, *, confirm: str) -> None:
        self.calls.append(("purge", name, confirm))

    def export_notebook(self, name: str, *, at: str) -> Iterator[bytes]:
        self.calls.append(("export", name, at))
        yield from self.pieces

    def import_notebook(self, pieces: Iterable[bytes], name: str, *, start: bool) -> Any:
        self.calls.append(("import", b"".join(pieces), name, start))
        return {"name": name or "nb", "spec": self.spec}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    made = FakeClient()
    monkeypatch.setattr(render, "client", lambda: made)
    return made


def test_what_is_set_and_nothing_else_is_sent(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--image two --gpus 0 --user 1000 --idle 30m --shutdown never --env A=b=c --unset-env Z --no-start"
    assert main(["notebook", "set", "nb", *words.split()]) == 0
    ((_, _, change),) = client.calls
    assert change == {
        "image": "two",
        "gpus": 0,
        "user": "1000",
        "idle": "30m",
        "shutdown": "never",
        "env": {"A": "b=c"},
        "unset_env": ["Z"],
        "generation": 3,
        "start": False,
    }
    assert "changed and stops" in capsys.readouterr().err


def test_what_a_session_went_without_is_told_at_its_start(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.warnings = [["of last week"], ["of last week", "no dataset 'bad'"]]
    assert main(["notebook", "start", "nb"]) == 0
    told = capsys.readouterr()
    assert "warning: no dataset 'bad'" in told.err
    assert "of last week" not in told.err
    assert told.out == "http://x/nb\n"


@pytest.mark.parametrize(
    ("desired", "session", "said"),
    [
        ("running", True, "followed by another"),
        ("running", False, "its session goes on"),
        ("stopped", True, "is changed\n"),
    ],
)
def test_it_says_what_becomes_of_the_session(
    client: FakeClient, capsys: pytest.CaptureFixture[str], desired: str, session: bool, said: str
) -> None:
    client.desired, client.session = desired, session
    assert main(["notebook", "set", "nb", "--image", "two"]) == 0
    assert said in capsys.readouterr().err


def test_a_set_of_nothing_is_a_mistake(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notebook", "set", "nb"]) == 2
    assert client.calls == []


def test_restart_waits_and_rename_says_what_follows(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notebook", "restart", "nb"]) == 0
    assert capsys.readouterr().out == "http://x/nb\n"
    assert main(["notebook", "rename", "nb", "new"]) == 0
    assert "nb is new from now on; another session begins" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["notebook", "delete", "nb"], ["delete", "notebook", "nb"]])
def test_deleted_it_can_be_brought_back_and_nobody_is_asked(
    client: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    assert main(command) == 0
    assert client.calls == [("delete", "nb", False, "")]
    assert "`appliance notebook undelete nb` brings it back until" in capsys.readouterr().err


def test_for_ever_only_for_the_name(
    client: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    client.until = None
    monkeypatch.setattr("builtins.input", lambda _: "no")
    assert main(["notebook", "delete", "nb", "--purge"]) == 2
    assert client.calls == []
    monkeypatch.setattr("builtins.input", lambda _: "nb")
    assert main(["notebook", "delete", "nb", "--purge"]) == 0
    assert main(["notebook", "delete", "old", "--purge", "--confirm", "old"]) == 0, "deleted before"
    assert client.calls == [("delete", "nb", True, "nb"), ("purge", "old", "old")]


def test_the_trash_is_a_table(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notebook", "deleted"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "NAME"
    assert "2.5 MB" in first
    assert "is being destroyed" in second
    assert "\x1b" not in second
    assert main(["notebook", "undelete", "old", "--as", "new"]) == 0
    assert client.calls == [("undelete", "old", "new")]


def test_a_file_is_there_whole_or_not_at_all(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["notebook", "export", "nb", "--at", "s1"]) == 0
    assert (tmp_path / "nb.tar.gz").read_bytes() == b"archive"
    assert main(["notebook", "export", "nb"]) == 4, "it is there already"

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise DaemonDown("broken off")

    client.pieces = broken()
    assert main(["notebook", "export", "nb", "--force"]) == 5
    assert (tmp_path / "nb.tar.gz").read_bytes() == b"archive"
    assert [path.name for path in tmp_path.iterdir()] == ["nb.tar.gz"]
    assert main(["notebook", "export", "nb", "-o", "no/such/folder/x"]) == 1
    assert main(["notebook", "import", "nb.tar.gz", "new"]) == 0
    assert client.calls[-1] == ("import", b"archive", "new", False)
    assert "appliance notebook start new" in capsys.readouterr().err
    assert main(["notebook", "import", "none.tar.gz"]) == 3


def test_through_pipes(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["notebook", "export", "nb", "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == b"archive"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"piped"), isatty=lambda: False))
    assert main(["notebook", "import", "-", "--start"]) == 0
    assert client.calls[-2:] == [("import", b"piped", "", False), ("start", "nb")]


ASKS = {
    "image": "evil\x1b[2J",
    "command": ["sh", "-c", "curl x"],
    "secrets": ["HF_TOKEN"],
    "env": {"A": "Secret:KEY", "B": "plain"},
    "datasets": {"d": "mnist:latest"},
    "containerRegistry": "ghcr",
    "workspace": {"url": "https://x/y", "password": "secret:GIT"},
}


def test_an_archive_that_asks_for_secrets_is_not_started_unseen(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_bytes(b"archive")
    words = ["notebook", "import", str(tmp_path / "x"), "--start"]
    client.spec = ASKS
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert main(words) == 4
    said = capsys.readouterr().err
    for word in (
        "HF_TOKEN, KEY, GIT",
        "image evil",
        "`sh -c curl x`",
        "mnist:latest",
        "login ghcr",
        "https://x/y",
        "--yes",
    ):
        assert word in said, word
    assert "\x1b" not in said
    assert "plain" not in said
    assert client.calls == [("import", b"archive", "", False)]
    assert main([*words, "--yes"]) == 0
    assert client.calls[-1] == ("start", "nb")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    for answer, code in (("y", 4), ("yes", 0)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert main(words) == code
    client.spec = {**ASKS, "secrets": [], "env": {}, "workspace": None, "containerRegistry": ""}
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert main(words) == 0, "nothing of the user's is given to it"


@pytest.mark.parametrize(
    ("option", "printed"),
    [((), "http://x/nb"), (("--vscode",), "http://127.0.0.1:1/nb/?token=t"), (("--history",), "http://x/history/nb#t")],
)
def test_the_addresses_of_a_notebook(
    client: FakeClient, capsys: pytest.CaptureFixture[str], option: tuple[str, ...], printed: str
) -> None:
    assert main(["notebook", "url", "nb", *option]) == 0
    assert capsys.readouterr().out == f"{printed}\n"
