"""What a look at a repository leads to: pushes, tags, the files of a commit, restarts."""

from __future__ import annotations

import shutil

import pytest

from appliance.errors import NoSpace
from appliance.state import resources, runs, triggers
from appliance.triggers import git as git_module
from appliance.triggers.git import Git, Remote
from appliance.workflows.submit import start_run
from tests.integration.polling import FOLDER, JOBS, MAIN, Bench, event_of, on
from tests.support.git import GitServer

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(shutil.which("git") is None, reason="no git")]


async def test_the_first_look_starts_nothing_and_the_next_push_does(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {f"{FOLDER}/train.yaml": MAIN})
    bench.declare(site.url)
    assert await bench.look() == []
    assert await bench.look() == []
    pushed = site.commit({"README": "x"})
    (run,) = await bench.look()
    assert (run.workflow, run.cause) == ("site.train", "git")
    assert event_of(run) == {"url": site.url, "ref": pushed}
    assert run.source == f"branch main at {pushed[:12]} of site: {FOLDER}/train.yaml"
    assert bench.hints == [("run", run.id)]
    assert await bench.look() == []
    assert bench.resource.phase == "Ready"
    assert bench.resource.status["commit"] == pushed
    assert bench.resource.status["started"] == ["site.train.1"]


async def test_the_workflows_of_the_pushed_commit_count(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {"README": "x"})
    bench.declare(site.url)
    await bench.look()
    site.commit({f"{FOLDER}/a.yml": MAIN, f"{FOLDER}/b.yaml": on("{branches: {include: ['rel/*']}}"), "c.yaml": MAIN})
    assert [run.workflow for run in await bench.look()] == ["site.a"]
    site.branch("rel/1")
    assert [run.workflow for run in await bench.look()] == ["site.b"]
    site.branch("other")
    assert await bench.look() == []
    site.commit({f"{FOLDER}/a.yml": None})
    assert await bench.look() == []


async def test_a_tag_starts_what_means_tags(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {f"{FOLDER}/release.yaml": on("{tags: {include: ['v*']}}")})
    bench.declare(site.url)
    await bench.look()
    site.tag("nightly")
    assert await bench.look() == []
    site.tag("v1", message="annotated")
    (run,) = await bench.look()
    assert event_of(run)["ref"] == site.head()
    assert run.source.startswith("tag v1 at ")
    assert await bench.look() == []


async def test_a_forced_push_is_a_push_and_a_deleted_branch_is_none(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {f"{FOLDER}/w.yaml": on("{branches: {}}")})
    first = site.head()
    site.commit({"README": "x"})
    site.branch("dev")
    bench.declare(site.url)
    await bench.look()
    site.branch("main", first)
    (run,) = await bench.look()
    assert event_of(run)["ref"] == first
    site.delete("refs/heads/dev")
    assert await bench.look() == []
    site.branch("dev", first)
    assert len(await bench.look()) == 1


async def test_a_broken_file_is_told_and_the_others_run(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {"README": "x"})
    bench.declare(site.url)
    await bench.look()
    site.commit(
        {
            f"{FOLDER}/good.yaml": MAIN,
            f"{FOLDER}/broken.yaml": MAIN + "jobz: {}\n",
            f"{FOLDER}/big.yaml": MAIN + "# " + "x" * (2 << 20),
            f"{FOLDER}/binary.yaml": b"\xff\xfe\x00",
            f"{FOLDER}/serve.yaml": "kind: deployment\nimage: i\nport: 80\n",
        },
        links={f"{FOLDER}/link.yaml": "/etc/passwd"},
    )
    assert [run.workflow for run in await bench.look()] == ["site.good"]
    assert bench.resource.phase == "Degraded"
    problems = bench.resource.status["files"]
    assert problems.keys() == {f"{FOLDER}/{name}.yaml" for name in ("broken", "big", "binary", "link", "serve")}
    assert "broken.yaml:3:1" in problems[f"{FOLDER}/broken.yaml"]
    assert "is a link" in problems[f"{FOLDER}/link.yaml"]
    assert len(bench.told("BrokenSpec")) == 5
    site.commit(dict.fromkeys(problems))
    assert len(await bench.look()) == 1
    assert bench.resource.phase == "Ready"


async def test_what_cannot_be_started_is_told_and_not_tried_again(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {f"{FOLDER}/w.yaml": "inputs: {x: {type: string}}\n" + MAIN})
    bench.declare(site.url)
    await bench.look()
    site.commit({"README": "x"})
    assert await bench.look() == []
    assert await bench.look() == []
    (told,) = bench.told("NotStarted")
    assert "no value for input x" in told
    assert (bench.resource.phase, bench.resource.message) == ("Degraded", f"cannot run: {FOLDER}/w.yaml")
    assert bench.resource.status["files"][f"{FOLDER}/w.yaml"].startswith("not started: no value for input x")


async def test_another_url_is_a_first_look(bench: Bench, server: GitServer) -> None:
    one = server.repository("one", {f"{FOLDER}/w.yaml": MAIN})
    other = server.repository("other", {f"{FOLDER}/w.yaml": MAIN})
    bench.declare(one.url)
    await bench.look()
    bench.declare(other.url)
    assert await bench.look() == []
    other.commit({"README": "x"})
    assert len(await bench.look()) == 1


async def test_a_repository_that_was_deleted_meanwhile_starts_nothing(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = server.repository("site", {f"{FOLDER}/w.yaml": MAIN})
    bench.declare(site.url)
    await bench.look()
    site.commit({"README": "x"})
    commit = Git.commit

    async def slowly(self: Git, remote: Remote, ref: str) -> git_module.Commit:
        found = await commit(self, remote, ref)
        resources.remove(bench.db.read, uid)
        return found

    uid = bench.resource.uid
    monkeypatch.setattr(Git, "commit", slowly)
    await bench.repositories.look(uid)
    assert runs.newest(bench.db.read) == []


async def test_a_restart_looks_on_where_the_last_one_ended(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {f"{FOLDER}/w.yaml": MAIN})
    bench.declare(site.url)
    await bench.look()
    site.commit({"README": "x"})
    bench.restart()
    assert len(await bench.look()) == 1
    bench.restart()
    assert await bench.look() == []
    marks = triggers.of(bench.db.read, bench.resource.uid, "ref:")
    assert marks == {"ref:refs/heads/main": site.head()}


async def test_between_the_run_and_the_mark_there_is_no_moment_to_be_killed_in(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = server.repository("site", {f"{FOLDER}/w.yaml": MAIN})
    bench.declare(site.url)
    await bench.look()
    site.commit({"README": "x"})

    def killed(*_: object, **__: object) -> None:
        assert len(runs.newest(bench.db.read)) == 1, "the run is made, its mark is not"
        raise NoSpace("the end comes here")

    with monkeypatch.context() as patch:
        patch.setattr("appliance.triggers.repositories.marks.put", killed)
        with pytest.raises(NoSpace):
            await bench.look()
    assert runs.newest(bench.db.read) == []
    assert len(await bench.look()) == 1
    assert await bench.look() == []


async def test_runs_of_a_repository_are_a_workflow_of_their_own(bench: Bench, server: GitServer) -> None:
    """Whatever is declared here under the name that they are numbered by."""
    site = server.repository("site", {"README": "x"})
    bench.declare(site.url)
    document = {"jobs": {"a": {"uses": "script@v1", "with": {"image": "i", "script": "true"}}}}
    await bench.look()
    mine = start_run(bench.db, None, "site.w", document, {}, now=1.0)
    site.commit({f"{FOLDER}/w.yaml": "concurrency: cancel\n" + MAIN})
    (first,) = await bench.look()
    assert (first.workflow, first.number) == ("site.w", 2)
    assert first.workflow_uid.startswith(f"repository:{bench.resource.uid}:{FOLDER}/w.yaml:")
    assert not runs.get(bench.db.read, mine.id).cancel
    site.commit({"README": "y"})
    (second,) = await bench.look()
    assert second.workflow_uid == first.workflow_uid
    assert runs.get(bench.db.read, first.id).cancel
    assert not runs.get(bench.db.read, mine.id).cancel
    skips = start_run(bench.db, None, "site.w", {**document, "concurrency": "cancel"}, {}, now=1.0)
    assert runs.get(bench.db.read, mine.id).cancel
    assert not runs.get(bench.db.read, second.id).cancel
    assert skips.number == 4


async def test_two_workflows_of_one_file_are_two(bench: Bench, server: GitServer) -> None:
    one = "kind: workflow\nname: {}\nconcurrency: skip\n" + MAIN
    site = server.repository("site", {"README": "x"})
    bench.declare(site.url)
    await bench.look()
    site.commit({f"{FOLDER}/w.yaml": one.replace("{}", "one", 1) + "---\n" + one.replace("{}", "two", 1)})
    assert [run.workflow for run in await bench.look()] == ["site.one", "site.two"]


async def test_a_trigger_that_counts_elsewhere_is_told_once(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {"README": "x"})
    bench.declare(site.url)
    await bench.look()
    clock = "schedule: [{cron: '0 3 * * *', timezone: UTC}]"
    site.commit({f"{FOLDER}/w.yaml": f"on: {{github: {{branches: {{}}}}, {clock}}}\n{JOBS}"})
    assert len(await bench.look()) == 1, "the others of its triggers count"
    words = f"{FOLDER}/w.yaml: `on.schedule` is for a workflow that is applied here"
    (told,) = bench.told("Ignored")
    assert words in told
    assert (bench.resource.phase, bench.resource.message.startswith(words)) == ("Ready", True)
    site.commit({"README": "y"})
    assert len(await bench.look()) == 1
    assert len(bench.told("Ignored")) == 1
    site.commit({f"{FOLDER}/w.yaml": f"on: {{{clock}}}\n{JOBS}"})
    assert await bench.look() == []
    assert bench.told("Ignored")[-1].endswith("so nothing starts this one")
    site.commit({f"{FOLDER}/w.yaml": MAIN})
    assert len(await bench.look()) == 1
    assert (bench.resource.phase, bench.resource.message) == ("Ready", "")
