"""The room over real state: first sights, exactly one run a change, restarts, loops, and what cannot be started."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from appliance import apply
from appliance.state import resources, triggers, versions
from appliance.triggers import folders
from appliance.triggers.decisions import SETTLE_S
from appliance.triggers.git import Refs
from appliance.workflows import concurrency
from tests.unit.triggers.conftest import JOBS, Bench, until

pytestmark = pytest.mark.anyio

HOURLY = "on: {schedule: [{cron: '0 * * * *', timezone: UTC}]}\n" + JOBS
HOUR = 3600.0


def to_the_hour(bench: Bench) -> float:
    return HOUR - bench.clock.now % HOUR


async def test_a_schedule_starts_a_run_at_its_tick_and_not_at_once(bench: Bench) -> None:
    bench.apply(HOURLY)
    assert bench.look() == []
    assert bench.look(after=to_the_hour(bench) - 1) == []
    (run,) = bench.look(after=1)
    assert (run.cause, run.workflow) == ("schedule", "wf")
    assert run.source.endswith(":00 UTC")
    assert bench.hints == [("run", run.id)]
    assert bench.look(after=1) == []
    assert len(bench.look(after=to_the_hour(bench))) == 1


async def test_ticks_while_no_daemon_ran_are_skipped_and_said_once(bench: Bench) -> None:
    bench.apply(HOURLY)
    bench.look()
    bench.clock.now += 5 * HOUR + 100
    bench.restart()
    assert bench.look() == []
    assert bench.look(after=1) == []
    (told,) = bench.told("TicksMissed")
    assert "5 ticks" in told
    assert len(bench.look(after=to_the_hour(bench))) == 1


async def test_a_restart_after_the_tick_starts_no_second_run(bench: Bench) -> None:
    bench.apply(HOURLY)
    bench.look()
    assert len(bench.look(after=to_the_hour(bench))) == 1
    bench.restart()
    assert bench.look() == []
    assert bench.told("TicksMissed") == []


async def test_a_kill_between_the_run_and_the_mark_is_impossible(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are in one transaction: when the second fails, the first is not there either."""
    bench.apply(HOURLY)
    bench.look()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("appliance.workflows.submit.runs.create", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.look(after=to_the_hour(bench))
    assert bench.runs() == []
    assert len(bench.look(after=1)) == 1


async def test_a_trigger_that_comes_back_is_seen_for_the_first_time(bench: Bench) -> None:
    workflow = bench.apply(HOURLY)
    bench.look()
    bench.apply(JOBS)
    bench.look()
    assert triggers.of(bench.db.read, workflow.uid) == {}
    bench.clock.now += 10 * HOUR
    bench.apply(HOURLY)
    assert bench.look() == []
    assert bench.told("TicksMissed") == []


async def test_a_withdrawn_workflow_rests(bench: Bench) -> None:
    bench.apply(HOURLY)
    bench.look()
    with bench.db.write() as db:
        apply.withdraw(db, "workflow", "wf", source="file:wf.yaml", now=bench.clock())
    assert bench.look(after=to_the_hour(bench)) == []


# datasets

ON_DATA = "on: {dataset: data}\ninputs: {x: {type: dataset, with: {ref: data}}}\n" + JOBS


async def test_each_new_version_starts_one_run_on_that_very_version(bench: Bench) -> None:
    await bench.version("data")
    bench.apply(ON_DATA)
    assert bench.look() == []
    first, second = await bench.version("data"), await bench.version("data")
    started = bench.look()
    assert [run.source for run in started] == [f"data:{first}", f"data:{second}"]
    assert [run.inputs["x"]["ref"] for run in started] == [f"data:{first}", f"data:{second}"]
    assert {run.cause for run in started} == {"dataset"}
    assert bench.look() == []
    bench.restart()
    assert bench.look() == []


async def test_a_version_that_came_before_the_daemon_was_killed_is_started_once_afterwards(bench: Bench) -> None:
    bench.apply(ON_DATA)
    bench.look()
    await bench.version("data")
    bench.restart()
    assert len(bench.look()) == 1
    bench.restart()
    assert bench.look() == []


async def test_a_dataset_that_is_made_later_counts_from_its_first_version(bench: Bench) -> None:
    bench.apply(ON_DATA)
    assert bench.look() == []
    await bench.version("data")
    assert len(bench.look()) == 1


async def test_a_version_that_is_not_committed_starts_nothing(bench: Bench) -> None:
    await bench.version("data")
    bench.apply(ON_DATA)
    bench.look()
    opened = await bench.datasets.begin("data")
    assert bench.look() == []
    await bench.datasets.commit(opened)
    assert len(bench.look()) == 1


async def test_a_clock_that_went_back_hides_no_version(bench: Bench) -> None:
    await bench.version("data")
    bench.apply(ON_DATA)
    bench.look()
    bench.clock.now -= 86_400
    await bench.version("data")
    assert len(bench.look()) == 1


async def test_a_workflow_does_not_start_itself(bench: Bench) -> None:
    bench.apply(ON_DATA)
    bench.look()
    await bench.version("data")
    (run,) = bench.look()
    own = await bench.version("data", run=run.id, job="a")
    assert bench.look() == []
    (told,) = bench.told("NotStarted")
    assert f"data:{own}" in told
    assert "wf.1 itself" in told
    assert "for ever" in told
    await bench.version("data")
    assert len(bench.look()) == 1


async def test_two_workflows_do_not_start_each_other_for_ever(bench: Bench) -> None:
    bench.apply("on: {dataset: one}\n" + JOBS, "first.yaml")
    bench.apply("on: {dataset: two}\n" + JOBS, "second.yaml")
    bench.look()
    await bench.version("one")
    for _ in range(6):
        for run in bench.look():
            await bench.version({"first": "two", "second": "one"}[run.workflow], run=run.id, job="a")
    assert [run.workflow for run in bench.runs()] == ["first", "second"]
    (told,) = bench.told("NotStarted")
    assert "first.1 itself, by way of second.1" in told


async def test_the_chain_is_followed_through_a_resumed_run(bench: Bench) -> None:
    bench.apply("on: {dataset: one}\n" + JOBS, "first.yaml")
    bench.apply("on: {dataset: two}\n" + JOBS, "second.yaml")
    bench.look()
    await bench.version("one")
    (first,) = bench.look()
    await bench.version("two", run=first.id, job="a")
    (second,) = bench.look()
    bench.db.read.execute(
        "UPDATE runs SET cause = 'resume', parent = ?, source = '' WHERE id = ?", (first.id, second.id)
    )
    await bench.version("one", run=second.id, job="a")
    assert bench.look() == []


async def test_a_destroyed_version_is_no_news(bench: Bench) -> None:
    old = await bench.version("data")
    bench.apply(ON_DATA)
    bench.look()
    dataset = resources.get(bench.db.read, "dataset", "data")
    versions.drop(bench.db.read, dataset.uid, old)
    assert bench.look() == []
    await bench.version("data")
    assert len(bench.look()) == 1


# its own file


async def test_a_file_starts_its_workflow_when_it_is_new_and_when_it_changes(bench: Bench) -> None:
    text = "on: {spec: true}\n" + JOBS
    bench.apply(text)
    (first,) = bench.look()
    assert (first.cause, first.source) == ("spec", "wf.yaml is new")
    bench.restart()
    bench.apply(text)
    assert bench.look() == []
    bench.apply(text.replace("'true'", "'false'"))
    (second,) = bench.look()
    assert second.source == "wf.yaml has changed"
    assert second.spec["jobs"]["a"]["with"]["script"] == "false"


async def test_a_workflow_that_came_by_a_command_is_no_file(bench: Bench) -> None:
    bench.apply("on: {spec: true}\n" + JOBS, source="cli")
    assert bench.look() == []
    assert bench.look() == []
    (told,) = bench.told("NotStarted")
    assert "cli" in told


# what cannot be started


async def test_a_run_that_lacks_an_input_is_told_and_not_tried_again(bench: Bench) -> None:
    bench.apply("inputs: {x: {type: string}}\n" + HOURLY)
    bench.look()
    assert bench.look(after=to_the_hour(bench)) == []
    assert bench.look(after=1) == []
    (told,) = bench.told("NotStarted")
    assert "no value for input x" in told


async def test_a_run_that_would_write_to_no_dataset_is_told_with_what_makes_it(bench: Bench) -> None:
    bench.apply(HOURLY.replace("'true'}", "'true'}, outputs: {d: {type: dataset, with: {ref: digits}}}"))
    bench.look()
    assert bench.look(after=to_the_hour(bench)) == []
    (told,) = bench.told("NotStarted")
    assert "no dataset 'digits', to which job a writes" in told
    assert "`appliance dataset create digits`" in told
    bench.datasets.create("digits")
    assert len(bench.look(after=to_the_hour(bench))) == 1


async def test_skip_makes_no_second_run_and_says_so(bench: Bench) -> None:
    bench.apply("concurrency: skip\n" + HOURLY)
    bench.look()
    (run,) = bench.look(after=to_the_hour(bench))
    assert bench.look(after=to_the_hour(bench)) == []
    (told,) = bench.told("NotStarted")
    assert "wf.1 goes on" in told
    bench.finish(run)
    assert len(bench.look(after=to_the_hour(bench))) == 1


async def test_a_full_queue_is_told_once_until_it_takes_runs_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "MOST_WAITING", 2)
    bench.apply("concurrency: queue\n" + HOURLY)
    bench.look()
    first, _ = [bench.look(after=to_the_hour(bench))[0] for _ in range(2)]
    for _ in range(3):
        assert bench.look(after=to_the_hour(bench)) == []
    (told,) = bench.told("NotStarted")
    assert "2 runs of workflow 'wf' wait already" in told
    bench.finish(first)
    assert len(bench.look(after=to_the_hour(bench))) == 1
    for _ in range(2):
        assert bench.look(after=to_the_hour(bench)) == []
    assert len(bench.told("NotStarted")) == 2


async def test_a_full_disk_keeps_the_tick_for_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.errors import NoSpace

    bench.apply(HOURLY)
    bench.look()

    def full(*_: object, **__: object) -> None:
        raise NoSpace("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("appliance.workflows.submit.runs.create", full)
        assert bench.look(after=to_the_hour(bench)) == []
    assert len(bench.look(after=2)) == 1


# folders


def seen(bench: Bench, path: Path) -> None:
    bench.triggers._saw(str(path), folders.look(str(path)))


async def test_a_folder_counts_as_changed_once_it_lies_still(bench: Bench, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    bench.apply(f"on: {{folder: {data}}}\n" + JOBS)
    seen(bench, data)
    assert bench.look() == []
    (data / "a").write_text("x")
    for size in range(3):  # it is being written
        (data / "a").write_text("x" * (size + 2))
        seen(bench, data)
        assert bench.look(after=SETTLE_S / 2) == []
    seen(bench, data)
    (run,) = bench.look(after=SETTLE_S)
    assert run.cause == "folder"
    assert str(data) in run.source
    seen(bench, data)
    assert bench.look(after=SETTLE_S) == []


async def test_a_change_while_no_daemon_ran_starts_one_run(bench: Bench, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    bench.apply(f"on: {{folder: {data}}}\n" + JOBS)
    seen(bench, data)
    bench.look()
    (data / "a").write_text("x")
    bench.restart()
    seen(bench, data)
    assert bench.look() == []
    seen(bench, data)
    assert len(bench.look(after=SETTLE_S)) == 1


async def test_a_folder_that_is_away_and_comes_back_the_same_starts_nothing(bench: Bench, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("x")
    bench.apply(f"on: {{folder: {data}}}\n" + JOBS)
    seen(bench, data)
    bench.look()
    data.rename(tmp_path / "away")
    seen(bench, data)
    assert bench.look(after=60) == []
    (tmp_path / "away").rename(data)
    seen(bench, data)
    assert bench.look(after=60) == []


async def test_a_folder_that_is_made_later_starts_a_run(bench: Bench, tmp_path: Path) -> None:
    data = tmp_path / "data"
    bench.apply(f"on: {{folder: {data}}}\n" + JOBS)
    seen(bench, data)
    bench.look()
    data.mkdir()
    seen(bench, data)
    assert len(bench.look(after=SETTLE_S)) == 1


async def test_a_link_is_not_followed_and_told_once(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    bench.apply(f"on: {{folder: {tmp_path / 'link'}}}\n" + JOBS)
    for _ in range(3):
        seen(bench, tmp_path / "link")
        assert bench.look(after=10) == []
    (told,) = bench.told("TriggerBlind")
    assert "is a link" in told
    assert "is a link" in bench.triggers.health()[1]


async def test_what_a_link_inside_leads_to_is_not_looked_at(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir()
    elsewhere.mkdir()
    (data / "link").symlink_to(elsewhere)
    before = folders.look(str(data)).fingerprint
    (elsewhere / "new").write_text("x")
    assert folders.look(str(data)).fingerprint == before
    (data / "link").unlink()
    (data / "link").symlink_to("/other")
    assert folders.look(str(data)).fingerprint != before


@pytest.mark.parametrize("change", ["add", "remove", "grow", "rename", "nested", "kind"])
async def test_every_kind_of_change_is_seen(tmp_path: Path, change: str) -> None:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "a").write_text("x")
    before = folders.look(str(data)).fingerprint
    assert folders.look(str(data)).fingerprint == before
    match change:
        case "add":
            (data / "b").touch()
        case "remove":
            (data / "a").unlink()
        case "grow":
            (data / "a").write_text("xx")
        case "rename":
            (data / "a").rename(data / "b")
        case "nested":
            (data / "sub" / "deep").touch()
        case _:
            (data / "sub").rmdir()
            (data / "sub").touch()
    assert folders.look(str(data)).fingerprint != before


async def test_a_folder_of_too_many_files_is_refused_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_ENTRIES", 50)
    for number in range(60):
        (tmp_path / f"{number}").touch()
    assert "more than 50 entries" in folders.look(str(tmp_path)).problem


async def test_a_deep_folder_is_refused(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert "folders deep" in folders.look(str(tmp_path)).problem


async def test_the_appliances_own_state_is_no_input(tmp_path: Path) -> None:
    """Each run would change it, which would start the next."""
    home = tmp_path / "home"
    (home / "specs").mkdir(parents=True)
    (home / "volumes").mkdir()
    (tmp_path / "home-of-others").mkdir()
    (tmp_path / "way").symlink_to(home)
    for inside in (home, home / "volumes", tmp_path, Path("/"), tmp_path / "way" / "volumes"):
        assert "own state" in folders.look(str(inside), home=str(home)).problem
    for outside in (home / "specs", tmp_path / "home-of-others"):
        assert folders.look(str(outside), home=str(home)).fingerprint


async def test_pipes_and_sockets_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    begun = time.monotonic()
    assert folders.look(str(tmp_path)).entries == 1
    assert folders.look(str(tmp_path / "pipe")).entries == 1
    assert time.monotonic() - begun < 60


async def test_on_github_of_a_declared_workflow_is_told_to_start_nothing(bench: Bench) -> None:
    bench.apply("on: {github: {branches: {only: main}}}\n" + JOBS)
    for _ in range(3):
        assert bench.look() == []
    (told,) = bench.told("NotPolled")
    assert "kind: repository" in told


async def test_without_git_the_status_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.triggers.git.program_path", lambda: "/nowhere")
    bench.look()
    assert bench.triggers.health() == (True, "nothing starts by itself")
    site = bench.apply("kind: repository\nname: site\nurl: https://example.com/a.git\n", "site.yaml")
    bench.look()
    working, words = bench.triggers.health()
    assert not working
    assert "./install.sh installs it" in words
    bench.triggers.repositories.begin([site.uid])
    await until(lambda: _site(bench).phase == "Failed", "a look that fails")
    assert "git is not installed" in _site(bench).message
    await bench.triggers.repositories.close()


async def test_a_repository_is_pending_until_its_first_look(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "kind: repository\nname: site\nurl: https://127.0.0.1:1/site.git\n"
    bench.apply(text)
    assert (_site(bench).phase, _site(bench).message) == ("Pending", "not looked at yet")

    async def refs(*_: object) -> Refs:
        return Refs({"refs/heads/main": "0" * 40}, "")

    monkeypatch.setattr(bench.triggers._git, "refs", refs)
    await bench.triggers.repositories.look(_site(bench).uid)
    assert (_site(bench).phase, _site(bench).message) == ("Ready", "")
    bench.apply(text)
    assert _site(bench).phase == "Ready", "nothing has changed"
    bench.apply(text.replace("site.git", "other.git"))
    assert _site(bench).phase == "Pending"
    await bench.triggers.repositories.look(_site(bench).uid)
    assert _site(bench).phase == "Ready"


def _site(bench: Bench) -> resources.Resource:
    return resources.get(bench.db.read, "repository", "site")


async def test_the_loop_looks_by_itself_and_ends_when_it_is_told(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    workflow = bench.apply(f"on: {{folder: {tmp_path / 'data'}, spec: true}}\n" + JOBS)
    others = asyncio.all_tasks()
    loop = asyncio.create_task(bench.triggers.run())

    def ran_twice() -> bool:
        bench.clock.now += 0.1
        return len(bench.runs()) == 2

    try:
        await until(lambda: triggers.of(bench.db.read, workflow.uid, "folder:"), "the first look at the folder")
        (tmp_path / "data" / "new").touch()
        await until(ran_twice, "a run of the file and one of the folder")
        assert {run.cause for run in bench.runs()} == {"spec", "folder"}
        assert "1 workflow starts by itself" in bench.triggers.health()[1]
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
    assert asyncio.all_tasks() == others


async def test_what_is_written_right_after_the_first_look_is_a_change(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look is marked when it is made, not when the loop comes by again."""
    monkeypatch.setattr("appliance.triggers.triggers.LOOK_S", 3600.0)
    (tmp_path / "data").mkdir()
    workflow = bench.apply(f"on: {{folder: {tmp_path / 'data'}}}\n" + JOBS)
    loop = asyncio.create_task(bench.triggers.run())
    try:
        await until(lambda: triggers.of(bench.db.read, workflow.uid, "folder:"), "the mark, without another look")
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_a_disk_that_does_not_answer_holds_up_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network disk that is away: its look never ends, the other folder's is made, the end comes at once."""
    away = threading.Event()

    def look(path: str, *, home: str) -> folders.Found:
        if path == "/away":
            away.wait(60)
        return folders.Found("same", 1)

    monkeypatch.setattr(folders, "look", look)
    monkeypatch.setattr(folders, "ANSWER_S", 0.2)
    workflow = bench.apply("on: {folder: [/away, /here]}\n" + JOBS)
    loop = asyncio.create_task(bench.triggers.run())
    try:
        await until(lambda: bench.told("TriggerBlind"), "the disk that is away is told")
        await until(lambda: triggers.of(bench.db.read, workflow.uid, "folder:/here"), "a look at the other one")
        assert "/away has not answered" in bench.told("TriggerBlind")[0]
    finally:
        begun = time.monotonic()
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        away.set()
    assert time.monotonic() - begun < 60


def detail(bench: Bench) -> tuple[str, str]:
    found = resources.get(bench.db.read, "workflow", "wf")
    return found.phase, found.message


async def test_its_detail_says_which_triggers_cannot_fire_until_they_can(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    bench.apply(f"on: {{dataset: data, folder: {folder}, spec: true}}\n" + JOBS, source="cli")
    seen(bench, folder)
    place = f"there is nothing at {folder} yet"
    spec = "`on.spec` looks at files of the watched folder, and this workflow came by cli"
    for _ in range(2):
        bench.look(after=1)
        dataset = "there is no dataset 'data' yet: its first version starts a run"
        assert detail(bench) == ("Ready", f"{dataset}; {place}; {spec}")
    await bench.version("data")
    bench.look(after=1)
    assert detail(bench)[1] == f"{place}; {spec}"
    folder.mkdir()
    seen(bench, folder)
    bench.look(after=1)
    assert detail(bench)[1] == spec
    bench.restart()
    bench.look(after=1)
    assert detail(bench)[1].endswith(spec)
    bench.apply(f"on: {{folder: {folder}}}\n" + JOBS, source="cli")
    bench.look(after=1)
    assert detail(bench)[1] == ""
    bench.apply("on: {github: {branches: {only: main}}}\n" + JOBS, source="cli")
    bench.look(after=1)
    assert detail(bench)[1].startswith("`on.github` counts in .gradient/workflows")
    bench.apply(JOBS, source="cli")
    bench.look(after=1)
    assert detail(bench) == ("Ready", "")


async def test_one_applied_again_unchanged_has_its_detail_again(bench: Bench) -> None:
    text = "on: {dataset: data}\n" + JOBS
    bench.apply(text)
    bench.look()
    before = detail(bench)
    assert before[1]
    bench.apply(text)
    bench.look(after=1)
    assert detail(bench) == before


async def test_what_starts_nothing_any_more_has_no_detail_of_its_triggers(bench: Bench) -> None:
    """Also where it was withdrawn while no daemon ran."""
    bench.apply("on: {dataset: data}\n" + JOBS)
    bench.look()
    with bench.db.write() as db:
        apply.withdraw(db, "workflow", "wf", source="file:wf.yaml", now=bench.clock())
    bench.restart()
    bench.look()
    assert detail(bench)[1] == ""


async def test_only_a_change_of_the_detail_is_written(bench: Bench) -> None:
    bench.apply("on: {dataset: data}\n" + JOBS)
    for _ in range(3):
        bench.look(after=1)
    before = bench.db.read.total_changes
    for _ in range(3):
        bench.look(after=1)
    assert bench.db.read.total_changes == before


async def test_before_the_first_look_the_status_knows_what_starts_by_itself(bench: Bench) -> None:
    bench.apply(HOURLY)
    assert bench.triggers.health() == (True, "1 workflow starts by itself")
    assert bench.look() == []
    assert bench.triggers.health() == (True, "1 workflow starts by itself")


async def test_what_the_status_has_read_is_no_first_look(bench: Bench) -> None:
    """Marks of what was withdrawn while nobody looked are forgotten all the same."""
    workflow = bench.apply(HOURLY)
    bench.look()
    with bench.db.write() as db:
        apply.withdraw(db, "workflow", "wf", source="file:wf.yaml", now=bench.clock())
    bench.restart()
    assert bench.triggers.health() == (True, "nothing starts by itself")
    bench.look()
    assert triggers.of(bench.db.read, workflow.uid) == {}


async def test_a_webhook_without_its_secret_is_told_until_it_is_set(bench: Bench) -> None:
    bench.apply("on: {webhook: {secret: secret:HOOK}}\n" + JOBS)
    for _ in range(2):
        bench.look(after=1)
    (told,) = bench.told("TriggerBlind")
    assert told.startswith("no signed message is taken: no secret named 'HOOK'")
    assert told in bench.triggers.health()[1]
    assert detail(bench) == ("Ready", told)
    bench.vault.set("HOOK", "word")
    bench.look(after=1)
    assert told not in bench.triggers.health()[1]
    assert detail(bench) == ("Ready", "")
