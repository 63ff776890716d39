from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.router import account
from appliance.router.account import Account

STRANGER = SimpleNamespace(pw_uid=64001, pw_gid=64001)


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: STRANGER)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name="haproxy"))


@pytest.fixture
def open_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of which only the last part may be closed, whatever lies above it."""
    home = tmp_path / "home"
    home.mkdir(mode=0o711)
    monkeypatch.setattr(Path, "parents", property(lambda self: [home]))
    return home


@pytest.mark.usefixtures("as_root")
def test_root_hands_over_to_the_account(open_directory: Path) -> None:
    assert account.choose(open_directory / "front.sock") == Account("haproxy", "haproxy")


@pytest.mark.usefixtures("as_root")
def test_a_socket_is_given_to_the_account(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: given.append((path, uid, gid)))
    account.give(open_directory / "push.sock")
    assert given == [(open_directory / "push.sock", 64001, -1)]
    open_directory.chmod(0o700)
    account.give(open_directory / "push.sock")
    assert len(given) == 1, "root serves, and reaches it as it is"


@pytest.mark.usefixtures("as_root")
def test_a_closed_directory_keeps_root_and_says_which(open_directory: Path) -> None:
    open_directory.chmod(0o700)
    chosen = account.choose(open_directory / "front.sock")
    assert chosen.user == ""
    assert str(open_directory) in chosen.problem


@pytest.mark.usefixtures("as_root")
def test_a_machine_without_the_account_keeps_root_and_says_so(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    assert "no account 'haproxy'" in account.choose(open_directory / "front.sock").problem


def test_a_user_of_their_own_stays_who_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert account.choose(tmp_path / "front.sock") == Account()
