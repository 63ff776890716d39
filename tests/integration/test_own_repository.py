"""Repositories that only their own runs check out, from the declaration to the files in a job: paths, and over SSH."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import apply
from appliance.engine.docker import Engine
from appliance.spec.load import load_text
from appliance.state import resources, runs, triggers
from appliance.storage.directory.store import DirectoryStore
from appliance.triggers import host_keys
from appliance.triggers.git import Git, GitError
from appliance.triggers.repositories import Repositories
from appliance.workflows.steps.own_repository import KNOWN_HOSTS
from tests.integration.test_workflows import BASE, Floor, a_floor
from tests.support.git import Repository, bridge_address
from tests.support.ssh import SSHD, SshServer, serve_ssh

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.images]

OWNER = 12345
WORKFLOW = f"""
on: {{github: {{branches: {{only: main}}}}}}
jobs:
  clone:
    uses: git-checkout@v1
    with: {{url: context.event.github.url, ref: REF}}
    outputs: {{tree: {{type: volume}}}}
  look:
    uses: script@v1
    needs: [clone]
    inputs: {{tree: clone.outputs.tree}}
    with:
      image: {BASE}
      script: cat /inputs/tree/file /inputs/tree/large.bin; ls -A /inputs/tree; ! test -e /run/appliance-repository
"""


@pytest.fixture
async def floor(engine: Engine, base_image: str, tmp_path: Path) -> AsyncIterator[Floor]:
    store = DirectoryStore(tmp_path / "volumes", "a test", durable=False)
    async with a_floor(engine, tmp_path / "home", store, stop_grace_s="1") as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where another user may have repositories."""
    made = Path(tempfile.mkdtemp(prefix="owned-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


class Polled:
    """The repository `site` at a path, and its runs on a floor."""

    def __init__(self, floor: Floor, url: str, **more: str) -> None:
        self.floor = floor
        self.rooms = Repositories(
            floor.db, floor.vault, Git(secrets.token_hex(4)), clock=time.time, hint=lambda *key: floor.hint(*key)
        )
        lines = "".join(f"{key}: {value}\n" for key, value in more.items())
        text = f"kind: repository\nname: site\nurl: {url}\n{lines}"
        apply.apply(floor.db, load_text(text, file="site.yaml"), source="cli", now=time.time())
        self.uid = resources.get(floor.db.read, "repository", "site").uid

    async def pushed(self) -> runs.Run:
        """The run that what was pushed has started, at its end."""
        await self.rooms.look(self.uid)
        (run,) = [one for one in runs.newest(self.floor.db.read) if one.finished is None]
        return await self.floor.finish(run)

    async def told(self, run: runs.Run) -> dict[str, Any]:
        jobs = self.floor.jobs(run)
        return {name: (job.phase, job.message, await self.floor.log(run, name)) for name, job in jobs.items()}


def a_repository(folder: Path, ref: str, more: str = "") -> Repository:
    made = Repository(folder / "site.git", "")
    text = WORKFLOW.replace("REF}", f"REF{more}}}").replace("REF", ref)
    made.commit({".gradient/workflows/w.yaml": text, "file": "first\n"})
    return made


def push(site: Repository, text: str) -> str:
    """A commit with a large file, by the owner of the repository."""
    site.commit_lfs("large.bin", b"large\n")
    for oid, content in site.lfs.items():
        place = site.path / "lfs" / "objects" / oid[:2] / oid[2:4]
        place.mkdir(parents=True, exist_ok=True)
        (place / oid).write_bytes(content)
    pushed = site.commit({"file": f"{text}\n"})
    if os.geteuid() == 0:
        for path in (site.path.parent, *site.path.parent.rglob("*")):
            os.chown(path, OWNER, OWNER, follow_symlinks=False)
    return pushed


@pytest.mark.parametrize("ref", ["context.event.github.ref", "main"])
async def test_a_push_to_a_path_is_checked_out_in_its_jobs(floor: Floor, folder: Path, ref: str) -> None:
    site = a_repository(folder, ref)
    polled = Polled(floor, str(site.path))
    await polled.rooms.look(polled.uid)
    pushed = push(site, "pushed")
    run = await polled.pushed()
    told = await polled.told(run)
    assert run.phase == "Succeeded", told
    assert told["look"][2].split() == ["pushed", "large", ".git", ".gitattributes", ".gradient", "file", "large.bin"]
    assert floor.jobs(run)["clone"].commit_id == pushed
    assert (site.path / "HEAD").stat().st_uid == (OWNER if os.geteuid() == 0 else os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has repositories of others")
async def test_what_its_owner_puts_in_its_place_is_not_given_to_a_job(floor: Floor, folder: Path) -> None:
    """A link to what only the daemon may read."""
    site = a_repository(folder, "main")
    private = Repository(folder.parent / f"{folder.name}-private", "")
    try:
        private.commit({"file": "private"})
        private.path.chmod(0o700)
        polled = Polled(floor, str(site.path))
        await polled.rooms.look(polled.uid)
        push(site, "pushed")
        await floor.drop()
        await polled.rooms.look(polled.uid)
        site.path.rename(folder / "away")
        site.path.symlink_to(private.path)
        os.chown(site.path, OWNER, OWNER, follow_symlinks=False)
        floor.begin()
        (run,) = runs.newest(floor.db.read)
        await floor.finish(run)
        told = await polled.told(run)
        assert told["clone"][0] in ("Failed", "Error"), told
        assert "a link that another user can change" in told["clone"][1], told
        assert "private" not in str(told).replace(private.path.name, "")
    finally:
        shutil.rmtree(private.path)


@pytest.fixture
def ssh(docker_engine: str, tmp_path: Path) -> Iterator[SshServer]:
    if SSHD is None:
        pytest.skip("no sshd: ./install.sh test installs openssh-server where it starts no service")
    with serve_ssh(tmp_path / "ssh", bridge_address()) as server:
        yield server


async def test_a_push_over_ssh_is_checked_out_with_the_key_of_the_repository(
    floor: Floor, ssh: SshServer, tmp_path: Path
) -> None:
    key = ssh.key("deploy")
    floor.vault.set("DEPLOY", key)
    site = a_repository(tmp_path, "context.event.github.ref", ", password: secret:DEPLOY")
    polled = Polled(floor, ssh.url(site.path), password="secret:DEPLOY", secrets="[DEPLOY]")
    await polled.rooms.look(polled.uid)
    pushed = site.commit({"file": "pushed\n", "large.bin": "large\n"})
    run = await polled.pushed()
    told = await polled.told(run)
    assert run.phase == "Succeeded", told
    assert told["look"][2].split()[:2] == ["pushed", "large"]
    assert floor.jobs(run)["clone"].commit_id == pushed
    inside = key.splitlines()[2]
    assert inside not in str(told) + "\n".join(floor.db.read.iterdump())
    files = [path for path in (tmp_path / "volumes").rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if inside.encode() in path.read_bytes()] == []


async def test_another_server_or_key_checks_out_nothing_and_is_told(
    floor: Floor, ssh: SshServer, tmp_path: Path
) -> None:
    floor.vault.set("DEPLOY", ssh.key("deploy"))
    site = a_repository(tmp_path, "main", ", password: secret:JOB")
    polled = Polled(floor, ssh.url(site.path), password="secret:DEPLOY", secrets="[JOB]")
    await polled.rooms.look(polled.uid)
    expected = {
        "does not take the key": ssh.key("stranger", allowed=False),
        "is not a private key without a passphrase": "no key at all",
    }
    for words, key in expected.items():
        floor.vault.set("JOB", key)
        site.commit({"file": secrets.token_hex(4)})
        told = await polled.told(await polled.pushed())
        assert told["clone"][0] == "Failed", told
        assert words in told["clone"][1], told
    floor.vault.set("JOB", ssh.key("job"))
    site.commit({"file": "once more"})
    await floor.drop()
    await polled.rooms.look(polled.uid)
    ssh.renew()
    floor.begin()
    (run,) = [one for one in runs.newest(floor.db.read) if one.finished is None]
    told = await polled.told(await floor.finish(run))
    assert "is not the one that is known from polling it" in told["clone"][1], told
    with pytest.raises(GitError, match="Host key"):
        await polled.rooms.look(polled.uid)


async def test_the_server_that_the_administrator_has_named_is_the_one_for_polling_and_for_jobs(
    floor: Floor, ssh: SshServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = folder / "ssh_known_hosts"
    monkeypatch.setattr(host_keys, "MACHINE", machine)
    stranger = ssh.host_key()
    ssh.renew()
    machine.write_text(f"other.example {stranger.partition(' ')[2]}{ssh.host_key()}")
    machine.chmod(0o644)
    floor.vault.set("DEPLOY", ssh.key("deploy"))
    site = a_repository(tmp_path, "main", ", password: secret:DEPLOY")
    polled = Polled(floor, ssh.url(site.path), password="secret:DEPLOY", secrets="[DEPLOY]")
    await polled.rooms.look(polled.uid)
    assert triggers.find(floor.db.read, polled.uid, KNOWN_HOSTS) == ssh.host_key()
    site.commit({"file": "pushed\n", "large.bin": "large\n"})
    run = await polled.pushed()
    assert run.phase == "Succeeded", await polled.told(run)
    site.commit({"file": "once more"})
    await floor.drop()
    await polled.rooms.look(polled.uid)
    ssh.renew()
    floor.begin()
    (run,) = [one for one in runs.newest(floor.db.read) if one.finished is None]
    told = await polled.told(await floor.finish(run))
    assert "is not the one that is known from polling it" in told["clone"][1], told
    with pytest.raises(GitError, match="Host key") as refused:
        await polled.rooms.look(polled.uid)
    assert str(machine) in (refused.value.hint or "")
    machine.write_text(ssh.host_key())
    await polled.rooms.look(polled.uid)
    assert triggers.find(floor.db.read, polled.uid, KNOWN_HOSTS) == ssh.host_key()
