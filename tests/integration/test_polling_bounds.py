"""Much at once: how many runs, changes and files one look takes, and what it tells of the rest."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from appliance.errors import NoSpace
from appliance.state import runs, triggers
from appliance.triggers import git as git_module
from appliance.triggers import repositories
from tests.integration.polling import FOLDER, MAIN, Bench, event_of, on
from tests.support.git import GitServer

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(shutil.which("git") is None, reason="no git")]

MANY = ("a", "b", "c")


def every(more: str = "") -> dict[str, str]:
    """Three workflows that any branch starts."""
    return {f"{FOLDER}/{name}.yaml": more + on("{branches: {}}") for name in MANY}


async def test_one_look_starts_so_many_runs_and_tells_what_it_left_out(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "MOST_RUNS", 5)
    site = server.repository("site", every())
    bench.declare(site.url)
    await bench.look()
    for number in range(8):
        site.branch(f"b{number}")
    pushed = site.commit({"README": "x"})
    server.requests.clear()
    made = await bench.look()
    assert [run.source.split(" at ")[0] for run in made] == ["branch main"] * 3 + ["branch b0"] * 2
    assert event_of(made[0])["ref"] == pushed
    (told,) = bench.told("NotStarted")
    assert told.startswith("9 branches and tags moved at once; not started: site.c of branch b0, branch b1, branch b2")
    assert "at most 5 runs" in told
    assert await bench.look() == []
    assert len(triggers.of(bench.db.read, bench.resource.uid, "ref:")) == 9
    site.commit({"README": "y"})
    assert len(await bench.look()) == 3


async def test_branches_at_one_commit_share_its_reading(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {**every(), f"{FOLDER}/broken.yaml": "on: {github: {branches: {}}}\njobs: 1\n"})
    bench.declare(site.url)
    await bench.look()
    for number in range(8):
        site.branch(f"b{number}")
    server.requests.clear()
    assert len(await bench.look()) == 8 * len(MANY)
    fetches = [line for line in server.requests if "POST" in line]
    site.commit({"README": "x"})
    server.requests.clear()
    assert len(await bench.look()) == len(MANY)
    assert 0 < len(fetches) <= len([line for line in server.requests if "POST" in line])
    assert len(bench.told("BrokenSpec")) == 2


async def test_more_changes_than_one_look_takes_are_taken_with_a_pause_and_the_runs_count_together(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "MOST_RUNS", 7)
    monkeypatch.setattr(repositories, "MOST_CHANGES", 2)
    site = server.repository("site", every())
    bench.declare(site.url, interval="1h")
    uid = bench.resource.uid
    assert await bench.repositories.look(uid) == 3600
    for number in range(6):
        site.branch(f"b{number}")
    first = await bench.repositories.look(uid)
    assert 0 < first < 3600
    assert len(runs.newest(bench.db.read)) == 6
    assert await bench.repositories.look(uid) == 3600
    assert len(runs.newest(bench.db.read)) == 7
    assert len(bench.told("NotStarted")) == 1
    assert await bench.look() == []


async def test_the_pause_between_looks_that_never_end_grows(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "MOST_CHANGES", 1)
    site = server.repository("site", {"README": "x"})
    bench.declare(site.url, interval="30s")
    uid = bench.resource.uid
    await bench.repositories.look(uid)
    for number in range(6):
        site.branch(f"b{number}")
    assert [await bench.repositories.look(uid) for _ in range(6)] == [5, 10, 20, 30, 30, 30]
    site.branch("b6")
    site.branch("b7")
    assert await bench.repositories.look(uid) == 5


async def test_what_is_left_out_is_left_out_in_the_moment_of_the_last_run(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "MOST_RUNS", 2)
    site = server.repository("site", every())
    bench.declare(site.url)
    await bench.look()
    site.branch("b0")
    site.branch("b1")

    def killed(*_: object, **__: object) -> None:
        raise NoSpace("the end comes here")

    with monkeypatch.context() as patch:
        patch.setattr(bench.repositories, "_leave_out", killed)
        with pytest.raises(NoSpace):
            await bench.look()
    assert runs.newest(bench.db.read) == []
    assert len(await bench.look()) == 2


async def test_too_many_files_are_cut_and_told(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "MOST_FILES", 3)
    site = server.repository("site", {"README": "x"})
    bench.declare(site.url)
    await bench.look()
    site.commit({f"{FOLDER}/{number}.yaml": MAIN for number in range(5)})
    assert len(await bench.look()) == 3
    assert "2 further files" in bench.resource.status["files"][""]


async def test_who_announces_pushes_without_end_makes_no_looks_without_end(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "SOONEST_S", 3600.0)
    site = server.repository("site", {"README": "x"})
    bench.declare(site.url, interval="5s")
    uid = bench.resource.uid
    bench.repositories.soon(uid)
    bench.repositories.begin([uid])
    turn = bench.repositories._turns[uid]
    assert turn.task is not None, "the first one looks at once"
    bench.repositories.soon(uid)
    async with asyncio.timeout(60):
        await turn.task
    for _ in range(3):
        bench.repositories.soon(uid)
        bench.repositories.begin([uid])
        assert turn.task is None
