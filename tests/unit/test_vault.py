"""Secrets: sealed in the file, resolved by reference, named when missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import ApplianceError, NotFound, UsageError
from appliance.state import events
from appliance.state.db import Database
from appliance.vault.secrets import Secrets
from tests.conftest import Clock


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture
def secrets(db: Database, tmp_path: Path, clock: Clock) -> Secrets:
    return Secrets(db, tmp_path / "secret.key", clock)


def test_a_reference_resolves_and_other_text_stays(secrets: Secrets) -> None:
    secrets.set("TOKEN", "hunter22")
    assert secrets.resolve("secret:TOKEN") == "hunter22"
    assert secrets.resolve("SECRET:TOKEN") == "hunter22"
    assert secrets.resolve("not a secret:TOKEN") == "not a secret:TOKEN"


def test_neither_the_state_file_nor_the_events_hold_the_value(secrets: Secrets, db: Database, tmp_path: Path) -> None:
    secrets.set("TOKEN", "hunter22-is-here")
    db.read.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"hunter22" not in (tmp_path / "state.db").read_bytes()
    assert "hunter22" not in str(events.newest(db.read))
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0


def test_a_missing_secret_says_how_to_set_it(secrets: Secrets) -> None:
    with pytest.raises(NotFound) as caught:
        secrets.resolve("secret:NOPE")
    assert "appliance secret set NOPE" in caught.value.hint


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "a" * 129, "../x"])
def test_a_bad_name_is_refused(secrets: Secrets, name: str) -> None:
    with pytest.raises(UsageError):
        secrets.set(name, "value")


def test_values_for_redaction_follow_changes_and_leave_out_short_ones(secrets: Secrets) -> None:
    secrets.set("A", "long-enough")
    secrets.set("B", "abc")
    assert secrets.values() == ("long-enough",)
    secrets.delete("A")
    assert secrets.values() == ()


def test_another_key_is_told_apart_from_no_secret(secrets: Secrets, db: Database, tmp_path: Path, clock: Clock) -> None:
    secrets.set("A", "value")
    (tmp_path / "secret.key").unlink()
    with pytest.raises(ApplianceError, match="cannot be opened with the key"):
        Secrets(db, tmp_path / "secret.key", clock).reveal("A")


@pytest.mark.parametrize("value", ["hunter22\n", "hunter\t22", "\x7fhunter22", " hunter22", "hunter22 "])
def test_what_no_header_can_carry_is_refused_for_one(secrets: Secrets, value: str) -> None:
    secrets.set("TOKEN", value)
    assert secrets.resolve("secret:TOKEN") == value
    with pytest.raises(UsageError, match=r"'secret:TOKEN' cannot be sent in a header") as refused:
        secrets.resolve_line("secret:TOKEN")
    assert "hunter" not in str(refused.value)
    with pytest.raises(UsageError) as refused:
        secrets.resolve_line(value)
    assert "hunter" not in str(refused.value), "a key that stands in a spec is told to nobody either"


def test_what_a_header_can_carry_is_resolved(secrets: Secrets) -> None:
    secrets.set("TOKEN", "two wörds")
    assert secrets.resolve_line("secret:TOKEN") == "two wörds"
    with pytest.raises(NotFound):
        secrets.resolve_line("secret:NOPE")
