"""What lies beside a workspace, and secrets that are on no disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from appliance.errors import StorageError
from appliance.notebooks.beside import HOME, LAB, SIGNALS, Beside
from appliance.notebooks.confided import Confided
from appliance.notebooks.mounts import environment
from appliance.settings import Settings
from appliance.spec.models import Notebook
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.shared import FOR_ALL, shared
from tests.unit.notebooks.test_controller import House
from tests.unit.notebooks.test_controller import house as house

ME = (os.geteuid(), os.getegid())
USER = (4711, 4712) if os.geteuid() == 0 else ME


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def test_the_folders_beside_a_workspace_are_the_users_and_the_way_to_them_is_not(settings: Settings) -> None:
    path = Beside(settings).open("ab12", USER)
    assert path == settings.home / "notebooks" / "ab12"
    mine = [LAB, f"{LAB}/workspaces", f"{LAB}/settings", HOME, SIGNALS]
    assert {owner(path / name) for name in mine} == {USER}
    assert owner(path) == ME
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    (path / HOME / "kept").write_text("x")
    assert Beside(settings).open("ab12", USER) == path
    assert (path / HOME / "kept").exists()


def test_what_a_session_puts_in_the_place_of_a_folder_leads_nowhere(settings: Settings, tmp_path: Path) -> None:
    path = Beside(settings).open("ab12", USER)
    (path / LAB / "settings").rmdir()
    (path / LAB / "settings").symlink_to(tmp_path / "outside")
    (path / LAB / "workspaces").rmdir()
    (path / LAB / "workspaces").write_text("a file")
    Beside(settings).open("ab12", USER)
    assert not (tmp_path / "outside").exists()
    assert (path / LAB / "workspaces").read_text() == "a file"


def test_notes_are_kept_until_all_goes(settings: Settings) -> None:
    beside = Beside(settings)
    assert beside.note("ab12", "workspace") == ""
    beside.write_note("ab12", "workspace", "done")
    assert beside.note("ab12", "workspace") == "done"
    beside.open("ab12", USER)
    beside.remove("ab12")
    beside.remove("ab12")
    assert not beside.path("ab12").exists()


def test_secrets_are_files_for_one_user_written_anew_each_time(tmp_path: Path) -> None:
    confided = Confided("cafe", lambda: [tmp_path])
    confided.write("nb", {"OLD": "x"}, USER)
    folder = confided.write("nb", {"TOKEN": "wert-ß", "other": "a\nb"}, USER)
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"TOKEN": "wert-ß", "other": "a\nb"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o400}
    assert {owner(file) for file in [folder, *folder.iterdir()]} == {USER}
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    confided.write("run", {"A": "b"}, ME)
    confided.remove("nb")
    confided.remove("nb")
    assert [found.name for found in folder.parent.iterdir()] == ["run"]
    confided.write("run-2", {"A": "b"}, ME)
    confided.write("other", {"A": "b"}, ME)
    confided.remove_all("run")
    assert [found.name for found in folder.parent.iterdir()] == ["other"]
    confided.remove("other")
    assert list(tmp_path.iterdir()) == []


def test_no_secret_goes_where_others_may_look(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no folder in memory"):
        Confided("cafe", list).write("nb", {"A": "b"}, ME)
    strange, second = tmp_path / "one", tmp_path / "two"
    (strange / "appliance-cafe").mkdir(parents=True)
    (strange / "appliance-cafe").chmod(0o755)
    second.mkdir()
    assert Confided("cafe", lambda: [strange, second]).write("nb", {"A": "b"}, ME).is_relative_to(second)
    Confided("cafe", lambda: [second]).remove("nb")
    (strange / "appliance-cafe").rmdir()
    theirs = tmp_path / "theirs"
    (theirs / "nb").mkdir(parents=True)
    (strange / "appliance-cafe").symlink_to(theirs)
    Confided("cafe", lambda: [strange]).remove("nb")
    assert (theirs / "nb").exists()
    with pytest.raises(StorageError, match="no folder in memory"):
        Confided("cafe", lambda: [strange]).write("nb", {"A": "b"}, ME)


def test_storage_is_everybodys(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    store = DirectoryStore(settings.volumes_dir, "a test")
    assert shared(store) == shared(store)
    assert stat.S_IMODE(shared(store).stat().st_mode) == FOR_ALL == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_a_container_has_made_of_the_shared_folder_is_taken_back(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    store = DirectoryStore(settings.volumes_dir, "a test")
    os.chown(shared(store), *USER)
    assert owner(shared(store)) == ME
    shared(store).chmod(0o700)
    os.chown(shared(store), *USER)
    assert stat.S_IMODE(shared(store).stat().st_mode) == FOR_ALL


@pytest.mark.anyio
async def test_the_shared_folder_is_looked_after_without_a_session_that_begins(house: House) -> None:
    shared(house.store).chmod(0o700)
    await house.notebooks.tend(house.clock())
    assert stat.S_IMODE(house.store.path("storage").stat().st_mode) == FOR_ALL


def test_a_user_without_a_name_in_the_image_gets_one_and_a_home() -> None:
    assert "HOME" not in environment(Notebook(name="nb"))
    found = environment(Notebook(name="nb", user="1000:1000"))
    assert found["HOME"] == "/home/notebook"
    assert found["USER"] == found["LOGNAME"] != ""
