"""A notebook that begins from a repository, on the real engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.labels import WORKSPACE
from appliance.fetching import errand
from appliance.notebooks.cloning import Cloning
from tests.integration.services import Services, eventually, needs_services, services
from tests.support.git import GitServer

pytestmark = needs_services

USER = (4711, 4711)
NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


@pytest.fixture
async def house(base_image: str, notebook_image: str) -> AsyncIterator[Services]:
    async with services() as found:
        yield found


async def workspace(house: Services, name: str) -> Path:
    return await house.workspaces.open(house.get("notebook", name).uid)


def owners(root: Path) -> set[tuple[int, int]]:
    return {(found.lstat().st_uid, found.lstat().st_gid) for found in [root, *root.rglob("*")]}


def spec(url: str, **more: str) -> dict[str, object]:
    return {"user": USER[0], "workspace": {"url": url, **more}}


async def test_the_repository_is_there_before_the_first_session_and_cloned_once(
    house: Services, git_server: GitServer, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("outside")
    repository = git_server.repository("team/project", login="me:hunter2-hunter2")
    repository.commit({"a.ipynb": NOTEBOOK, "b/c.txt": "x"}, links={"out": str(tmp_path / "secret")}, branch="dev")
    house.declare("notebook", "nb", spec(repository.url, ref="dev", username="me", password="secret:GIT"))
    assert "secret set GIT" in (await house.phase("notebook", "nb", "Failed")).message
    house.vault.set("GIT", "hunter2-wrong")

    def refused() -> bool:
        message = house.get("notebook", "nb").message  # at first the program's own words, while it still runs
        return "refuses the user name or the password" in message and "it is tried again by itself" in message

    await eventually(refused, "it is tried again by itself, with the secret that is there now")
    house.vault.set("GIT", "hunter2-hunter2")
    house.ask("notebook", "nb", "running")
    row = await house.phase("notebook", "nb", "Running", within_s=600)
    root = await workspace(house, "nb")
    assert sorted(os.listdir(root)) == [".git", "a.ipynb", "b", "out"]
    assert owners(root) == {USER}
    assert (tmp_path / "secret").stat().st_uid != USER[0]
    assert "hunter2" not in (root / ".git" / "config").read_text()
    assert "WorkspaceCloned" in house.events("notebook", "nb")
    assert await house.engine.list(kind=WORKSPACE, uid=row.uid) == []

    (root / "a.ipynb").unlink()
    repository.commit({"d.txt": "later"}, branch="dev")
    house.ask("notebook", "nb", "stopped")
    await house.phase("notebook", "nb", "Stopped")
    house.ask("notebook", "nb", "running")
    await eventually(lambda: house.get("notebook", "nb").status["session"] == 2, "another session")
    assert sorted(os.listdir(root)) == [".git", "b", "out"]
    house.vault.delete("GIT")
    house.declare(
        "notebook", "nb", spec(repository.url, ref="dev", username="me", password="secret:GIT") | {"shm": "1G"}
    )
    await eventually(lambda: house.get("notebook", "nb").status["session"] == 3, "it needs no secret any more")


async def test_no_session_begins_before_the_clone_has_tidied_up(
    house: Services, git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear = errand.clear

    async def slowly(*arguments: Any) -> None:
        await asyncio.sleep(2)
        await clear(*arguments)

    monkeypatch.setattr(errand, "clear", slowly)
    repository = git_server.repository("team/project")
    repository.commit({"a.txt": "x"})
    house.declare("notebook", "nb", spec(repository.url))
    row = await house.phase("notebook", "nb", "Running", within_s=600)
    assert "WorkspaceCloned" in house.events("notebook", "nb")
    assert await house.engine.list(kind=WORKSPACE, uid=row.uid) == []


async def test_one_notebook_of_a_repository_and_a_page_that_names_none(house: Services, git_server: GitServer) -> None:
    repository = git_server.repository("team/project")
    repository.commit({"deep/a b.ipynb": NOTEBOOK, "other.txt": "x"})
    base = repository.url.removesuffix(".git")
    house.declare("notebook", "nb", spec(f"{base}/blob/main/deep/a%20b.ipynb"))
    await house.phase("notebook", "nb", "Running", within_s=600)
    root = await workspace(house, "nb")
    assert os.listdir(root) == ["a b.ipynb"]
    assert (root / "a b.ipynb").read_text() == NOTEBOOK
    assert owners(root) == {USER}
    house.declare("notebook", "none", spec(f"{base}/blob/main/nothing.ipynb"))
    failed = await house.phase("notebook", "none", "Failed", within_s=120)
    assert "there is no nothing.ipynb on main of" in failed.message
    assert "correct `workspace`" in failed.message


async def test_files_that_are_there_are_left_alone(house: Services, git_server: GitServer) -> None:
    repository = git_server.repository("team/project")
    repository.commit({"a.txt": "theirs"})
    house.declare("notebook", "nb", {**spec(repository.url), "secrets": ["NONE"]})
    await house.phase("notebook", "nb", "Pending")
    (await workspace(house, "nb") / "a.txt").write_text("mine")
    house.declare("notebook", "nb", spec(repository.url))
    await house.phase("notebook", "nb", "Running", within_s=600)
    root = await workspace(house, "nb")
    assert os.listdir(root) == ["a.txt"]
    assert (root / "a.txt").read_text() == "mine"


async def test_half_a_clone_is_begun_anew_and_goes_where_none_is_wanted_any_more(
    house: Services, git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = git_server.repository("team/project")
    repository.commit({"a.txt": "whole"})
    real = Cloning._prepare

    def slow(self: Cloning, wanted: object, target: Path) -> object:
        prepare = real(self, wanted, target)  # type: ignore[arg-type]

        async def dies() -> object:
            found = await prepare()
            (target / "half").write_text("x")
            raise AssertionError(f"killed before {found.program} ran")

        return dies

    monkeypatch.setattr(Cloning, "_prepare", slow)
    for name in ("again", "without"):
        house.declare("notebook", name, spec(repository.url))
        await house.phase("notebook", name, "Failed", within_s=120)
        assert os.listdir(await workspace(house, name)) == ["half"]
    monkeypatch.setattr(Cloning, "_prepare", real)
    house.ask("notebook", "again", "running")
    house.declare("notebook", "without", {"user": USER[0]})
    await house.phase("notebook", "again", "Running", within_s=600)
    await house.phase("notebook", "without", "Running", within_s=600)
    assert sorted(os.listdir(await workspace(house, "again"))) == [".git", "a.txt"]
    assert os.listdir(await workspace(house, "without")) == []
