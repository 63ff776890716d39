"""Real Gradient files run through a real daemon, with only their images and network addresses exchanged.

A `Stage` is a daemon, a git server, a file server and the images that stand in for what the files name. `run` exchanges
what a test tells it to, starts the file through the command line and gives back what is to be looked at.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest

from appliance.cli import transfer
from appliance.engine.labels import PREFIX
from tests.support.daemon import RunningDaemon, eventually
from tests.support.git import GitServer, Repository, bridge_address, serve_git

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "workflows"
IMAGE = Path(__file__).parent / "corpus_image"
needs_corpus = [
    pytest.mark.e2e,
    pytest.mark.docker,
    pytest.mark.images,
    pytest.mark.haproxy,
    pytest.mark.skipif(not CORPUS.exists(), reason="the corpus of Gradient files is not beside the checkout"),
]
RUN_S = 400.0


@dataclass(frozen=True)
class Row:
    """One line of the table at the end."""

    file: str
    replaced: tuple[str, ...]
    jobs: int
    seconds: float
    result: str


class Ran:
    """A run that has ended."""

    def __init__(self, stage: Stage, document: dict[str, Any], output: str) -> None:
        self._stage = stage
        self.name: str = document["name"]
        self.phase: str = document["phase"]
        self.document = document
        self.output = output
        """What the command line printed while it followed the run."""
        self.seconds: float = document["finished"] - document["created"]
        self.jobs: dict[str, Any] = {job["name"]: job for job in document["jobs"]}

    @property
    def phases(self) -> dict[str, str]:
        return {name: job["phase"] for name, job in self.jobs.items()}

    def log(self, job: str) -> list[str]:
        lines = self._stage.daemon.client.logs(kind="run", name=self.name, part=job, limit=1000)
        return [line["line"] for line in lines]

    def files(self, job: str, output: str) -> dict[str, str]:
        """Path -> content of what a job committed to the dataset of this output."""
        return self._stage.files_of(self.jobs[job]["outputs"][output]["id"])

    def text(self, job: str, output: str) -> str:
        return str(self.jobs[job]["outputs"][output]["value"])

    def story(self) -> str:
        """The run in words, with the logs of what did not succeed."""
        told = [f"{self.name}: {self.phase} {self.document['message']}"]
        for name, job in self.jobs.items():
            told.append(f"  {name}: {job['phase']} {job['message']}")
            if job["phase"] not in ("Succeeded", "Omitted"):
                told += [f"    | {line}" for line in self.log(name)]
        return "\n".join(told)


class Stage:
    def __init__(self, daemon: RunningDaemon, git: GitServer, served: Path, address: str, image: str) -> None:
        self.daemon = daemon
        self.git = git
        self.served = served
        """What the file server has."""
        self.address = address
        self.image = f"{image}:plain"
        self.demo_image = f"{image}:demo"
        self.expert_image = f"{image}:expert"
        self.rows: list[Row] = []
        self.starts: list[tuple[str, str]] = []
        """Run and job of every container that the engine has started for this daemon, as far as it has told."""
        self.marks: set[str] = set()
        """Names that the engine has told somebody to have given to an image."""

    def dataset(self, name: str, files: Mapping[str, str | bytes] | None = None, *, tag: str = "") -> str:
        """`NAME:VERSION` of a new version with these files; without files, the name of an empty dataset."""
        self.daemon.client.apply(json.dumps({"kind": "dataset", "name": name}), "a test")
        if files is None:
            return name
        with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
            for path, content in files.items():
                target = Path(folder) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode() if isinstance(content, str) else content)
            made = transfer.put(self.daemon.client, name, Path(folder), tags=[tag] if tag else [])
            return str(made["ref"])

    def files_of(self, ref: str) -> dict[str, str]:
        """Path -> content of a committed version, fetched through the API."""
        name, _, version = ref.partition(":")
        with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
            transfer.get(self.daemon.client, name, version, Path(folder))
            found = [path for path in Path(folder).rglob("*") if path.is_file()]
            return {str(path.relative_to(folder)): path.read_text(errors="replace") for path in found}

    def model(self, model_id: str) -> dict[str, Any]:
        """A registered model; `ref` is the dataset's version that it is."""
        found: dict[str, Any] = self.daemon.client.get("models", model_id)
        return {**found, "ref": f"{found['dataset']}:{found['version']}"}

    def versions(self, dataset: str) -> list[str]:
        return [version["ref"] for version in self.daemon.client.versions(dataset)]

    def run(
        self,
        file: str,
        name: str,
        replaced: Mapping[str, str],
        *,
        event: Repository | None = None,
        inputs: Mapping[str, Any] | None = None,
        ends: str = "Succeeded",
    ) -> Ran:
        """`replaced`: text in the file -> what stands there instead. `event`: what `context.event.github` names.

        Fails with the logs of the failed jobs if the run does not end as `ends`.
        """
        with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
            written = Path(folder) / "workflow.yaml"
            written.write_text(exchanged(file, replaced, event))
            asked = ["run", str(written), "--name", name]
            if inputs is not None:
                given = Path(folder) / "inputs.yaml"
                given.write_text(json.dumps(inputs))
                asked += ["--input-path", str(given)]
            ran = self.follow(*asked, ends=ends)
        what = (*replaced, *(["context.event.github"] if event else []))
        self.rows.append(
            Row(file, what, len(ran.jobs), ran.seconds, ran.phase + (", as it should" if ends != "Succeeded" else ""))
        )
        return ran

    def started(self, ran: Ran) -> list[str]:
        """Jobs of which the engine started a container, in order; one that was started twice is there twice."""
        repository, tag = self.image.partition(":")[0], f"mark-{secrets.token_hex(4)}"
        api = docker.from_env()
        try:  # events come in order: after one that is caused now, all that were before it are here
            api.api.tag(self.image, repository, tag)
            eventually(lambda: f"{repository}:{tag}" in self.marks, within_s=60, what="what the engine has to tell")
            api.api.remove_image(f"{repository}:{tag}")
        finally:
            api.close()
        return [part for name, part in self.starts if name == ran.name]

    def follow(self, *asked: str, ends: str = "Succeeded") -> Ran:
        """The run that `appliance workflow ...` begins, or follows, once it has ended as `ends`."""
        done = self.daemon.cli("workflow", *asked, timeout_s=RUN_S)
        told = done.stdout + done.stderr
        begun = re.search(r"^run (?P<name>\S+\.\d+) ", done.stderr, re.MULTILINE)
        assert begun or asked[0] == "follow", f"no run of workflow {' '.join(asked)}:\n{told}"
        ran = Ran(self, self.daemon.client.get("runs", begun["name"] if begun else asked[1]), told)
        assert ran.phase == ends, ran.story()
        assert done.returncode == (0 if ends == "Succeeded" else 1)
        return ran


def exchanged(file: str, replaced: Mapping[str, str], event: Repository | None = None) -> str:
    """The text of a corpus file with other words in place of some; `event` is added as users do it by hand."""
    text = (CORPUS / file).read_text(encoding="utf-8")
    for old, new in replaced.items():
        assert old in text, f"{file} has no {old}"
        text = text.replace(old, new)
    if event:
        text += f"\ncontext:\n  event:\n    github:\n      url: {event.url}\n      ref: {event.head()}\n"
    return text


def table(rows: list[Row]) -> str:
    lines = [f"{'file':76} {'jobs':>4} {'seconds':>7} result"]
    for row in rows:
        lines.append(f"{row.file:76} {row.jobs:4} {row.seconds:7.1f} {row.result}")
        lines += [f"    replaced: {text.strip()}" for text in row.replaced]
    lines.append(f"{len(rows)} files, {sum(row.jobs for row in rows)} jobs, {sum(row.seconds for row in rows):.0f} s")
    return "\n".join(lines)


@contextmanager
def a_stage(daemon: RunningDaemon, folder: Path) -> Iterator[Stage]:
    host = bridge_address()
    served = folder / "served"
    served.mkdir()
    image = f"appliance-test-corpus-{secrets.token_hex(4)}"
    tags = [f"{image}:{target}" for target in ("plain", "demo", "expert")]
    try:
        for tag in tags:
            argv = ["docker", "build", "-q", "-t", tag, "--target", tag.rpartition(":")[2], str(IMAGE)]
            built = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
            assert built.returncode == 0, built.stderr
        with serve_git(folder / "repositories", host) as git, _files(served, host) as address:
            stage = Stage(daemon, git, served, address, image)
            with _counting(stage):
                yield stage
    finally:
        subprocess.run(["docker", "image", "rm", "-f", *tags], capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def stage(
    request: pytest.FixtureRequest, base_image: str, daemon: RunningDaemon, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """One for the tests of a module. At the end it tells what was run, whether or not the tests passed."""
    with a_stage(daemon, tmp_path_factory.mktemp("corpus")) as made:
        yield made
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + table(made.rows))


class _Handler(SimpleHTTPRequestHandler):
    """Files by GET. A POST is answered as TensorFlow Serving answers a prediction, with one row per instance;
    with 503 while there is a file `down`.
    """

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps({"predictions": [[0.25, 0.75] for _ in body["instances"]]}).encode()
        self.send_response(503 if Path(self.directory, "down").exists() else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        return


@contextmanager
def _counting(stage: Stage) -> Iterator[None]:
    """Asks the engine itself: what a daemon writes down about its containers may be wrong."""
    instance = (stage.daemon.home / "instance").read_text().strip()
    api = docker.from_env(timeout=3600)
    events = api.events(filters={"event": ["start", "tag"]}, decode=True)

    def follow() -> None:
        for event in events:
            told = event["Actor"]["Attributes"]
            if event["Action"] == "tag":
                stage.marks.add(told["name"])
            elif told.get(f"{PREFIX}instance") == instance:
                stage.starts.append((told[f"{PREFIX}name"], told[f"{PREFIX}part"]))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        events.close()
        thread.join(10)
        api.close()


@contextmanager
def _files(root: Path, host: str) -> Iterator[str]:
    with ThreadingHTTPServer((host, 0), functools.partial(_Handler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
