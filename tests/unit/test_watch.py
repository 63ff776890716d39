"""The watched folder: half-written, broken, renamed, removed and linked files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.state import events, resources, spec_files
from appliance.state.db import Database
from appliance.watch import Watcher
from tests.conftest import Clock

pytestmark = pytest.mark.anyio

NOTEBOOK = "kind: notebook\nname: {}\nimage: {}\n"


class Folder:
    """A watched folder with a daemon's watcher over it, looked at by hand."""

    def __init__(self, path: Path, db: Database, clock: Clock) -> None:
        self.path = path
        self.db = db
        self.clock = clock
        self.hints: list[tuple[str, str]] = []
        self.path.mkdir()
        self.watcher = Watcher(db, path, debounce_s=1.0, clock=clock, hint=lambda *key: self.hints.append(key))

    def write(self, name: str, text: str, *, age: float = 60.0) -> None:
        (self.path / name).write_text(text)
        os.utime(self.path / name, (self.clock.now - age,) * 2)

    async def scan(self) -> float | None:
        return await self.watcher.scan()

    def notebook(self, name: str) -> resources.Resource:
        return resources.get(self.db.read, "notebook", name)

    def problem(self, name: str) -> str:
        return {found.path: found.problem for found in spec_files.every(self.db.read)}[name]


@pytest.fixture
def folder(tmp_path: Path, clock: Clock) -> Iterator[Folder]:
    db = Database(tmp_path / "state.db")
    yield Folder(tmp_path / "specs", db, clock)
    db.close()


async def test_a_file_is_declared_once_it_lies_still(folder: Folder) -> None:
    folder.write("a.yaml", NOTEBOOK.format("nb", "one"), age=0.2)
    settle = await folder.scan()
    assert settle is not None
    assert 0.5 < settle <= 1.0
    assert resources.every(folder.db.read) == []
    folder.clock.now += settle
    assert await folder.scan() is None
    assert folder.notebook("nb").source == "file:a.yaml"
    assert folder.hints == [("notebook", folder.notebook("nb").uid)]


async def test_a_second_look_changes_nothing(folder: Folder) -> None:
    folder.write("a.yaml", NOTEBOOK.format("nb", "one"))
    await folder.scan()
    folder.hints.clear()
    await folder.scan()
    assert folder.hints == []


async def test_a_broken_change_keeps_the_last_good_spec_and_says_where(folder: Folder) -> None:
    folder.write("a.yaml", NOTEBOOK.format("nb", "one"))
    await folder.scan()
    folder.write("a.yaml", "kind: notebook\nname: nb\nimagee: two\n")
    await folder.scan()
    await folder.scan()
    assert folder.notebook("nb").spec["image"] == "one"
    assert "a.yaml:3:1" in folder.problem("a.yaml")
    broken = [event for event in events.newest(folder.db.read, kind="spec") if event.reason == "Broken"]
    assert len(broken) == 1
    assert "last good spec stays" in broken[0].message
    folder.write("a.yaml", NOTEBOOK.format("nb", "two"))
    await folder.scan()
    assert folder.problem("a.yaml") == ""
    assert folder.notebook("nb").spec["image"] == "two"


async def test_removing_a_file_stops_what_it_declared_and_bringing_it_back_starts_it(folder: Folder) -> None:
    folder.write("a.yaml", NOTEBOOK.format("nb", "one"))
    await folder.scan()
    (folder.path / "a.yaml").unlink()
    await folder.scan()
    assert folder.notebook("nb").desired == "stopped"
    assert spec_files.every(folder.db.read) == []
    folder.write("a.yaml", NOTEBOOK.format("nb", "one"))
    folder.hints.clear()
    await folder.scan()
    assert folder.notebook("nb").desired == "running"
    assert folder.hints == [("notebook", folder.notebook("nb").uid)]


async def test_a_renamed_file_goes_on_without_a_stop(folder: Folder) -> None:
    folder.write("a.yaml", NOTEBOOK.format("nb", "one"))
    await folder.scan()
    (folder.path / "a.yaml").rename(folder.path / "b.yaml")
    await folder.scan()
    notebook = folder.notebook("nb")
    assert (notebook.desired, notebook.source, notebook.generation) == ("running", "file:b.yaml", 1)
    assert not [event for event in events.newest(folder.db.read) if event.reason == "Withdrawn"]


async def test_what_a_file_no_longer_names_is_stopped(folder: Folder) -> None:
    folder.write("a.yaml", NOTEBOOK.format("one", "x") + "---\n" + NOTEBOOK.format("two", "x"))
    await folder.scan()
    folder.write("a.yaml", NOTEBOOK.format("one", "x"))
    await folder.scan()
    assert (folder.notebook("one").desired, folder.notebook("two").desired) == ("running", "stopped")


async def test_two_files_cannot_declare_the_same_name(folder: Folder) -> None:
    folder.write("a.yaml", NOTEBOOK.format("nb", "one"))
    folder.write("b.yaml", NOTEBOOK.format("nb", "two"))
    await folder.scan()
    assert folder.notebook("nb").spec["image"] == "one"
    assert "declared by a.yaml already" in folder.problem("b.yaml")
    (folder.path / "a.yaml").unlink()
    await folder.scan()
    await folder.scan()
    assert folder.notebook("nb").spec["image"] == "two"


async def test_a_link_is_never_followed(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yaml").write_text(NOTEBOOK.format("nb", "one"))
    (folder.path / "a.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    folder.clock.now += 1e9
    await folder.scan()
    assert resources.every(folder.db.read) == []
    assert folder.problem("a.yaml")


async def test_a_folder_that_cannot_be_read_stops_nothing(folder: Folder) -> None:
    folder.write("a.yaml", NOTEBOOK.format("nb", "one"))
    await folder.scan()
    folder.path.rename(folder.path.with_name("away"))
    await folder.scan()
    assert folder.notebook("nb").desired == "running"
    folder.path.with_name("away").rename(folder.path)
    await folder.scan()
    assert folder.notebook("nb").source == "file:a.yaml"


async def test_a_file_that_is_too_large_is_told_without_being_read(folder: Folder) -> None:
    with (folder.path / "big.yaml").open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it would take minutes
    folder.clock.now += 1e9
    await folder.scan()
    assert folder.problem("big.yaml")


async def test_other_files_are_left_alone(folder: Folder) -> None:
    for name in ("notes.txt", ".hidden.yaml", "a.yaml~", ".a.yaml.swp"):
        folder.write(name, "x: [")
    await folder.scan()
    assert spec_files.every(folder.db.read) == []
