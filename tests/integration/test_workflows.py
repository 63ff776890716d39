"""Workflow runs as real containers: files, parallel jobs, failures, cancel, a daemon that dies, git over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import owner_of
from appliance.reconcile import Reconciler
from appliance.settings import Settings
from appliance.settings import load as load_settings
from appliance.state import runs
from appliance.state.db import Database
from appliance.storage.base import Store
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.scratch import Scratch
from appliance.storage.zfs.store import ZfsStore
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogQuery
from appliance.vault.secrets import Secrets
from appliance.workflows.controller import RunController
from appliance.workflows.kept import keeping
from appliance.workflows.submit import cancel_run, start_run
from tests.support.docker import clear

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.images]

BASE = "appliance/base"
DEADLINE_S = 240.0


def call(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


class Floor:
    """The rooms below the controller, and a controller that can be dropped and made again."""

    def __init__(self, settings: Settings, store: Store, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine
        self.db = Database(settings.state_file)
        self.store = store
        self.datasets = Datasets(self.db, store, time.time)
        self.models = Models(self.db, store, time.time)
        self.vault = Secrets(self.db, settings.home / "key", time.time)
        self.images = Images(self.engine, base_image=settings.base_image, work_dir=settings.home)
        self.telemetry = Telemetry(settings.telemetry_file, flush_s=0.1, memory_mb=128, redact=self.vault.values)
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        reconciler = Reconciler((), resync_s=5)
        self.controller = RunController(
            db=self.db,
            engine=self.engine,
            images=self.images,
            store=self.store,
            scratch=Scratch(self.store),
            datasets=self.datasets,
            models=self.models,
            telemetry=self.telemetry,
            vault=self.vault,
            settings=self.settings,
            instance=self.engine.instance,
            clock=time.time,
            hint=reconciler.hint,
        )
        reconciler.add(self.controller)
        self.hint = reconciler.hint

        async def pump() -> None:
            async for event in self.engine.events():
                if owner := owner_of(event.labels):
                    self.controller.noticed(owner, event.action)

        self._tasks = [asyncio.create_task(reconciler.run()), asyncio.create_task(pump())]

    async def drop(self) -> None:
        """The controller dies where it stands."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def submit(self, document: Mapping[str, Any], name: str = "flow") -> runs.Run:
        run = start_run(self.db, None, name, document, {}, now=time.time())
        self.hint("run", run.id)
        return run

    def cancel(self, run: runs.Run) -> None:
        cancel_run(self.db, run.id, now=time.time())
        self.hint("run", run.id)

    def jobs(self, run: runs.Run) -> dict[str, runs.Job]:
        return {job.name: job for job in runs.jobs(self.db.read, run.id)}

    def phases(self, run: runs.Run) -> dict[str, str]:
        return {name: job.phase for name, job in self.jobs(run).items()}

    async def until(self, done: Callable[[], bool], what: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < deadline, what()
            await asyncio.sleep(0.05)

    async def finish(self, run: runs.Run) -> runs.Run:
        def story() -> object:
            return [(job.name, job.phase, job.message) for job in self.jobs(run).values()]

        await self.until(lambda: runs.get(self.db.read, run.id).finished is not None, story)
        return runs.get(self.db.read, run.id)

    async def log(self, run: runs.Run, job: str) -> str:
        lines = await self.telemetry.logs(LogQuery(kind="run", name=f"{run.workflow}.{run.number}", part=job))
        return "\n".join(line.line for line in lines)

    async def leftovers(self) -> list[str]:
        """Containers, and volumes of runs but those that somebody still needs."""
        kept = keeping.needed(self.db.read)
        left = [volume for volume in self.store.volumes("runs") if volume not in kept]
        return [container.name for container in await self.engine.list()] + left

    def storage(self, name: str) -> Path:
        return self.store.path("storage") / name


@asynccontextmanager
async def a_floor(engine: Engine, home: Path, store: Store, **variables: str) -> AsyncIterator[Floor]:
    settings = load_settings({f"APPLIANCE_{name.upper()}": value for name, value in variables.items()}, home=home)
    floor = Floor(settings, store, engine)
    await floor.telemetry.start()
    floor.begin()
    try:
        yield floor
    finally:
        await floor.drop()
        await clear(engine)
        await floor.telemetry.stop()
        floor.db.close()


@pytest.fixture
async def floor(engine: Engine, base_image: str, tmp_path: Path) -> AsyncIterator[Floor]:
    store = DirectoryStore(tmp_path / "volumes", "a test", durable=False)
    async with a_floor(engine, tmp_path / "home", store, stop_grace_s="1") as made:
        yield made


@pytest.fixture(params=["directory", pytest.param("zfs", marks=pytest.mark.zfs)])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "volumes", "a test", durable=False)
    return ZfsStore(request.getfixturevalue("zfs_dataset"), tmp_path / "volumes")


def script(text: str, *needs: str, **more: Any) -> dict[str, Any]:
    return {"uses": "script@v1", "with": {"image": BASE, "script": text}, "needs": list(needs), **more}


def flow(**jobs: dict[str, Any]) -> dict[str, Any]:
    return {"jobs": jobs}


MAKE = """
echo made > /outputs/tree/file && mkdir /outputs/tree/sub
echo 1,2,3 > /outputs/data/table.csv
printf 'a word' > /outputs/word
echo lost > /outputs/undeclared; echo lost > /inputs/undeclared; mkdir -p /outputs/more/deep
echo to stdout; echo to stderr >&2
"""
READ = """
set -e
test "$(cat /inputs/tree/file)" = made && test "$(cat /inputs/data/table.csv)" = 1,2,3
test "$(cat /inputs/word)" = 'a word' && test "$(cat /inputs/fixed)" = 'héllo "$x"'
! touch /inputs/data/new 2>/dev/null
echo mine > /inputs/tree/file && rm -r /inputs/tree/sub
! ls /inputs/undeclared /outputs/undeclared 2>/dev/null
test "$GREETING" = "hello world" && test "$APPLIANCE_RUN" = flow.1
"""
OUTPUTS = {
    "tree": {"type": "volume"},
    "data": {"type": "dataset", "with": {"ref": "digits"}},
    "word": {"type": "string"},
}
READS = {
    **{name: f"make.outputs.{name}" for name in OUTPUTS},
    "fixed": {"type": "string", "with": {"value": 'héllo "$x"'}},
}


async def test_files_go_from_job_to_job(engine: Engine, base_image: str, any_store: Store, tmp_path: Path) -> None:
    document = {
        "defaults": {"env": {"GREETING": "hello world"}},
        **flow(
            make=script(MAKE, outputs=OUTPUTS),
            read=script(READ, "make", inputs=READS),
            again=script(READ, "read", inputs=READS),
        ),
    }
    async with a_floor(engine, tmp_path / "home", any_store) as floor:
        floor.datasets.create("digits")
        run = floor.submit(document)
        ended = await floor.finish(run)
        logs = {name: await floor.log(run, name) for name in floor.jobs(run)}
        assert floor.phases(run) == dict.fromkeys(("make", "read", "again"), "Succeeded"), logs
        assert ended.phase == "Succeeded"
        version = floor.datasets.resolve("digits")
        content = await floor.datasets.path(version)
        assert {path.name: path.read_text() for path in content.iterdir()} == {"table.csv": "1,2,3\n"}
        assert floor.jobs(run)["again"].inputs["data"]["id"] == f"digits:{version.version}"
        assert set(logs["make"].splitlines()) == {"to stdout", "to stderr"}
        assert await floor.leftovers() == []


async def test_jobs_without_a_path_between_them_overlap(floor: Floor) -> None:
    meet = "touch /storage/$APPLIANCE_JOB; until [ -e /storage/{} ]; do sleep 0.05; done; echo met"
    run = floor.submit(
        flow(left=script(meet.format("right"), timeout=60), right=script(meet.format("left"), timeout=60))
    )
    assert (await floor.finish(run)).phase == "Succeeded"


async def test_a_failure_omits_what_depends_on_it(floor: Floor) -> None:
    run = floor.submit(
        flow(
            bad=script("echo to be kept; exit 3", outputs={"v": {"type": "volume"}}),
            after=script("true", "bad", inputs={"v": "bad.outputs.v"}),
            other=script("false; true"),
            lost=script("no-such-command"),
        )
    )
    ended = await floor.finish(run)
    assert floor.phases(run) == {"bad": "Failed", "after": "Omitted", "other": "Succeeded", "lost": "Failed"}
    jobs = floor.jobs(run)
    assert jobs["bad"].message == "exit code 3"
    assert jobs["after"].message == "bad failed"
    assert "command not found" in jobs["lost"].message
    assert (ended.phase, ended.message) == ("Failed", "bad: exit code 3, and 1 more")
    assert await floor.log(run, "bad") == "to be kept"
    assert await floor.leftovers() == []


async def test_cancel_leaves_nothing_behind(floor: Floor) -> None:
    floor.datasets.create("digits")
    outputs = {"d": {"type": "dataset", "with": {"ref": "digits"}}, "v": {"type": "volume"}}
    stubborn = "trap '' TERM; touch /storage/there; while true; do sleep 0.1; done"
    run = floor.submit(flow(stubborn=script(stubborn, outputs=outputs), never=script("true", "stubborn")))
    await floor.until(lambda: floor.phases(run)["stubborn"] == "Running", lambda: floor.phases(run))
    await floor.until(floor.storage("there").exists, lambda: "it did not begin")
    floor.cancel(run)
    assert (await floor.finish(run)).phase == "Canceled"
    assert floor.phases(run) == {"stubborn": "Canceled", "never": "Canceled"}
    assert await floor.leftovers() == []
    assert floor.datasets.versions("digits") == []


async def test_a_timeout_ends_a_job(floor: Floor) -> None:
    run = floor.submit(flow(slow=script("exec sleep 300", timeout=1)))
    assert (await floor.finish(run)).phase == "Failed"
    assert "timeout of 1 s" in floor.jobs(run)["slow"].message


async def test_a_dropped_controller_loses_and_doubles_nothing(floor: Floor) -> None:
    count = "echo $APPLIANCE_JOB >> /storage/starts; for i in $(seq 20); do echo line $i; sleep 0.1; done"
    document = flow(one=script(count), two=script(count), three=script(count, "one", "two"))
    run = floor.submit(document)
    for _ in range(6):
        await asyncio.sleep(secrets.randbelow(1000) / 1000)
        await floor.drop()
        floor.begin()
    assert (await floor.finish(run)).phase == "Succeeded"
    assert sorted(floor.storage("starts").read_text().split()) == ["one", "three", "two"]
    for job in floor.jobs(run):
        assert (await floor.log(run, job)).splitlines() == [f"line {number}" for number in range(1, 21)]
    assert await floor.leftovers() == []


async def test_actions_run_as_their_image_means_them(floor: Floor) -> None:
    container = {
        "uses": "container@v1",
        "with": {"image": BASE, "command": ["printf"], "args": ["%s|", "a b", "$HOME"]},
    }
    long = "\n".join(["# " + "x" * 98] * 3000) + "\necho '$quoted \"text\"' | tee /outputs/o; pwd"
    run = floor.submit(flow(container=container, long=script(long, outputs={"o": {"type": "string"}})))
    assert (await floor.finish(run)).phase == "Succeeded"
    assert await floor.log(run, "container") == "a b|$HOME|"
    assert floor.jobs(run)["long"].outputs["o"]["value"] == '$quoted "text"\n'


@pytest.fixture
def unprivileged_image(floor: Floor) -> Iterator[str]:
    """An image whose user is not root, as many public ones have it."""
    name = f"appliance-test-{secrets.token_hex(4)}"
    recipe = f"FROM {BASE}\nUSER 1234:1234\nWORKDIR /tmp\n"
    subprocess.run(["docker", "build", "-q", "-t", name, "-"], input=recipe, text=True, check=True, timeout=120)
    yield name
    call("docker", "image", "rm", name)


async def test_an_image_with_another_user_may_write_its_outputs(floor: Floor, unprivileged_image: str) -> None:
    floor.datasets.create("digits")
    make = script(MAKE + "id -u; pwd", outputs=OUTPUTS)
    make["with"]["image"] = unprivileged_image
    run = floor.submit(
        flow(make=make, read=script("rm -r /inputs/tree/*", "make", inputs={"tree": "make.outputs.tree"}))
    )
    assert (await floor.finish(run)).phase == "Succeeded", await floor.log(run, "make")
    assert (await floor.log(run, "make")).splitlines()[-2:] == ["1234", "/tmp"]


async def test_what_cannot_start_says_why(floor: Floor) -> None:
    nowhere = {"uses": "container@v1", "with": {"image": "127.0.0.1:1/nothing:here"}}
    no_command = {"uses": "container@v1", "with": {"image": BASE, "command": ["/no/such/program"]}}
    run = floor.submit(flow(nowhere=nowhere, no_command=no_command, no_secret=script("true", env={"A": "secret:NONE"})))
    assert (await floor.finish(run)).phase == "Failed"
    assert set(floor.phases(run).values()) == {"Error"}
    jobs = floor.jobs(run)
    assert "127.0.0.1:1/nothing:here" in jobs["nowhere"].message
    assert "cannot run /no/such/program: No such file" in jobs["no_command"].message
    assert "no secret named 'NONE'" in jobs["no_secret"].message
    assert await floor.leftovers() == []


# git


def git(*argv: str, cwd: Path) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *argv], cwd=cwd, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


@contextmanager
def git_server(root: Path, host: str, password: str = "", ready: Callable[[], bool] = lambda: True) -> Iterator[str]:
    """The repositories below `root` over HTTP, by git's own CGI program. Yields the address.

    Who may read them gets its answer as soon as the test is `ready`.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            expected = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
            if password and self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            deadline = time.monotonic() + DEADLINE_S
            while not ready() and time.monotonic() < deadline:
                time.sleep(0.05)
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            environment = {
                **os.environ,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            answer = subprocess.run(
                ["git", "http-backend"], input=body, env=environment, capture_output=True, timeout=60
            )
            head, _, content = answer.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            return None

    with ThreadingHTTPServer((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A bare repository `code.git` with a branch, a tag and a commit; name -> commit."""
    work, root = tmp_path / "work", tmp_path / "repositories"
    work.mkdir()
    root.mkdir()
    git("init", cwd=work)
    commits = {}
    for name in ("first", "tagged", "last"):
        (work / "file").write_text(name)
        git("add", ".", cwd=work)
        git("commit", "-m", name, cwd=work)
        commits[name] = git("rev-parse", "HEAD", cwd=work)
    git("tag", "v1.0", commits["tagged"], cwd=work)
    git("branch", "feature/x", commits["first"], cwd=work)
    git("clone", "--bare", str(work), str(root / "code.git"), cwd=tmp_path)
    return root, commits


def checkout(url: str, **parameters: str) -> dict[str, Any]:
    return {"uses": "git-checkout@v1", "with": {"url": url, **parameters}, "outputs": {"repo": {"type": "volume"}}}


def reading(job: str) -> dict[str, Any]:
    text = "cat /inputs/repo/file > /outputs/text; test -d /inputs/repo/.git"
    outputs, inputs = {"text": {"type": "string"}}, {"repo": f"{job}.outputs.repo"}
    return script(text, job, inputs=inputs, outputs=outputs)


async def test_git_checkout_takes_branches_tags_and_commits(
    floor: Floor, repository: tuple[Path, dict[str, str]]
) -> None:
    root, commits = repository
    refs = {
        "last": "",
        "first": "feature/x",
        "tagged": "v1.0",
        "by_hash": commits["first"],
        "short": commits["tagged"][:9],
    }
    with git_server(root, await floor.engine.ensure_network()) as address:
        jobs: dict[str, Any] = {}
        for name, ref in refs.items():
            jobs[name] = checkout(f"{address}/code.git", **({"ref": ref} if ref else {}))
            jobs[f"read-{name}"] = reading(name)
        jobs["missing"] = checkout(f"{address}/code.git", ref="no-such-branch")
        run = floor.submit(flow(**jobs))
        await floor.finish(run)
    found = floor.jobs(run)
    texts = {name: found[f"read-{name}"].outputs.get("text", {}).get("value") for name in refs}
    told = {name: found[name].message + await floor.log(run, name) for name in refs}
    assert texts == {"last": "last", "first": "first", "tagged": "tagged", "by_hash": "first", "short": "tagged"}, told
    assert found["missing"].phase == "Failed"
    assert "no branch or tag named no-such-branch" in await floor.log(run, "missing")


async def test_a_private_repository_needs_its_password_and_shows_it_to_nobody(
    floor: Floor, repository: tuple[Path, dict[str, str]]
) -> None:
    root, _ = repository
    floor.vault.set("TOKEN", "s3cret/with:odd@chars%")
    floor.vault.set("WRONG", "wrong-password")
    seen: list[str] = []

    def was_seen() -> bool:
        return any('"dev.appliance.part": "private"' in text for text in seen)

    with git_server(root, await floor.engine.ensure_network(), "s3cret/with:odd@chars%", was_seen) as address:
        url = f"{address}/code.git"
        run = floor.submit(
            flow(
                private=checkout(url, username="me", password="secret:TOKEN"),
                read=reading("private"),
                wrong=checkout(url, username="me", password="secret:WRONG"),
                none=checkout(url),
            )
        )
        watcher = asyncio.create_task(_inspect_all(floor, seen))
        await floor.finish(run)
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    assert floor.phases(run) == {"private": "Succeeded", "read": "Succeeded", "wrong": "Failed", "none": "Failed"}
    assert "Authentication failed" in await floor.log(run, "wrong")
    assert was_seen()
    assert not any("s3cret" in text for text in seen)
    assert "s3cret" not in "\n".join(floor.db.read.iterdump())
    assert await floor.leftovers() == []


async def _inspect_all(floor: Floor, seen: list[str]) -> None:
    while True:
        for container in await floor.engine.list():
            found = await asyncio.to_thread(call, "docker", "inspect", container.id)
            seen.append(json.dumps(json.loads(found.stdout or "[]")))
        await asyncio.sleep(0.05)
