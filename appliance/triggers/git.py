"""Ask a remote repository: which branches and tags there are, and what `.gradient/workflows/` holds at one of them.

Nothing of a repository is ever checked out or run. The host's `git` works in a directory of its own that is removed
afterwards, with no configuration but what stands here, as `nobody` for what is elsewhere and as the owner of the
repository for what is on this machine. Credentials travel in the environment: they are in no argument and no file
but an SSH key, which OpenSSH reads from files only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import ApplianceError, UsageError
from appliance.fetching.git import DEFAULT_USER
from appliance.spec import address
from appliance.spec.address import Address
from appliance.storage.argv import program_path
from appliance.triggers import host_keys, programs
from appliance.triggers.host_keys import Expected
from appliance.triggers.programs import Answer, TooMuch, User
from appliance.workflows.steps import local

FOLDER = ".gradient/workflows/"
SUFFIXES = (".yaml", ".yml")
MOST_FILES = 64
"""Spec files of one commit."""
MOST_REFS = 20_000
LARGEST_SPEC = 1 << 20
"""Bytes; the server is asked to leave out larger files."""
LIST_S = 30.0
FETCH_S = 180.0
READ_S = 20.0

_WORK = Path("/var/tmp")
"""On a disk, open to every user: `nobody` can reach its own directory there, but not one below a home."""
_NOBODY = 65534
_KEPT = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
_REF = re.compile(r"refs/(?:heads|tags)/(?!-)[^\x00-\x20\x7f~^:?*\[\\]+")
_LINE = re.compile(rb"([0-9a-f]{40,64})\t([^\n]+)")
_ENTRY = re.compile(rb"(?P<mode>[0-7]{6}) (?P<type>[a-z]+) (?P<object>[0-9a-f]{40,64})\t(?P<path>[^\0]+)")
_HELPER = '!f() { [ "$1" = get ] && printf "username=%s\\npassword=%s\\n" "$APPLIANCE_USER" "$APPLIANCE_PASSWORD"; }; f'
"""One fixed text; git asks it for the one server it is set up for."""
_SSH = (
    'exec ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking="$APPLIANCE_HOST_KEYS"'
    ' -o UserKnownHostsFile="$APPLIANCE_KNOWN_HOSTS" -o GlobalKnownHostsFile=/dev/null'
    ' -o IdentitiesOnly=yes -o IdentityFile="$APPLIANCE_KEY" -o ConnectTimeout=15'
)


class GitError(ApplianceError):
    """A repository cannot be reached or does not answer as it should."""

    code, status = "git", 502


class GitMissing(GitError):
    """This machine has no git."""


@dataclass(frozen=True, slots=True)
class Remote:
    """`password` is a token, or over SSH a private key; `known_hosts` is what `Refs` said of the server before."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    known_hosts: str = ""


@dataclass(frozen=True, slots=True)
class Refs:
    commits: dict[str, str]
    """Full name of a branch or tag -> the commit it means."""
    known_hosts: str
    """Over SSH: what the server was met by, to be expected the next time; empty: ssh could not write it down."""


@dataclass(frozen=True, slots=True)
class SpecText:
    path: str
    """Inside the repository."""
    text: bytes
    problem: str = ""
    """Why there is no text."""


@dataclass(frozen=True, slots=True)
class Commit:
    id: str
    files: tuple[SpecText, ...]
    left_out: int = 0
    """Files beyond `MOST_FILES`."""


class Git:
    def __init__(self, instance: str) -> None:
        self._prefix = f"appliance-git-{instance}-"

    @staticmethod
    def missing() -> bool:
        return shutil.which("git", path=program_path()) is None

    def sweep(self) -> None:
        """Remove what a killed daemon has left."""
        for left in _parent().glob(f"{self._prefix}*"):
            if stat.S_ISDIR(left.lstat().st_mode):
                shutil.rmtree(left, ignore_errors=True)

    async def refs(self, remote: Remote) -> Refs:
        """Raises GitError, and UsageError for an address that is not polled."""
        async with self._place(remote) as place:
            answer = await place.git("ls-remote", "--heads", "--tags", "--", place.address.url, timeout_s=LIST_S)
            return Refs(_refs(answer.out), place.known_hosts())

    async def commit(self, remote: Remote, ref: str) -> Commit:
        """What `ref`, a full name, means now, and the spec files there. Raises as `refs`."""
        if not _REF.fullmatch(ref) or ".." in ref:
            raise GitError(f"not the name of a branch or tag: {ref!r}")
        async with self._place(remote) as place:
            await place.git("init", "--quiet", "--bare", ".", timeout_s=READ_S)
            await place.git(
                "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", "--depth=1",
                f"--filter=blob:limit={LARGEST_SPEC + 1}", "--refmap=", "--", place.address.url, f"+{ref}:refs/got",
                timeout_s=FETCH_S,
            )  # fmt: skip
            place.close_off()
            found = await place.git("rev-parse", "--verify", "--end-of-options", "refs/got^{commit}", timeout_s=READ_S)
            commit = found.out.decode("ascii", "replace").strip()
            listing = await place.git("ls-tree", "-z", "refs/got", "--", FOLDER, timeout_s=READ_S)
            entries = [entry for entry in _entries(listing.out) if entry[1].endswith(SUFFIXES)]
            files = [await _text(place, *entry) for entry in entries[:MOST_FILES]]
            return Commit(commit, tuple(files), max(0, len(entries) - MOST_FILES))

    @asynccontextmanager
    async def _place(self, remote: Remote) -> AsyncIterator[_Place]:
        if self.missing():
            raise GitMissing("git is not installed on this machine", hint="./install.sh installs it")
        where = address.read(remote.url)
        user = await asyncio.to_thread(_user, where)
        folder = Path(tempfile.mkdtemp(prefix=self._prefix, dir=_parent()))
        try:
            place = _Place(folder, remote, where, user)
            if where.way == "ssh":
                await place.expect()
            yield place
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


class _Place:
    """A directory in which git works for one remote."""

    def __init__(self, folder: Path, remote: Remote, where: Address, user: User | None) -> None:
        self.folder = folder
        self.address = where
        self._user = user
        repository = folder / "repository"
        repository.mkdir(mode=0o700)
        self._write("kept_hosts", remote.known_hosts)
        self._write("key", remote.password.strip() + "\n" if where.way == "ssh" and remote.password else "")
        if user:
            for path in (repository, folder):
                os.chown(path, user.uid, user.gid)
        self._env = _environment(remote, where, folder)
        self._expected = Expected()

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        if self._user:
            os.chown(path, self._user.uid, self._user.gid)

    async def expect(self) -> None:
        """Look up which keys of the server count, before ssh is asked for the first time. Raises GitError."""
        kept = await self._known(self.folder / "kept_hosts")
        self._expected = host_keys.expected(await self._known(host_keys.MACHINE), kept)
        self._write("known_hosts", self._expected.text)
        self._env = {**self._env, "APPLIANCE_HOST_KEYS": self._expected.checking}

    async def _known(self, file: Path) -> str:
        """The lines of `file` that mean the server, hashed names among them. Raises GitError."""
        if not file.exists():
            return ""
        argv = ["ssh-keygen", "-F", host_keys.name_of(self.address), "-f", str(file)]
        answer = await self._run(argv, timeout_s=READ_S, most=host_keys.LARGEST)
        if answer.code not in (0, 1):
            told = f"{file} cannot be read: {answer.err[:200] or f'ssh-keygen ended with exit code {answer.code}'}"
            raise GitError(told, where=self.address.url, hint="let everybody read that file: it holds no secrets")
        return answer.out.decode("utf-8", "replace")

    def close_off(self) -> None:
        """From here on git reaches nothing outside, whatever the repository lacks."""
        self._env = {**self._env, "GIT_ALLOW_PROTOCOL": "none"}

    async def git(self, *argv: str, timeout_s: float, most: int = 4 << 20) -> Answer:
        """Raises GitError unless it succeeds."""
        answer = await self.ask(*argv, timeout_s=timeout_s, most=most)
        if answer.code:
            hint = _hint(answer.err, self.address, pinned=self._expected.pinned)
            raise GitError(_why(answer), where=self.address.url, hint=hint)
        return answer

    async def ask(self, *argv: str, timeout_s: float, most: int) -> Answer:
        return await self._run(["git", *_OPTIONS, *argv], timeout_s=timeout_s, most=most)

    async def _run(self, argv: list[str], *, timeout_s: float, most: int) -> Answer:
        try:
            return await programs.run(
                argv,
                cwd=self.folder / "repository",
                env=self._env,
                user=self._user,
                most=most,
                timeout_s=timeout_s,
            )
        except TimeoutError:
            hint = "look whether the server answers; the next look comes by itself"
            raise GitError(f"no answer within {timeout_s:.0f} s", where=self.address.url, hint=hint) from None
        except TooMuch as error:
            raise GitError(error.message, where=self.address.url, hint="a smaller repository is needed") from None
        except OSError as error:
            raise GitError(f"{argv[0]} cannot be started: {error}", hint="free some memory or processes") from None

    def known_hosts(self) -> str:
        """What the server was met by. At a first contact ssh writes it, as a user who may put anything there."""
        if self._expected.strict or self.address.way != "ssh":
            return self._expected.text
        with contextlib.suppress(OSError, ValueError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self.folder / "known_hosts", flags), "rb") as file:
                text = file.read(host_keys.LARGEST + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
                if 0 < len(text) <= host_keys.LARGEST:
                    return text.decode()
        return self._expected.text


_OPTIONS = (
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.bigFileThreshold=1m",
    "-c", "core.packedGitWindowSize=16m",
    "-c", "core.packedGitLimit=128m",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "fetch.unpackLimit=1",
    "-c", "pack.threads=1",
    "-c", "protocol.ext.allow=never",
    "-c", "submodule.recurse=false",
    "-c", "http.lowSpeedLimit=200",
    "-c", "http.lowSpeedTime=20",
)  # fmt: skip


def _environment(remote: Remote, where: Address, folder: Path) -> dict[str, str]:
    env = {
        "PATH": program_path(),
        "LC_ALL": "C",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ALLOW_PROTOCOL": where.protocols,
        "GIT_SSH_COMMAND": _SSH,
        "GIT_SSH_VARIANT": "ssh",
        "APPLIANCE_KNOWN_HOSTS": str(folder / "known_hosts"),
        "APPLIANCE_KEY": str(folder / "key"),
        **{name: os.environ[name] for name in _KEPT if name in os.environ},
    }
    if where.way != "http" or not (remote.username or remote.password):
        return env
    if re.search(r"[\x00\r\n]", remote.username + remote.password):
        raise UsageError("user name and password must be one line each", hint="set the secret without a line end")
    return env | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"credential.{where.origin}.helper",
        "GIT_CONFIG_VALUE_0": _HELPER,
        "APPLIANCE_USER": remote.username or DEFAULT_USER,
        "APPLIANCE_PASSWORD": remote.password,
    }


def _parent() -> Path:
    return _WORK if _WORK.is_dir() else Path(tempfile.gettempdir())


def _user(where: Address) -> User | None:
    """Whose rights git gets; None: those of the daemon, which is not root. Raises GitError."""
    if where.way == "local":
        try:
            place = local.look(where.url)
        except UsageError as error:
            raise GitError(error.message, where=where.url, hint=error.hint) from None
        return User(place.uid, place.gid) if os.geteuid() == 0 else None
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return User(_NOBODY, _NOBODY)
    return User(nobody.pw_uid, nobody.pw_gid)


async def _text(place: _Place, mode: bytes, path: str, name: str) -> SpecText:
    if mode not in (b"100644", b"100755"):
        return SpecText(path, b"", "is a link or a submodule, which is not followed")
    try:
        answer = await place.ask("cat-file", "blob", name, timeout_s=READ_S, most=LARGEST_SPEC)
    except GitError as error:
        return SpecText(path, b"", error.message)
    if answer.code:
        return SpecText(path, b"", f"cannot be read: a spec has at most {LARGEST_SPEC >> 20} MiB ({_why(answer)})")
    return SpecText(path, answer.out)


def _entries(listing: bytes) -> list[tuple[bytes, str, str]]:
    """(mode, path, object) of each; a directory is not looked into. A path is printable, whatever it is there."""
    found = [_ENTRY.fullmatch(entry) for entry in listing.split(b"\0") if entry]
    return [
        (entry["mode"], _printable(entry["path"]), entry["object"].decode())
        for entry in found
        if entry and entry["type"] != b"tree"
    ]


def _printable(path: bytes) -> str:
    text = path.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "?" for character in text)


def _refs(out: bytes) -> dict[str, str]:
    """An annotated tag counts as the commit it points to. Names that git itself refuses are left out."""
    found: dict[str, str] = {}
    peeled: dict[str, str] = {}
    for line in out.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        commit, name = match[1].decode(), match[2].decode("utf-8", "replace")
        into, name = (peeled, name[:-3]) if name.endswith("^{}") else (found, name)
        if _REF.fullmatch(name) and ".." not in name and "�" not in name:
            into[name] = commit
    if len(found) > MOST_REFS:
        raise GitError(f"{len(found):,} branches and tags, and at most {MOST_REFS:,} are looked at")
    return found | {name: commit for name, commit in peeled.items() if name in found}


def _why(answer: Answer) -> str:
    """The line that says most."""
    lines = [line for line in answer.err.splitlines() if line]
    told = [line for line in lines if line.startswith(("Host key", "ssh:"))]
    told = told or [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
    return told[0].removeprefix("fatal: ")[:400] if told else f"git ended with exit code {answer.code}"


def _hint(err: str, where: Address, *, pinned: bool) -> str:
    said = err.lower()
    if "terminal prompts disabled" in said or "authentication failed" in said or "permission denied" in said:
        what = "a private key" if where.way == "ssh" else "a password or token"
        return f"give the repository `password: secret:NAME`, {what} that may read it"
    if "host key verification failed" in said and pinned:
        return f"the server is not the one that {host_keys.MACHINE} names; if that is right, correct that file"
    if "host key verification failed" in said:
        return (
            "the server is not the one of the first contact; if that is right, delete the repository and apply it again"
        )
    if "signal 25" in said or "file size limit" in said:
        return f"at most {programs.LARGEST_FILE >> 20} MiB of a commit are fetched"
    return "correct the address, or look whether the server answers; the next look comes by itself"
