"""`appliance sql`: tables, ready queries, forms of an answer; what is cut is said on stderr."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import render, sql
from appliance.errors import NotFound, UsageError

READY = [{"name": "slow", "question": "Which?", "sql": "SELECT 7"}]
TABLES = [{"name": "logs", "about": "lines", "columns": [{"name": "ts", "type": "TIMESTAMP", "about": ""}]}]


class FakeClient:
    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.rows: list[list[Any]] = [[1, None], [2, "\x1b[31mred"]]
        self.truncated = False

    def sql(self, query: str, **more: Any) -> dict[str, Any]:
        self.asked.append((query, more))
        notes = ["runs are cut"] if self.truncated else []
        return {"columns": ["a", "b"], "types": [], "rows": self.rows, "truncated": self.truncated, "notes": notes}

    @contextmanager
    def sql_answer(self, query: str, **more: Any) -> Iterator[Any]:
        self.asked.append((query, more))
        answer: Any = io.BytesIO(b"a,b\n1,2\n")
        answer = type("Answer", (io.BytesIO,), {})(answer.getvalue())
        answer.headers = Message()
        answer.headers["X-Appliance-Rows"] = "1"
        answer.headers["X-Appliance-Truncated"] = "true"
        answer.headers["X-Appliance-Notes"] = "it%20ends"
        yield answer

    def ready_sql(self) -> list[dict[str, str]]:
        return READY

    def sql_tables(self) -> list[dict[str, Any]]:
        return TABLES


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    made = FakeClient()
    monkeypatch.setattr(render, "client", lambda: made)
    return made


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    sql.configure_sql(parser)
    parsed = parser.parse_args(words)
    return int(parsed.run(parsed))


def test_a_table_shows_foreign_text_and_never_obeys_it(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("SELECT 1", "-n", "5", "--timeout", "2") == 0
    assert client.asked == [("SELECT 1", {"limit": 5, "timeout_s": 2.0})]
    out, err = capsys.readouterr()
    assert out.splitlines()[1] == "1  -"
    assert "\x1b" not in out
    assert err == ""


def test_what_is_cut_is_said_on_stderr(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.truncated = True
    call("SELECT 1", "-o", "json")
    out, err = capsys.readouterr()
    assert json.loads(out)[0] == {"a": 1, "b": None}
    assert "first 2 rows" in err
    assert "runs are cut" in err


def test_an_answer_goes_into_a_file_as_it_comes(
    client: FakeClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("SELECT 1", "-o", "parquet", "--to", str(tmp_path / "x.parquet")) == 0
    assert (tmp_path / "x.parquet").read_bytes() == b"a,b\n1,2\n"
    assert client.asked == [("SELECT 1", {"format": "parquet"})]
    out, err = capsys.readouterr()
    assert out == ""
    assert "only the first 1 rows" in err
    assert "it ends" in err


def test_csv_goes_to_stdout(client: FakeClient, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    call("SELECT 1", "-o", "csv")
    assert capsysbinary.readouterr().out == b"a,b\n1,2\n"


def test_ready_queries_are_listed_shown_and_asked(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    call("--ready")
    assert "Which?" in capsys.readouterr().out
    call("--ready", "slow", "--show")
    assert capsys.readouterr().out == "SELECT 7\n"
    assert client.asked == []
    call("--ready", "slow")
    assert client.asked == [("SELECT 7", {})]
    with pytest.raises(NotFound, match="none"):
        call("--ready", "none")


def test_tables_and_their_columns(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    call("--tables")
    assert "logs" in capsys.readouterr().out
    call("--tables", "logs")
    assert "TIMESTAMP" in capsys.readouterr().out
    with pytest.raises(NotFound):
        call("--tables", "nothing")


@pytest.mark.parametrize("words", [[], ["SELECT 1", "--ready"], ["--ready", "--tables"], ["SELECT 1", "--to", "x"]])
def test_what_makes_no_sense_is_a_usage_error(client: FakeClient, words: list[str]) -> None:
    with pytest.raises(UsageError):
        call(*words)
    assert client.asked == []
