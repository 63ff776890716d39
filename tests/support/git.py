"""A git server over HTTP for tests: git's own CGI program behind a server of the standard library.

It listens on the engine's default bridge, which the host and every job's container reach by the same address.
Repositories are bare and are written by git's plumbing, so that a test says in one line what a commit holds. Git LFS
objects (the batch API, download only) are served where a test put some.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import docker
import pytest

TIMEOUT_S = 60.0
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_NAME": "A Test" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "test@example.com" for who in ("AUTHOR", "COMMITTER")},
}


class Repository:
    """One bare repository. `login` (`USER:PASSWORD`) is what every request must bring; empty: none."""

    def __init__(self, path: Path, url: str, *, login: str = "", push: bool = False) -> None:
        self.path = path
        self.url = url
        self.login = login
        self.lfs: dict[str, bytes] = {}
        """LFS objects by their hash."""
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True, env=_ENVIRONMENT)
        self.git("config", "http.receivepack", "true" if push else "false")

    def git(self, *argv: str, stdin: bytes | None = None, index: str = "") -> str:
        """What git prints, without the last line end. Raises AssertionError with what it says when it fails."""
        env = {**_ENVIRONMENT, **({"GIT_INDEX_FILE": index} if index else {})}
        done = subprocess.run(
            ["git", "-C", str(self.path), *argv], input=stdin, capture_output=True, timeout=TIMEOUT_S, env=env
        )
        assert done.returncode == 0, f"git {' '.join(argv)}: {done.stderr.decode()}"
        return done.stdout.decode().rstrip("\n")

    def commit(
        self,
        files: Mapping[str, str | bytes | None],
        message: str = "a change",
        *,
        branch: str = "main",
        executable: bool = False,
        links: Mapping[str, str] | None = None,
        modules: Mapping[str, Repository] | None = None,
    ) -> str:
        """The hash of a commit on top of `branch` that changes these files (None removes one).

        A branch that is not there begins without a parent. `links`: path -> target; `modules`: path -> the repository
        whose `main` is a submodule there.
        """
        entries = [
            ("0" * 6, "0" * 40, path) if content is None else (_mode(executable), self._blob(content), path)
            for path, content in files.items()
        ]
        entries += [("120000", self._blob(target), path) for path, target in (links or {}).items()]
        if modules:
            told = "".join(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {r.url}\n' for path, r in modules.items())
            entries.append(("100644", self._blob(told), ".gitmodules"))
            entries += [("160000", module.head(), path) for path, module in modules.items()]
        parent = self.head(branch) if self.has(branch) else ""
        with tempfile.TemporaryDirectory(prefix="git-index-") as folder:
            index = f"{folder}/index"
            if parent:
                self.git("read-tree", parent, index=index)
            lines = "".join(f"{mode} {blob}\t{path}\n" for mode, blob, path in entries)
            self.git("update-index", "--add", "--index-info", stdin=lines.encode(), index=index)
            tree = self.git("write-tree", index=index)
        made = self.git("commit-tree", tree, "-m", message, *(["-p", parent] if parent else []))
        self.git("update-ref", f"refs/heads/{branch}", made)
        return made

    def commit_lfs(self, path: str, content: bytes, *, branch: str = "main") -> str:
        """A commit whose `path` is a pointer to an LFS object, as `git lfs track` makes them."""
        found = hashlib.sha256(content).hexdigest()
        self.lfs[found] = content
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{found}\nsize {len(content)}\n"
        attributes = f"{path} filter=lfs diff=lfs merge=lfs -text\n"
        return self.commit({path: pointer, ".gitattributes": attributes}, branch=branch)

    def branch(self, name: str, at: str = "main") -> None:
        self.git("branch", "-f", name, at)

    def tag(self, name: str, at: str = "main", *, message: str = "") -> None:
        """Annotated where there is a message."""
        self.git("tag", "-f", *(["-m", message] if message else []), name, at)

    def delete(self, ref: str) -> None:
        """A full name, such as refs/heads/x."""
        self.git("update-ref", "-d", ref)

    def head(self, branch: str = "main") -> str:
        return self.git("rev-parse", "--verify", f"refs/heads/{branch}")

    def has(self, branch: str) -> bool:
        return bool(self.git("for-each-ref", f"refs/heads/{branch}"))

    def read(self, path: str, ref: str = "main") -> str:
        return self.git("show", f"{ref}:{path}")

    def _blob(self, content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        return self.git("hash-object", "-w", "--stdin", stdin=data)


class GitServer(ThreadingHTTPServer):
    """The repositories below `root`, at `url`/NAME.git or any longer path."""

    daemon_threads = True

    def __init__(self, root: Path, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.root = root
        self.url = f"http://{host}:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        """`METHOD PATH STATUS` of everything that was answered."""
        self.broken = False
        """Answer 503 to everything."""
        self.only_refs = False
        """Speak the first protocol, in which a client gets what a branch or tag names, and no other commit."""

    def repository(
        self, name: str, files: Mapping[str, str | bytes] | None = None, *, login: str = "", push: bool = False
    ) -> Repository:
        """A new one at `NAME.git` (a name may have folders); with `files`, its first commit on `main` holds them."""
        path = f"/{name}.git"
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        made = self.repositories[path] = Repository(self.root / path[1:], self.url + path, login=login, push=push)
        if files:
            made.commit(files, "the first")
        return made

    def find(self, path: str) -> tuple[Repository, str] | None:
        """The repository that a request's path means, with or without `.git`, and what follows."""
        for name, repository in self.repositories.items():
            for prefix in (name, name.removesuffix(".git")):
                if path.startswith(prefix + "/"):
                    return repository, path.removeprefix(prefix)
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GitServer

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        body = self._body()
        found = self.server.find(unquote(path))
        if self.server.broken:
            self._answer(503, b"broken\n")
        elif found is None:
            self._answer(404, b"no such repository\n")
        elif found[0].login and self.headers.get("Authorization") != _basic(found[0].login):
            self._answer(401, b"who are you?\n", {"WWW-Authenticate": 'Basic realm="git"'})
        elif found[1] == "/info/lfs/objects/batch":
            self._batch(found[0], body)
        elif found[1].startswith("/lfs/"):
            content = found[0].lfs.get(found[1].removeprefix("/lfs/"))
            self._answer(404 if content is None else 200, content or b"", {"Content-Type": "application/octet-stream"})
        else:
            self._backend(*found, query, body)

    do_POST = do_GET

    def _backend(self, repository: Repository, rest: str, query: str, body: bytes) -> None:
        env = {
            **_ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{repository.path.relative_to(self.server.root)}{rest}",
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": "" if self.server.only_refs else self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, timeout=TIMEOUT_S)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self._answer(int(headers.pop("Status", "200").split()[0]), content, headers)

    def _batch(self, repository: Repository, body: bytes) -> None:
        def entry(wanted: dict[str, Any]) -> dict[str, Any]:
            if wanted["oid"] not in repository.lfs:
                return {**wanted, "error": {"code": 404, "message": "no such object"}}
            header = {"header": {"Authorization": _basic(repository.login)}} if repository.login else {}
            return {**wanted, "actions": {"download": {"href": f"{repository.url}/lfs/{wanted['oid']}", **header}}}

        objects = [entry(wanted) for wanted in json.loads(body)["objects"]]
        told = json.dumps({"transfer": "basic", "objects": objects}).encode()
        self._answer(200, told, {"Content-Type": "application/vnd.git-lfs+json"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.server.requests.append(f"{self.command} {self.path} {status}")
        self.send_response(status)
        for name, value in (headers or {}).items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        return


@contextmanager
def serve_git(root: Path, host: str = "127.0.0.1") -> Iterator[GitServer]:
    root.mkdir(parents=True, exist_ok=True)
    with GitServer(root, host) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def bridge_address() -> str:
    """The host's address on the engine's default bridge; containers of any network reach it there."""
    api = docker.from_env()
    try:
        entries = api.networks.get("bridge").attrs["IPAM"]["Config"]
    finally:
        api.close()
    return str(next(entry["Gateway"] for entry in entries if ":" not in entry.get("Gateway", ":")))


@pytest.fixture
def git_server(docker_engine: str, tmp_path: Path) -> Iterator[GitServer]:
    """An empty one that containers and the host reach."""
    with serve_git(tmp_path / "repositories", bridge_address()) as server:
        yield server


@pytest.fixture
def local_git_server(tmp_path: Path) -> Iterator[GitServer]:
    """An empty one on 127.0.0.1, for tests without an engine."""
    with serve_git(tmp_path / "repositories") as server:
        yield server


def _mode(executable: bool) -> str:
    return "100755" if executable else "100644"


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()
