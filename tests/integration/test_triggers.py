"""Repositories that are polled and webhooks that are signed: real git over HTTP and paths, a real daemon at the end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import random
import secrets
import shutil
import socket
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from appliance import apply
from appliance.errors import ApplianceError, NoSpace
from appliance.spec.load import load_text
from appliance.state import events, resources, runs, triggers
from appliance.state.db import Database
from appliance.state.runs import Run
from appliance.triggers import git as git_module
from appliance.triggers import programs, repositories
from appliance.triggers.git import Git, GitError, Remote
from appliance.triggers.repositories import Repositories
from appliance.vault.secrets import Secrets
from appliance.workflows.submit import start_run
from tests.conftest import Clock
from tests.support.daemon import RunningDaemon, eventually
from tests.support.git import GitServer, Repository, serve_git

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(shutil.which("git") is None, reason="no git")]

FOLDER = ".gradient/workflows"
JOBS = "jobs: {a: {uses: script@v1, with: {image: appliance/base, script: 'true'}}}\n"


def on(text: str, jobs: str = JOBS) -> str:
    return f"on: {{github: {text}}}\n{jobs}"


MAIN = on("{branches: {only: main}}")


class Bench:
    """One repository `site`, polled by hand."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.clock = clock
        self.db = Database(home / "state.db")
        self.vault = Secrets(self.db, home / "key", clock)
        self.hints: list[tuple[str, str]] = []
        self.instance = secrets.token_hex(4)
        self.restart()

    def restart(self) -> None:
        self.repositories = Repositories(
            self.db, self.vault, Git(self.instance), clock=self.clock, hint=lambda *key: self.hints.append(key)
        )

    def declare(self, url: str, **more: str) -> None:
        lines = "".join(f"{key}: {value}\n" for key, value in more.items())
        text = f"kind: repository\nname: site\nurl: {url}\n{lines}"
        apply.apply(self.db, load_text(text, file="site.yaml"), source="cli", now=self.clock())

    @property
    def resource(self) -> resources.Resource:
        return resources.get(self.db.read, "repository", "site")

    async def look(self) -> list[Run]:
        """The runs that one look has made, oldest first. Raises what the look raises."""
        self.clock.now += 60
        before = {run.id for run in runs.newest(self.db.read, limit=1000)}
        await self.repositories.look(self.resource.uid)
        return [run for run in reversed(runs.newest(self.db.read, limit=1000)) if run.id not in before]

    async def turn(self) -> resources.Resource:
        """One look as the loop begins it, with its failure written down."""
        self.repositories.soon(self.resource.uid)
        self.repositories.begin([self.resource.uid])
        task = self.repositories._turns[self.resource.uid].task
        assert task is not None
        async with asyncio.timeout(60):
            await task
        return self.resource

    def told(self, reason: str) -> list[str]:
        return [event.message for event in events.newest(self.db.read, limit=1000) if event.reason == reason]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with serve_git(tmp_path / "repositories") as made:
        yield made


@pytest.fixture
async def bench(tmp_path: Path, clock: Clock) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, clock)
    yield made
    await made.repositories.close()
    left = list(git_module._parent().glob(f"appliance-git-{made.instance}-*"))
    made.db.close()
    assert left == []


def event_of(run: Run) -> dict[str, str]:
    found: dict[str, str] = run.spec["context"]["event"]["github"]
    return found


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


async def test_a_private_repository_opens_with_its_secret_only(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {f"{FOLDER}/w.yaml": MAIN}, login="me:s3cr3t-word")
    bench.declare(site.url)
    shown = await bench.turn()
    assert shown.phase == "Failed"
    assert "password: secret:NAME" in shown.message
    bench.declare(site.url, username="me", password="secret:WORD")
    assert "no secret named 'WORD'" in (await bench.turn()).message
    bench.vault.set("WORD", "wrong")
    assert (await bench.turn()).phase == "Failed"
    bench.vault.set("WORD", "s3cr3t-word")
    assert (await bench.turn()).phase == "Ready"
    assert bench.told("Reachable")
    site.commit({"README": "x"})
    assert len(await bench.look()) == 1
    everything = "\n".join(bench.db.read.iterdump())
    assert "s3cr3t-word" not in everything


async def test_credentials_go_to_no_other_server(bench: Bench, server: GitServer, tmp_path: Path) -> None:
    """A server that is named in the spec sends git elsewhere: that one asks, and is told nothing."""
    server.repository("site", {"a": "b"}, login="me:s3cr3t-word")
    seen: list[Mapping[str, str]] = []
    redirect = _Redirect(server.url, seen)
    bench.vault.set("WORD", "s3cr3t-word")
    bench.declare(f"{redirect.url}/site.git", username="me", password="secret:WORD")
    try:
        assert (await bench.turn()).phase == "Failed"
    finally:
        redirect.close()
    assert [line for line in server.requests if line.endswith(" 200")] == []


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


async def test_what_cannot_be_started_is_told_and_not_tried_again(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {f"{FOLDER}/w.yaml": "inputs: {x: {type: string}}\n" + MAIN})
    bench.declare(site.url)
    await bench.look()
    site.commit({"README": "x"})
    assert await bench.look() == []
    assert await bench.look() == []
    (told,) = bench.told("NotStarted")
    assert "no value for input x" in told


async def test_a_repository_of_this_machine_is_read_with_its_owners_rights(bench: Bench, tmp_path: Path) -> None:
    site = Repository(tmp_path / "local", "")
    site.commit({f"{FOLDER}/w.yaml": MAIN})
    if os.geteuid() == 0:
        folder = Path(tempfile.mkdtemp(prefix="owned-", dir="/var/tmp"))
        shutil.move(site.path, folder / "local")
        site.path = folder / "local"
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 12345, 12345)
    else:
        folder = tmp_path
    try:
        bench.declare(str(site.path))
        assert await bench.look() == []
        tip = site.git("-c", "safe.directory=*", "rev-parse", "main")
        tree = site.git("-c", "safe.directory=*", "rev-parse", "main^{tree}")
        made = site.git("-c", "safe.directory=*", "commit-tree", tree, "-p", tip, "-m", "next")
        site.git("-c", "safe.directory=*", "update-ref", "refs/heads/main", made)
        (run,) = await bench.look()
        assert event_of(run) == {"url": str(site.path), "ref": made}
    finally:
        if os.geteuid() == 0:
            shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up rights")
async def test_git_has_no_rights_of_the_daemon_and_nothing_of_its_environment(
    bench: Bench, server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `git` in front of the real one writes down as whom and with what it is run."""
    tools, diary = Path(tempfile.mkdtemp(prefix="tools-", dir="/var/tmp")), Path("/var/tmp") / secrets.token_hex(8)
    real = shutil.which("git")
    try:
        tools.chmod(0o755)
        diary.touch()
        diary.chmod(0o666)
        wrapper = tools / "git"
        wrapper.write_text(
            f'#!/bin/sh\n{{ id -u; id -G; env; printf "argv:%s\\n" "$*"; }} >>{diary}\nexec {real} "$@"\n'
        )
        wrapper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        monkeypatch.setenv("APPLIANCE_TOP_SECRET", "leak-me-not")
        monkeypatch.setenv("GIT_DIR", "/nowhere")
        bench.vault.set("WORD", "s3cr3t-word")
        site = server.repository("site", {f"{FOLDER}/w.yaml": MAIN}, login="me:s3cr3t-word")
        bench.declare(site.url, username="me", password="secret:WORD")
        await bench.look()
        site.commit({"README": "x"})
        assert len(await bench.look()) == 1
        written = diary.read_text()
    finally:
        shutil.rmtree(tools)
        diary.unlink()
    assert "\n65534\n65534\n" in f"\n{written}"
    assert "\n0\n" not in f"\n{written}"
    assert "leak-me-not" not in written
    assert "GIT_DIR" not in written
    argv = [line for line in written.splitlines() if line.startswith("argv:")]
    assert any("fetch" in line for line in argv)
    assert not any("s3cr3t" in line for line in argv)


async def test_a_server_that_is_down_is_told_once_and_asked_less_often(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {f"{FOLDER}/w.yaml": MAIN})
    bench.declare(site.url)
    await bench.look()
    server.broken = True
    for _ in range(3):
        assert (await bench.turn()).phase == "Failed"
    assert len(bench.told("Unreachable")) == 1
    pauses = [bench.repositories._failed(bench.resource.uid, GitError("x"), failures) for failures in (1, 2, 3, 50)]
    assert pauses == [60, 120, 240, 1800]
    server.broken = False
    site.commit({"README": "x"})
    assert len(await bench.look()) == 1
    assert len(bench.told("Reachable")) == 1


async def test_a_server_that_never_answers_ends_at_the_deadline(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr(git_module, "LIST_S", 1.0)
    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with listening:
        bench.declare(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/x.git")
        assert "no answer within 1 s" in (await bench.turn()).message


async def test_an_endless_answer_is_cut_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_module, "LIST_S", 10.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_endless, args=(listening,), daemon=True).start()
        bench.declare(f"http://127.0.0.1:{listening.getsockname()[1]}/x.git")
        assert (await bench.turn()).phase == "Failed"
    assert list(triggers.of(bench.db.read, bench.resource.uid)) == []


def _endless(listening: socket.socket) -> None:
    """A repository with ever more branches."""
    connection, _ = listening.accept()
    with connection, contextlib.suppress(OSError):
        connection.recv(65536)
        kind = b"application/x-git-upload-pack-advertisement"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n001e# service=git-upload-pack\n0000" % kind)
        first = b"%040x refs/heads/first\0 \n" % 1
        connection.sendall(b"%04x%b" % (len(first) + 4, first))
        many = b"".join(
            b"%04x%b" % (len(line) + 4, line) for line in (b"%040x refs/heads/%030d\n" % (1, n) for n in range(1000))
        )
        while True:
            connection.sendall(many)


async def test_a_commit_that_is_too_large_is_passed_over_and_the_others_run(
    bench: Bench, server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "LARGEST_FILE", 128 << 10)
    site = server.repository("site", {f"{FOLDER}/w.yaml": on("{branches: {}}")})
    bench.declare(site.url)
    await bench.look()
    site.branch("small")
    large = site.commit({"data": os.urandom(512 << 10)}, branch="large")
    for _ in range(repositories.TRIES):
        shown = await bench.turn()
        assert shown.phase == "Failed"
    assert [run.source.split(":")[0] for run in runs.newest(bench.db.read)] == [
        f"branch small at {site.head()[:12]} of site"
    ]
    (told,) = bench.told("PassedOver")
    assert f"branch large at {large[:12]}" in told
    assert (await bench.turn()).phase == "Ready"
    assert len(runs.newest(bench.db.read)) == 1


async def test_a_ref_that_reads_like_an_option_is_refused(server: GitServer) -> None:
    site = server.repository("site", {"a": "b"})
    for ref in ("--upload-pack=touch /tmp/x", "-x", "refs/heads/-x", "refs/heads/a..b", "HEAD", "refs/heads/a b"):
        with pytest.raises(GitError):
            await Git("0" * 8).commit(Remote(site.url), ref)
    assert [line for line in server.requests if "POST" in line] == []


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


async def test_what_a_killed_daemon_left_is_removed(tmp_path: Path) -> None:
    left = Path(tempfile.mkdtemp(prefix="appliance-git-cafecafe-", dir=git_module._parent()))
    (left / "repository").mkdir()
    others = Path(tempfile.mkdtemp(prefix="appliance-git-deadbeef-", dir=git_module._parent()))
    try:
        Git("cafecafe").sweep()
        assert not left.exists()
        assert stat.S_ISDIR(others.stat().st_mode)
    finally:
        others.rmdir()


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


async def test_a_secret_that_the_repository_is_not_given_starts_nothing(bench: Bench, server: GitServer) -> None:
    site = server.repository("site", {"README": "x"}, login="me:s3cr3t-word")
    bench.vault.set("WORD", "s3cr3t-word")
    bench.declare(site.url, username="me", password="secret:WORD")
    await bench.look()
    wants = "defaults: {env: {A: secret:WORD}}\n" + MAIN
    site.commit({f"{FOLDER}/w.yaml": wants, f"{FOLDER}/other.yaml": MAIN})
    assert [run.workflow for run in await bench.look()] == ["site.other"]
    (told,) = bench.told("BrokenSpec")
    assert "uses the secret WORD" in told
    assert bench.resource.phase == "Degraded"
    bench.declare(site.url, username="me", password="secret:WORD", secrets="[WORD]")
    site.commit({"README": "y"})
    assert sorted(run.workflow for run in await bench.look()) == ["site.other", "site.w"]


ABSENT = "localhost:1/none:1"
"""An image that no registry has: the run is made and ends soon."""
FAILS = f"jobs: {{a: {{uses: script@v1, with: {{image: '{ABSENT}', script: 'true'}}}}}}\n"
KEY = "a key of the forge"


class Daemon:
    """A real daemon, and what a forge would send to it."""

    def __init__(self, running: RunningDaemon) -> None:
        self.running = running

    def runs(self, workflow: str) -> list[Any]:
        """Oldest first; nothing while no daemon answers."""
        try:
            return list(reversed(self.running.client.items("runs", workflow=workflow, limit=1000)))
        except ApplianceError:
            return []

    def repository(self, name: str) -> Any:
        try:
            return self.running.client.get("repositories", name)
        except ApplianceError:
            return None

    def looked(self, name: str) -> Any:
        return (found := self.repository(name)) and found["status"].get("looked") and found

    def post(self, path: str, body: bytes, *, key: str = KEY, **headers: str) -> httpx2.Response:
        """As a client of its own signs it, at the front door."""
        digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        sent = {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json", **headers}
        return httpx2.post(f"{self.running.url}/v1/hooks/{path}", content=body, headers=sent, timeout=30)

    def announce(self, name: str) -> bool:
        """A push, until a daemon takes it."""
        try:
            answer = self.post(f"repository/{name}", b"{}", **{"X-GitHub-Event": "push"})
        except httpx2.HTTPError:
            return False
        return answer.status_code == 202


@pytest.fixture(scope="module")
def house(daemon: RunningDaemon) -> Daemon:
    daemon.client.put_secret("KEY", KEY)
    return Daemon(daemon)


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_push_is_announced_and_runs_at_once(house: Daemon, tmp_path: Path) -> None:
    with serve_git(tmp_path / "repositories") as server:
        site = server.repository("announced", {f"{FOLDER}/w.yaml": on("{branches: {only: main}}", FAILS)})
        text = f"kind: repository\nname: announced\nurl: {site.url}\ninterval: 3600\nwebhook: secret:KEY\n"
        house.running.client.apply(text, "announced.yaml")
        eventually(lambda: house.looked("announced"), within_s=60, what="the first look")
        pushed = site.commit({"README": "x"})
        assert house.post("repository/announced", b"{}", key="a guess").status_code == 401
        assert house.announce("announced")
        (run,) = eventually(lambda: house.runs("announced.w"), within_s=60, what="a run")
        assert (run["cause"], pushed[:12] in run["source"]) == ("git", True)
        assert house.running.client.get("runs", "announced.w.1")["name"] == "announced.w.1"
        parts = {part["name"]: part for part in house.running.client.status()["parts"]}
        assert parts["triggers"]["ok"]
        house.running.client.delete("repositories", "announced")
        assert house.repository("announced") is None


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_webhook_over_http_starts_a_run_once(house: Daemon) -> None:
    house.running.client.apply("on: {webhook: {secret: secret:KEY}}\n" + FAILS, "hooked.yaml")
    delivery = {"X-GitHub-Event": "push", "X-GitHub-Delivery": secrets.token_hex(8)}
    body = json.dumps({"ref": "refs/heads/main", "after": "1" * 40}).encode()
    assert house.post("hooked", body, key="a guess", **delivery).status_code == 401
    assert house.post("hooked", body, **delivery).json()["run"] == "hooked.1"
    assert house.post("hooked", body, **delivery).json()["message"] == "this delivery was taken already"
    assert house.post("hooked", b"{}", **{"X-GitHub-Event": "ping"}).json()["message"] == "pong"
    assert len(house.runs("hooked")) == 1
    for path in ("/v1/runs", "/v1/hooks/", "/v1/hooks/hooked/x"):
        assert httpx2.post(house.running.url + path, timeout=30).status_code == 401


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_file_and_a_folder_start_runs(house: Daemon, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    specs = house.running.home / "specs"
    (specs / "own.yaml").write_text("on: {spec: true}\n" + FAILS)
    (specs / "inbox.yaml").write_text(f"on: {{folder: {tmp_path / 'data'}}}\n" + FAILS)
    eventually(lambda: house.runs("own"), within_s=60, what="a run of the new file")
    eventually(lambda: _knows(house, "inbox"), within_s=60, what="the workflow of the folder")
    key = f"folder:{tmp_path / 'data'}"
    marked = eventually(lambda: _mark(house, "inbox", key), within_s=60, what="the first look at the folder")
    (tmp_path / "data" / "new").write_text("x")
    (run,) = eventually(lambda: house.runs("inbox"), within_s=60, what="a run of the folder")
    assert run["cause"] == "folder"
    assert _mark(house, "inbox", key) != marked
    (specs / "own.yaml").write_text("on: {spec: true}\n" + FAILS.replace("'true'", "'false'"))
    eventually(lambda: len(house.runs("own")) == 2, within_s=60, what="a run of the changed file")
    for name in ("own", "inbox"):
        (specs / f"{name}.yaml").unlink()


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_push_runs_exactly_once_however_often_the_daemon_is_killed(house: Daemon, tmp_path: Path) -> None:
    chance = random.Random(4)
    with serve_git(tmp_path / "repositories") as server:
        site = server.repository("killed", {f"{FOLDER}/w.yaml": on("{branches: {only: main}}", FAILS)})
        text = f"kind: repository\nname: killed\nurl: {site.url}\ninterval: 5\nwebhook: secret:KEY\n"
        house.running.client.apply(text, "killed.yaml")
        eventually(lambda: house.looked("killed"), within_s=60, what="the first look")
        pushed = []
        for _ in range(6):
            pushed.append(site.commit({"README": secrets.token_hex(8)}))
            eventually(lambda: house.announce("killed"), within_s=60, what="a daemon that takes the message")
            time.sleep(chance.uniform(0.0, 1.2))
            house.running.kill()
            house.running.launch()
            eventually(
                lambda: any(pushed[-1][:12] in run["source"] for run in house.runs("killed.w")),
                within_s=60,
                what="the run of the push",
            )
        house.running.kill()
        house.running.start()
        looked = house.looked("killed")["status"]["looked"]
        eventually(lambda: house.looked("killed")["status"]["looked"] > looked, within_s=60, what="one more look")
        made = [run["source"].split(" at ")[1][:12] for run in house.runs("killed.w")]
        assert made == [commit[:12] for commit in pushed]


@pytest.mark.docker
@pytest.mark.haproxy
def test_a_version_runs_exactly_once_though_the_daemon_is_killed(house: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    house.running.client.apply("kind: dataset\nname: arrivals\n", "arrivals.yaml")
    house.running.client.apply("on: {dataset: arrivals}\n" + FAILS, "reader.yaml")
    eventually(lambda: _mark(house, "reader", "dataset:arrivals"), within_s=60, what="the first look at the dataset")
    made = []
    for _ in range(2):
        before = {version["version"] for version in house.running.client.versions("arrivals")}
        put = house.running.cli("dataset", "put", "arrivals", str(tmp_path))
        assert put.returncode == 0, put.stderr
        (new,) = {version["version"] for version in house.running.client.versions("arrivals")} - before
        made.append(f"arrivals:{new}")
        house.running.kill()
        house.running.launch()
        eventually(lambda: made[-1] in _sources(house, "reader"), within_s=60, what="the run of the version")
    assert _sources(house, "reader") == made


def _sources(house: Daemon, workflow: str) -> list[str]:
    return [run["source"] for run in house.runs(workflow)]


def _knows(house: Daemon, name: str) -> bool:
    return any(item["name"] == name for item in house.running.client.items("workflows"))


def _mark(house: Daemon, name: str, trigger: str) -> str:
    """What a trigger has seen, from the state file."""
    with contextlib.closing(sqlite3.connect(house.running.home / "state.db", timeout=10)) as db:
        row = db.execute(
            "SELECT mark FROM trigger_marks JOIN resources ON uid = subject WHERE name = ? AND trigger = ?",
            (name, trigger),
        ).fetchone()
    return str(row[0]) if row else ""


class _Redirect:
    """A server that sends everybody to another one, and writes down what it was given."""

    def __init__(self, to: str, seen: list[Mapping[str, str]]) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(dict(self.headers))
                self.send_response(302)
                self.send_header("Location", to + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
