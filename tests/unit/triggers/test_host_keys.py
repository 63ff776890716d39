"""Which keys of a server over SSH count, and that what is known of a server is not lost."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import apply
from appliance.spec.address import parse
from appliance.spec.load import load_text
from appliance.state import resources, triggers
from appliance.state.db import Database
from appliance.triggers import host_keys, programs
from appliance.triggers.git import Git, GitError, Refs, Remote
from appliance.triggers.host_keys import expected, name_of
from appliance.triggers.programs import Answer
from appliance.triggers.repositories import Repositories
from appliance.vault.secrets import Secrets
from appliance.workflows.steps.own_repository import KNOWN_HOSTS

KEY, OTHER = "h.example ssh-ed25519 AAAA", "h.example ssh-rsa BBBB"
AUTHORITY, REVOKED = "@cert-authority *.example ssh-ed25519 CCCC", "@revoked * ssh-ed25519 DDDD"


@pytest.mark.parametrize(
    ("machine", "kept", "lines", "strict", "pinned"),
    [
        ([], [], [], False, False),
        ([], [KEY, OTHER], [KEY, OTHER], True, False),
        ([KEY], [], [KEY], True, True),
        ([KEY], [OTHER], [KEY], True, True),
        ([REVOKED], [], [REVOKED], False, False),
        ([REVOKED], [REVOKED], [REVOKED], False, False),
        ([REVOKED], [KEY], [REVOKED, KEY], True, False),
        ([AUTHORITY], [], [AUTHORITY], False, False),
        ([AUTHORITY], [AUTHORITY], [AUTHORITY], True, False),
        ([], [AUTHORITY], [], False, False),
        ([AUTHORITY], [KEY], [AUTHORITY, KEY], True, False),
        ([AUTHORITY, KEY, KEY], [OTHER], [AUTHORITY, KEY], True, True),
    ],
)
def test_the_administrators_keys_count_before_what_a_first_contact_has_brought(
    machine: list[str], kept: list[str], lines: list[str], strict: bool, pinned: bool
) -> None:
    found = expected("# Host h.example found: line 1\n" + "\n".join(machine), "\n".join(kept))
    assert (found.text.splitlines(), found.strict, found.pinned) == (lines, strict, pinned)
    again = expected("\n".join(machine), found.text)
    assert again.text == found.text, "what is kept does not grow from look to look"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("git@H.example:a", "h.example"),
        ("ssh://git@H.example:22/a", "h.example"),
        ("ssh://git@h.example:2222/a", "[h.example]:2222"),
        ("ssh://git@[::1]:2222/a", "[::1]:2222"),
    ],
)
def test_a_server_is_looked_up_by_the_name_that_ssh_gives_it(url: str, name: str) -> None:
    where = parse(url)
    assert where is not None
    assert name_of(where) == name


class Server(Git):
    """Every look finds no branch, and this of the server's keys."""

    def __init__(self) -> None:
        super().__init__(secrets.token_hex(4))
        self.known = KEY
        self.expected: list[str] = []

    async def refs(self, remote: Remote) -> Refs:
        self.expected.append(remote.known_hosts)
        return Refs({}, self.known)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "state.db")
    yield made
    made.close()


@pytest.mark.anyio
async def test_what_is_known_of_a_server_is_never_replaced_by_nothing(db: Database, tmp_path: Path) -> None:
    text = "kind: repository\nname: site\nurl: git@h.example:a\n"
    apply.apply(db, load_text(text, file="site.yaml"), source="cli", now=1.0)
    uid, server = resources.get(db.read, "repository", "site").uid, Server()
    vault = Secrets(db, tmp_path / "key", time.time)
    rooms = Repositories(db, vault, server, clock=time.time, hint=lambda *_: None)
    for server.known in (KEY, "", OTHER):
        await rooms.look(uid)
    assert server.expected == ["", KEY, KEY]
    assert triggers.find(db.read, uid, KNOWN_HOSTS) == OTHER


class Asked:
    """What git is started with, in place of a server; ssh is not met at all."""

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        self.known = ""

    async def __call__(self, argv: list[str], *, cwd: Path, env: dict[str, str], **more: Any) -> Answer:
        if argv[0] != "git":
            return await self.real(argv, cwd=cwd, env=env, **more)
        self.env = env
        self.known = Path(env["APPLIANCE_KNOWN_HOSTS"]).read_text(encoding="utf-8")
        return Answer(0, b"", "")

    real = staticmethod(programs.run)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Where another user may read, as in /etc."""
    made = Path(tempfile.mkdtemp(prefix="keys-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.anyio
@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
async def test_polling_goes_by_what_the_job_gets(monkeypatch: pytest.MonkeyPatch, shared_folder: Path) -> None:
    asked = Asked()
    monkeypatch.setattr(programs, "run", asked)
    machine = shared_folder / "ssh_known_hosts"
    monkeypatch.setattr(host_keys, "MACHINE", machine)
    real = "h.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPSXkuXi3FNHFdo8IJBGelajJGjuk2vUuvNl6nbfhRtC"
    other = real.replace("h.example", "elsewhere.example")
    git, url = Git(secrets.token_hex(4)), "git@h.example:a"

    async def look(known: str) -> tuple[str, str, str]:
        found = await git.refs(Remote(url, known_hosts=known))
        assert "GlobalKnownHostsFile=/dev/null" in asked.env["GIT_SSH_COMMAND"]
        return asked.known, asked.env["APPLIANCE_HOST_KEYS"], found.known_hosts

    assert await look("") == ("", "accept-new", "")
    assert await look(f"{real}\n") == (f"{real}\n", "yes", f"{real}\n")
    assert await look(f"{other}\n") == ("", "accept-new", ""), "another server's, from before the address was changed"
    machine.write_text(f"{other}\n{real} of the administrator\n")
    machine.chmod(0o644)
    pinned = f"{real} of the administrator\n"
    assert await look("") == (pinned, "yes", pinned)
    machine.chmod(0)
    with pytest.raises(GitError, match="cannot be read"):
        await look("")
