"""Run-scoped volumes: what a job writes, what its readers see, and that a run takes all of it along."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import NotFound
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.scratch import Scratch

pytestmark = pytest.mark.anyio
RUN, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "volumes", "for tests", durable=False)


@pytest.fixture
def scratch(store: DirectoryStore) -> Scratch:
    return Scratch(store)


async def test_each_reader_has_a_writable_view_of_its_own(scratch: Scratch) -> None:
    output = await scratch.create(RUN, "clone", "repo")
    (output / "train.py").write_text("one")
    await scratch.finish(RUN, "clone", "repo")
    first = await scratch.clone((RUN, "clone", "repo"), run=RUN, reader="train", name="code")
    (first / "train.py").write_text("changed by a reader")
    second = await scratch.clone((RUN, "clone", "repo"), run=RUN, reader="eval", name="code")
    assert (second / "train.py").read_text() == "one"
    assert (output / "train.py").read_text() == "one"


async def test_repeating_a_step_after_a_kill_changes_nothing(scratch: Scratch) -> None:
    output = await scratch.create(RUN, "clone", "repo")
    (output / "file").write_text("final")
    await scratch.finish(RUN, "clone", "repo")
    (output / "file").write_text("too late")
    await scratch.finish(RUN, "clone", "repo")
    assert await scratch.create(RUN, "clone", "repo") == output
    view = await scratch.clone((RUN, "clone", "repo"), run=RUN, reader="train", name="in")
    assert (view / "file").read_text() == "final"
    (view / "more").touch()
    assert (await scratch.clone((RUN, "clone", "repo"), run=RUN, reader="train", name="in") / "more").exists()


async def test_an_output_that_is_not_finished_cannot_be_read(scratch: Scratch) -> None:
    await scratch.create(RUN, "clone", "repo")
    with pytest.raises(NotFound):
        await scratch.clone((RUN, "clone", "repo"), run=RUN, reader="train", name="in")


async def test_any_names_do_and_stay_apart(scratch: Scratch, store: DirectoryStore) -> None:
    jobs = ["a", "a/b", "../../etc", "in-a", "x" * 300, "x" * 301, "ü", "", ".", "-rf"]
    paths = [await scratch.create(RUN, job, output) for job in jobs for output in jobs]
    assert len(set(paths)) == len(jobs) ** 2
    assert all(path.is_relative_to(store.root) for path in paths)


async def test_a_run_takes_everything_along_and_nothing_else(scratch: Scratch, store: DirectoryStore) -> None:
    for run in (RUN, OTHER):
        await scratch.create(run, "clone", "repo")
        await scratch.finish(run, "clone", "repo")
        await scratch.clone((run, "clone", "repo"), run=run, reader="train", name="code")
    store.create("datasets/1/abc")
    await scratch.destroy_run(RUN)
    await scratch.destroy_run(RUN)
    assert store.volumes() == [
        "datasets/1/abc",
        f"runs/{OTHER}/clone/out-repo",
        f"runs/{OTHER}/train/in-code",
    ]


async def test_runs_that_nobody_knows_are_swept(scratch: Scratch, store: DirectoryStore) -> None:
    await scratch.create(RUN, "clone", "repo")
    await scratch.create(OTHER, "clone", "repo")
    await scratch.sweep(lambda: [OTHER])
    assert store.volumes() == [f"runs/{OTHER}/clone/out-repo"]
    await scratch.sweep(list)
    assert store.volumes() == []


async def test_what_jobs_share_is_no_jobs_output(scratch: Scratch) -> None:
    shared = await scratch.shared(RUN, "out-x")
    for job in ("shared", "/shared", shared.parts[-1]):
        assert await scratch.create(RUN, job, "x") != shared
    assert await scratch.shared(RUN, "out-x") == shared
    assert await scratch.shared(OTHER, "out-x") != shared


async def test_a_run_lets_go_of_all_but_what_is_kept(scratch: Scratch, store: DirectoryStore) -> None:
    for job in ("make", "train"):
        await scratch.create(RUN, job, "out")
    await scratch.finish(RUN, "make", "out")
    assert await scratch.finished(RUN, "make", "out")
    assert not await scratch.finished(RUN, "train", "out")
    assert not await scratch.finished(RUN, "nobody", "out")
    await scratch.clone((RUN, "make", "out"), run=OTHER, reader="read", name="in")
    kept = scratch.volume(RUN, "make", "out")
    await scratch.destroy_run(RUN, keep={kept})
    assert store.volumes(f"runs/{RUN}") == [kept]
    await scratch.destroy_run(RUN)
    assert store.volumes() == [f"runs/{OTHER}/read/in-in"]
