"""`git-checkout@v1` as it runs in its container: a repository at a ref, with its submodules and large files.

The repository is hostile: only the protocols named in the request are spoken, no hook runs, and credentials are given
to the one server that the request names, over a pipe. They are in no argument, no environment and no file of git's.

A repository of the machine itself is bound into the container. Whoever may change what lies at its path there may have
put another folder in its place, so it is read only where it is the very folder that the request describes; and only
git's own words with it may use the protocol `file`, not what the repository names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

HERE = Path(__file__).resolve()
COMMIT = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
SHORT = re.compile(r"[0-9a-fA-F]{7,63}")
STALLED_S = 300
"""A server that sends nothing for so long is given up."""
REASONS = (
    (r"Host key verification failed", "the server of {url} is not the one that is known from polling it"),
    (r"Load key .*: (?:invalid format|error in libcrypto)", "`password` is not a private key without a passphrase"),
    (r"Permission denied \(publickey", "the server of {url} does not take the key"),
    (r"Authentication failed|HTTP Basic: Access denied", "{host} refuses the user name or the password"),
    (r"The requested URL returned error: 403", "{host} does not let this user in (403)"),
    (r"repository '.*' not found|returned error: 404", "there is no repository at {url}, or it is private"),
    (r"Could not resolve host", "no host named {host} is known"),
    (r"Failed to connect|Connection refused|Couldn't connect|Connection timed out", "{host} cannot be reached"),
    (r"SSL certificate|certificate verif", "the certificate of {host} cannot be verified"),
    (r"No space left on device", "the disk is full"),
)


class Refused(Exception):
    """Why there is no checkout, in words."""


class Git:
    """Runs git for one request. `url` has no credentials in it."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.url: str = request["url"]
        self._origin: str = request["origin"]
        self._asks: str = request.get("asks", "set `with.password`")
        self._environment = {**os.environ, **environment(request)}
        if request["bound"]:
            self._environment["GIT_ALLOW_PROTOCOL"] = "file"

    def outward(self, request: dict[str, Any]) -> Git:
        """For what the repository names: submodules, and where its large files are."""
        return Git({**request, "bound": None})

    def __call__(self, *argv: str, at: str = "/", quiet: bool = False) -> str:
        """Its stdout. Raises Refused with what git says, in words where they are known."""
        done = self.try_(*argv, at=at)
        if done.stderr and not quiet:
            print(done.stderr.rstrip(), file=sys.stderr, flush=True)
        if done.returncode:
            raise Refused(self._words(done.stderr, argv[0]))
        return done.stdout

    def try_(self, *argv: str, at: str = "/") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *argv],
            cwd=at,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def _words(self, said: str, command: str) -> str:
        host = urlsplit(self.url).netloc
        if re.search(r"transport '[^']*' not allowed", said):
            return "it names an address with a protocol that a job may not use: " + _last(said)
        if asks := re.search(r"could not read (?:Username|Password) for '([^']*)'", said):
            if asks[1] == self._origin:
                return f"{host} asks for a user name and a password: {self._asks}"
            return f"{asks[1]} asks for a user name and a password, and this job's are for {self._origin} only"
        if "submodule" not in said:
            for pattern, words in REASONS:
                if re.search(pattern, said):
                    return words.format(host=host, url=self.url)
        return f"git {command}: {_last(said) or 'failed without a word'}"


def environment(request: dict[str, Any]) -> dict[str, str]:
    """All settings of git, in place of the ones in files: nothing of them is left in the repository."""
    config = [
        ("advice.detachedHead", "false"),
        ("init.defaultBranch", "main"),
        ("safe.directory", "*"),
        ("core.hooksPath", "/dev/null"),
        ("gc.auto", "0"),
        ("http.lowSpeedLimit", "1"),
        ("http.lowSpeedTime", str(STALLED_S)),
        ("filter.lfs.process", "git-lfs filter-process"),
        ("filter.lfs.smudge", "git-lfs smudge -- %f"),
        ("filter.lfs.clean", "git-lfs clean -- %f"),
    ]
    if bound := request["bound"]:
        config.append((f"url.{bound['path']}.insteadOf", request["url"]))
    if origin := request["origin"]:
        # a submodule that is named by its SSH address on the same server is fetched as the repository itself is
        host = urlsplit(origin).hostname or ""
        config += [(f"url.{origin}/.insteadOf", form) for form in (f"git@{host}:", f"ssh://git@{host}/")]
    if request.get("password"):
        config.append(("credential.helper", f"!python3 {HERE} credential"))
    pairs = {f"GIT_CONFIG_KEY_{number}": key for number, (key, _) in enumerate(config)}
    pairs |= {f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in enumerate(config)}
    if request["bound"]:
        # git hands its settings to no program that reads the other end of a path, and git-lfs none of its variables
        elsewhere = {"HOME": str(HERE.parent), "GIT_CONFIG_GLOBAL": str(HERE.with_name(".gitconfig"))}
    else:
        elsewhere = {"GIT_CONFIG_GLOBAL": "/dev/null"}
    return pairs | {
        "GIT_CONFIG_COUNT": str(len(config)),
        **elsewhere,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": request["protocols"],
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        # one file after the other while it is checked out is slow, and a failure would have no words
        "GIT_LFS_SKIP_SMUDGE": "1",
        **secure_shell(),
        "LC_ALL": "C.UTF-8",
    }


def secure_shell() -> dict[str, str]:
    """How ssh meets the server: by what polling met it by, and by nothing else. Nothing where there is no key."""
    key, known = HERE.with_name("ssh-key"), HERE.with_name("ssh-known-hosts")
    if not key.exists():
        return {}
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": key,
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": known,
        "GlobalKnownHostsFile": "/dev/null",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "60",
        "ServerAliveCountMax": "5",
    }
    words = " ".join(f"-o {name}={value}" for name, value in options.items())
    return {"GIT_SSH_COMMAND": f"exec ssh -F /dev/null {words}", "GIT_SSH_VARIANT": "ssh"}


def main() -> None:
    request = json.loads(HERE.with_name("request.json").read_text(encoding="utf-8"))
    if sys.argv[1:2] == ["credential"]:
        sys.stdout.write(credential(request, sys.argv[2:3], sys.stdin.read()))
        return
    try:
        what, commit = checkout(Git(request), request)
        Path(request["told"]).write_text(commit, encoding="ascii")
        words = f"commit {commit}" if what.startswith("commit ") else f"{what} at {commit}"
        print(f"appliance: {words} is in {request['target']}", flush=True)
    except Refused as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or request['target']}: {error.strerror}")


def fail(words: str) -> NoReturn:
    print(f"appliance: {words[:500]}", file=sys.stderr, flush=True)
    sys.exit(1)


def credential(request: dict[str, Any], action: list[str], asked: str) -> str:
    """git's credential helper: an answer for the one server that the request names, else nothing."""
    fields = dict(line.split("=", 1) for line in asked.splitlines() if "=" in line)
    if action != ["get"] or f"{fields.get('protocol')}://{fields.get('host')}" != request["origin"]:
        return ""
    return f"username={request['username']}\npassword={request['password']}\n"


def checkout(git: Git, request: dict[str, Any]) -> tuple[str, str]:
    """What was checked out, in words, and its commit."""
    ref, target = request["ref"], request["target"]
    if request["bound"]:
        same(request["bound"], request["url"])
    os.makedirs(target, exist_ok=True)
    if os.path.realpath(target) != target or os.path.islink(f"{target}/.git"):
        raise Refused(f"{target} leads elsewhere: it is reached through a symbolic link")
    git("init", "--quiet", "--", target)
    remotes = git("remote", at=target).split()
    git("remote", "set-url" if "origin" in remotes else "add", "origin", git.url, at=target)
    print(f"appliance: fetching {request['commit'] or ref or 'the default branch'} of {git.url}", flush=True)
    what = fetch_again(git, ref, request["commit"], target) if request["commit"] else fetch(git, ref, target)
    commit = git("rev-parse", "HEAD", at=target).strip()
    outward = git.outward(request)
    submodules(outward, target)
    large_files(git, target)
    for folder in nested(outward, target):
        large_files(outward, folder)
    if request.get("lean"):  # git's own copies: else everything large would be here twice
        for copies in large_copies(target):
            shutil.rmtree(copies, ignore_errors=True)
    return what, commit


def large_copies(target: str) -> list[Path]:
    """Where git keeps copies of its own of what is large. A submodule may have the name of that folder."""
    found = (Path(target, ".git/lfs"), *Path(target, ".git/modules").glob("**/lfs"))
    return [one / "objects" for one in found if (one.parent / "HEAD").is_file() and not (one / "HEAD").is_file()]


def same(bound: dict[str, Any], url: str) -> None:
    """Raises Refused where something else lies at the path than the daemon has seen there."""
    found = os.stat(bound["path"])
    if (found.st_dev, found.st_ino) != (bound["device"], bound["inode"]):
        raise Refused(f"what lies at {url} was replaced while the job began: start the run again")


def fetch(git: Git, ref: str, target: str) -> str:
    """Check out `ref`, without history where that is possible. What it turned out to be, in words."""
    if COMMIT.fullmatch(ref):  # never a branch of that name: who pins a commit gets that commit
        if git.try_("fetch", "--quiet", "--no-tags", "--depth=1", "origin", ref, at=target).returncode:
            everything(git, target)
        return detach(git, ref, target, f"commit {ref}")
    if not ref:
        branch, commit = head(git, target)
        if not commit:
            raise Refused(f"{git.url} has no commit on its default branch: name one in `ref`")
        if branch:
            return fetch_branch(git, branch, target)
        git("fetch", "--quiet", "--depth=1", "origin", commit, at=target)
        return detach(git, commit, target, "HEAD")
    if ref.startswith("refs/"):
        git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", ref, at=target)
        return detach(git, "FETCH_HEAD", target, ref)
    names = named(git, ref, target)
    if f"refs/heads/{ref}" in names:
        return fetch_branch(git, ref, target)
    if f"refs/tags/{ref}" in names:
        spec = f"+refs/tags/{ref}:refs/tags/{ref}"
        git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", spec, at=target)
        return detach(git, f"refs/tags/{ref}", target, f"tag {ref}")
    if SHORT.fullmatch(ref):
        everything(git, target)
        return detach(git, ref, target, f"commit {ref}")
    raise Refused(f"no branch or tag named {ref} in {git.url}")


def fetch_again(git: Git, ref: str, commit: str, target: str) -> str:
    """Check out `commit`, which `ref` meant once, as if `ref` still meant it. In words."""
    if git.try_("fetch", "--quiet", "--no-tags", "--depth=1", "origin", commit, at=target).returncode:
        everything(git, target)  # a server that gives out what its refs name, and nothing by its hash
        if ref.startswith("refs/"):
            git.try_("fetch", "--quiet", "--no-tags", "origin", ref, at=target)
    if git.try_("cat-file", "-e", f"{commit}^{{commit}}", at=target).returncode:
        raise Refused(f"commit {commit}, which this job is to check out again, is not in {git.url} any more")
    names = named(git, ref, target) if ref else set()
    branch = ref if f"refs/heads/{ref}" in names else ""
    if not ref:
        branch, _ = head(git, target)
    if branch:
        git("update-ref", f"refs/remotes/origin/{branch}", commit, at=target)
        return on_branch(git, branch, target)
    if f"refs/tags/{ref}" in names:
        git("update-ref", f"refs/tags/{ref}", commit, at=target)
        return detach(git, commit, target, f"tag {ref}")
    return detach(git, commit, target, ref if ref.startswith("refs/") else f"commit {commit}")


def named(git: Git, ref: str, target: str) -> set[str]:
    """The full names of the branch and the tag that are called `ref`, those of them that there are."""
    listed = git("ls-remote", "--heads", "--tags", "origin", f"refs/heads/{ref}", f"refs/tags/{ref}", at=target)
    return {line.partition("\t")[2] for line in listed.splitlines()}


def head(git: Git, target: str) -> tuple[str, str]:
    """The default branch, empty where the server's HEAD is none, and its commit, empty where it has none."""
    listed = git("ls-remote", "--symref", "origin", "HEAD", at=target)
    branch = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", listed, re.MULTILINE)
    commit = re.search(r"^([0-9a-f]+)\tHEAD$", listed, re.MULTILINE)
    return branch[1] if branch else "", commit[1] if commit else ""


def fetch_branch(git: Git, branch: str, target: str) -> str:
    kept = f"refs/remotes/origin/{branch}"
    git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", f"+refs/heads/{branch}:{kept}", at=target)
    return on_branch(git, branch, target)


def on_branch(git: Git, branch: str, target: str) -> str:
    """Check out the server's branch, already fetched, as the branch of that name."""
    git("checkout", "--quiet", "--force", "-B", branch, f"refs/remotes/origin/{branch}", at=target)
    return f"branch {branch}"


def everything(git: Git, target: str) -> None:
    git("fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*", at=target)


def detach(git: Git, commit: str, target: str, what: str) -> str:
    found = git.try_("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}", at=target)
    if found.returncode:
        raise Refused(f"no {what} in {git.url}")
    git("checkout", "--quiet", "--force", "--detach", found.stdout.strip(), at=target)
    return what


def submodules(git: Git, target: str) -> None:
    listing = Path(target, ".gitmodules")
    if listing.is_symlink() or not listing.is_file():
        return
    print("appliance: fetching submodules", flush=True)
    update = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"]
    if git.try_(*update, "--depth=1", at=target).returncode:  # not every server gives out a single commit
        try:
            git(*update, at=target)
        except Refused as error:
            raise Refused(f"a submodule could not be fetched: {error}") from None


def nested(git: Git, target: str) -> list[str]:
    """The folders of all submodules."""
    listed = git("submodule", "--quiet", "foreach", "--recursive", 'printf "%s\\0" "$toplevel/$sm_path"', at=target)
    return [folder for folder in listed.split("\0") if folder]


def large_files(git: Git, folder: str) -> None:
    listed = git.try_("lfs", "ls-files", "--name-only", at=folder)
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    if listed.returncode and Path(folder, ".gitattributes").is_file():
        print("appliance: git-lfs does not answer here; large files stay as pointers", file=sys.stderr, flush=True)
    if names:
        print(f"appliance: fetching {len(names)} large files", flush=True)
        try:
            git("lfs", "pull", at=folder)
        except Refused as error:
            raise Refused(f"large files could not be fetched: {error}") from None


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:", "batch response:"))]
    return (fatal or lines or [""])[-1]


if __name__ == "__main__":
    main()
