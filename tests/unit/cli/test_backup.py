"""`appliance backup` and its relatives, as far as they need no daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import render
from appliance.cli.main import INTERRUPTED, main


class Daemon:
    """Answers as the client does."""

    def __init__(self, *rows: dict[str, Any], interrupt: bool = False, phase: str = "Canceled") -> None:
        self.rows = rows
        self.phase = phase
        self.interrupt = interrupt
        self.asked: list[Any] = []

    def start_backup(self, target: str, *, verify: bool, keep: int) -> dict[str, Any]:
        self.asked.append((target, verify, keep))
        return {"id": "P1"}

    def follow_backup(self, backup_id: str) -> Iterator[dict[str, Any]]:
        yield from self.rows
        if self.interrupt:
            raise KeyboardInterrupt

    def delete(self, kind: str, name: str) -> None:
        self.asked.append(("delete", kind, name))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return row(self.phase)

    def forget_backups(self, target: str, *, confirm: str = "", dry_run: bool = False) -> dict[str, Any]:
        self.asked.append(("forget", target, confirm, dry_run))
        return {"target": target, "backups": 3, "moments": 7}


def row(phase: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"id": "P1", "phase": phase, "message": message, **more}


GOING = row("Running", progress={"step": "w/1", "done": 1, "total": 3, "read": 10, "written": 5})


def use(monkeypatch: pytest.MonkeyPatch, daemon: Daemon) -> Daemon:
    monkeypatch.setattr(render, "client", lambda: daemon)
    return daemon


def test_a_path_is_made_absolute_and_the_point_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon = use(monkeypatch, Daemon(GOING, row("Succeeded", "3 volumes")))
    assert main(["backup", "here", "--keep", "4"]) == 0
    assert daemon.asked == [(str(tmp_path / "here"), False, 4)]
    said = capsys.readouterr()
    assert said.out == "P1\n"
    assert "3 volumes" in said.err
    assert "key of the secrets" in said.err
    assert main(["backup", "zfs:tank/backup"]) == 0
    assert daemon.asked[1] == ("zfs:tank/backup", False, 0)


def test_a_failure_is_told_and_ctrl_c_cancels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, Daemon(GOING, row("Failed", "the disk is full")))
    assert main(["backup", "/b"]) == 1
    assert "the disk is full" in capsys.readouterr().err
    use(monkeypatch, Daemon(GOING))
    assert main(["backup", "/b"]) == 1
    assert "daemon has ended" in capsys.readouterr().err
    daemon = use(monkeypatch, Daemon(GOING, interrupt=True))
    assert main(["backup", "/b"]) == INTERRUPTED
    assert daemon.asked[-1] == ("delete", "backups", "P1")
    assert "no point was made" in capsys.readouterr().err
    use(monkeypatch, Daemon(GOING, interrupt=True, phase="Succeeded"))
    assert main(["backup", "/b"]) == INTERRUPTED
    assert "too late for that: point P1 is made" in capsys.readouterr().err


def test_a_target_is_forgotten_when_it_was_typed_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = use(monkeypatch, Daemon())
    old = "zfs:tank/old"
    assert main(["backups", "--forget", old, "--confirm", old]) == 0
    assert daemon.asked == [("forget", old, old, False)]
    assert "7 moments let go" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    for typed, code in (("zfs:tank/other", 2), (old, 0)):
        monkeypatch.setattr("builtins.input", lambda _, typed=typed: typed)
        daemon.asked.clear()
        assert main(["backups", "--forget", old]) == code
        assert daemon.asked[0] == ("forget", old, "", True)
        assert len(daemon.asked) == (2 if code == 0 else 1)
        assert "lets go of 7 moments" in capsys.readouterr().err


def test_a_restore_without_a_backup_is_not_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APPLIANCE_HOME", str(tmp_path / "home"))
    assert main(["restore-backup", str(tmp_path / "none")]) == 3
    assert "no backup" in capsys.readouterr().err
