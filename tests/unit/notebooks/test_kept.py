"""What jupyter-collaboration keeps beyond a session: whole, bounded, and never in the way of a start."""

from __future__ import annotations

import importlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.notebooks import jupyter

IDS, DOCUMENTS, SESSIONS = "file-ids.db", "documents.db", "document-sessions.json"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(jupyter.INSIDE))
    yield importlib.import_module("appliance_kept")
    sys.modules.pop("appliance_kept", None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (IDS, DOCUMENTS):
        made = sqlite3.connect(tmp_path / name)
        made.execute("CREATE TABLE t (x BLOB)")
        made.execute("INSERT INTO t VALUES (zeroblob(40000))")
        made.commit()
        made.close()
    (tmp_path / SESSIONS).write_text("{}")
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_jupyter_keeps_them_where_they_outlive_the_session() -> None:
    told = json.loads(jupyter.config_files("nb")["jupyter_server_config.json"])
    assert told["BaseFileIdManager"]["db_path"] == f"{jupyter.KEPT}/{IDS}"
    assert told["SQLiteYStore"]["db_path"] == f"{jupyter.KEPT}/{DOCUMENTS}"
    assert told["YDocExtension"]["session_store_path"] == f"{jupyter.KEPT}/{SESSIONS}"
    assert not any("YStore" in word or "FileId" in word for word in jupyter.command("nb"))


def test_what_is_whole_stays(kept: Any, folder: Path) -> None:
    kept.look(str(folder))
    assert names(folder) == {IDS, DOCUMENTS, SESSIONS}


def test_nothing_yet_is_no_fault(kept: Any, tmp_path: Path) -> None:
    kept.look(str(tmp_path / "none"))


@pytest.mark.parametrize(("name", "left"), [(IDS, {DOCUMENTS, SESSIONS}), (DOCUMENTS, {IDS})], ids=["ids", "documents"])
@pytest.mark.parametrize("how", ["no database", "cut short", "gone"])
def test_what_cannot_be_read_is_begun_anew(kept: Any, folder: Path, name: str, left: set[str], how: str) -> None:
    """With its documents a page's session goes too: what it typed would be put into a history of another origin."""
    path = folder / name
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"x" * 9000 if how == "no database" else path.read_bytes()[:12000])
        (folder / f"{name}-journal").write_bytes(b"")
    kept.look(str(folder))
    assert names(folder) == left


def test_documents_that_have_grown_too_large_are_begun_anew(
    kept: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 30000)
    kept.look(str(folder))
    assert names(folder) == {IDS}
