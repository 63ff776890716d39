from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given

from appliance.errors import NoSpace, RouterError
from appliance.router import saved
from appliance.router.deaths import backoff
from appliance.router.render import Bind
from appliance.router.saved import Saved
from appliance.router.table import Access, Hold, Route, Table, Target
from tests.unit.router import strategies

TABLE = Table().put(Route("/notebooks/a", (Target("x", 5),), strip=False))
SAVED = Saved(TABLE, (Bind("172.18.0.1", 7070), Bind("fd00::1", 7070)))
ROUTE: dict[str, object] = {"prefix": "/notebooks/a", "targets": [{"id": "x", "port": 5}], "strip": False}


@given(strategies.tables)
def test_what_was_saved_comes_back(table: Table) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "routes.json"
        state = Saved(table, SAVED.binds)
        saved.write(path, saved.to_json(state, "boot"))
        assert saved.load(path, "boot") == state


def test_no_file_is_an_empty_table(tmp_path: Path) -> None:
    assert saved.load(tmp_path / "routes.json", "boot") == Saved()


def test_ports_of_an_earlier_boot_mean_nothing(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    saved.write(path, saved.to_json(SAVED, "boot"))
    assert saved.load(path, "another boot") == Saved(Table().put(Route("/notebooks/a", (), strip=False)), SAVED.binds)


def test_who_comes_after_a_boot_waits_as_before_it(tmp_path: Path) -> None:
    """The way stays, and what it asks for; whom it led to is not there any more."""
    path = tmp_path / "routes.json"
    route = Route("/deployments/x", (Target("x", 5),), True, Hold(9.0, 3), Access("key", frozenset({"A" * 64})))
    saved.write(path, saved.to_json(Saved(TABLE.put(route)), "boot"))
    table = saved.load(path, "another boot").table
    assert table.routes[route.prefix] == replace(route, targets=())
    assert table.slots == {route.prefix: 1}


def test_what_an_older_version_saved_is_served(tmp_path: Path) -> None:
    """It knew 64 slots, and a target was an id and a port."""
    path = tmp_path / "routes.json"
    routes = [ROUTE, {"prefix": "/deployments/empty", "targets": [], "strip": True}]
    document = {"version": 1, "boot": "boot", "binds": ["172.18.0.1:7070"], "capacity": 64}
    path.write_text(json.dumps(document | {"slots": {"/notebooks/a": 3}, "routes": routes}))
    table = saved.load(path, "boot").table
    assert table.routes["/notebooks/a"] == Route("/notebooks/a", (Target("x", 5),), strip=False)
    assert table.slots == {"/notebooks/a": 3}
    assert table.capacity == 256


@pytest.mark.parametrize(
    "change",
    [
        {"routes": None},
        {"routes": [{"prefix": "/notebooks/a\nx", "targets": [], "strip": False}]},
        {"routes": [{"prefix": "/notebooks/a", "targets": [{"id": "x;y", "port": 5}], "strip": False}]},
        {"routes": [{"prefix": "/notebooks/a", "targets": [{"id": 7, "port": 5}], "strip": False}]},
        {"routes": [{"prefix": 7, "targets": [], "strip": False}]},
        {"routes": [7]},
        {"routes": []},
        {"routes": [{"prefix": "/notebooks/a", "targets": [{"id": "x", "port": 5, "address": 7}], "strip": False}]},
        {"routes": [{"prefix": "/notebooks/a", "targets": [{"id": "x"}], "strip": False}]},
        {"routes": [ROUTE | {"hold": {"seconds": "long", "most": 1}}]},
        {"routes": [ROUTE | {"hold": {"seconds": 1}}]},
        {"routes": [ROUTE | {"hold": 7}]},
        {"routes": [ROUTE | {"access": {"kind": "basic", "sums": ["a b"]}}]},
        {"routes": [ROUTE | {"access": {"kind": "none", "sums": []}}]},
        {"routes": [ROUTE | {"limits": {"requests": -1}}]},
        {"routes": [ROUTE | {"limits": {"colour": 1}}]},
        {"slots": {"/notebooks/a": 256}},
        {"slots": {"/notebooks/a": -1}},
        {"slots": {"/notebooks/a": "0"}},
        {"slots": {}},
        {"capacity": "many"},
        {"binds": ["elsewhere"]},
        {"binds": None},
    ],
)
def test_a_damaged_table_is_told_and_not_served(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "routes.json"
    path.write_text(json.dumps(json.loads(saved.to_json(SAVED, "boot")) | change))
    with pytest.raises(saved.Damaged):
        saved.load(path, "boot")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\0", '{"boot": "boot"}'])
def test_no_text_breaks_the_reader(tmp_path: Path, text: str) -> None:
    path = tmp_path / "routes.json"
    path.write_text(text)
    with pytest.raises(saved.Damaged):
        saved.load(path, "boot")


def test_a_file_is_written_whole_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "f"
    saved.write(path, "one")
    saved.write(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_link_in_the_place_of_the_candidate_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "f.next").symlink_to(victim)
    with pytest.raises(RouterError, match="cannot be written"):
        saved.write(tmp_path / "f", "x")
    assert victim.read_text() == "precious"


def test_a_full_disk_is_told_and_leaves_the_former_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    saved.write(path, "one")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(NoSpace) as caught:
        saved.write(path, "two")
    assert "free some space" in caught.value.hint
    assert path.read_text() == "one"


def test_the_first_death_is_answered_at_once_and_many_slowly() -> None:
    delays = [backoff(deaths) for deaths in range(1, 30)]
    assert delays[0] == 0.0
    assert delays == sorted(delays)
    assert delays[-1] == 30.0
