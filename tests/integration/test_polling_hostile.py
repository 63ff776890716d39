"""Repositories and servers that cannot be trusted: who gets credentials and rights, and what is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.state import runs, triggers
from appliance.triggers import git as git_module
from appliance.triggers import programs, repositories
from appliance.triggers.git import Git, GitError, Remote
from tests.integration.polling import FOLDER, MAIN, Bench, event_of, on
from tests.support.git import GitServer, Repository

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(shutil.which("git") is None, reason="no git")]


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
