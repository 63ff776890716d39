"""`appliance workflow ...` and its relatives, typed as a user types them, against the real API."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import follow as following
from appliance.cli import render
from appliance.cli.main import main
from appliance.client import Client
from appliance.settings import load as load_settings
from appliance.state import resources
from tests.unit.cli.served_runs import ServedRuns
from tests.unit.workflows.fakes import Inside, flow, script

TREE = {"tree": {"type": "volume"}}
FLOW = flow(
    make=script(outputs=TREE),
    read=script("make", inputs={"tree": "make.outputs.tree"}, outputs={"side": {"type": "volume"}}),
    last=script("read"),
)
INPUTS = {
    "inputs": {
        "seed": {"type": "string", "with": {"value": "1"}},
        "data": {"type": "dataset", "with": {"ref": "base"}},
    },
    **flow(a=script(inputs={"seed": "workflow.inputs.seed", "data": "workflow.inputs.data"})),
}


def make(inside: Inside) -> int:
    inside.path("/outputs/tree/file").write_text("made")
    return 0


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))  # a socket's path must be short
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def served(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedRuns]:
    shutil.rmtree(home, ignore_errors=True)
    made = ServedRuns(load_settings({}, home=home))
    made.bench.engine.body = {"make": make}
    monkeypatch.setenv("APPLIANCE_HOME", str(home))
    monkeypatch.setattr(following, "POLL_S", 0.02)
    yield made
    made.stop()


class Shown:
    """A process ends after each command, and its connections with it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._folder = tmp_path
        self._clients: list[Client] = []
        make_client = render.client

        def client() -> Client:
            self._clients.append(make_client())
            return self._clients[-1]

        monkeypatch.setattr(render, "client", client)

    def file(self, document: dict[str, Any], name: str = "flow") -> str:
        path = self._folder / f"{name}.yaml"
        path.write_text(json.dumps(document))
        return str(path)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        self._capsys.readouterr()
        try:
            code = main(arguments)
        finally:
            while self._clients:
                self._clients.pop().close()
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(capsys, tmp_path, monkeypatch)


def test_a_folder_of_its_name_does_not_hide_a_workflow(
    served: ServedRuns, cli: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.run("apply", "-f", cli.file(FLOW))[0] == 0
    (tmp_path / "here" / "flow").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert cli.run("workflow", "run", "flow", "--detach")[:2] == (0, "flow.1\n")


def test_a_file_is_declared_run_and_followed_to_its_end(served: ServedRuns, cli: Shown) -> None:
    def read(inside: Inside) -> int:
        served.lines.add("flow.1", "read", "hello\x1b[2J\tyou\a")
        return 0

    served.bench.engine.body = {"make": make, "read": read}
    code, out, err = cli.run("workflow", "run", cli.file(FLOW))
    assert code == 0, err
    assert out == "read | hello\tyou\N{REPLACEMENT CHARACTER}\n"
    assert "run flow.1 (Ctrl-C leaves it running" in err
    assert [line for line in err.splitlines() if line.startswith("flow.1 last")][-1] == "flow.1 last: Succeeded"
    assert err.splitlines()[-1] == "flow.1: Succeeded"
    assert "Starting: starting" not in err
    assert "flow.1 make: Starting\n" not in err, "that it began says the next phase"
    code, out, err = cli.run("workflow", "run", "flow")
    assert code == 0
    assert "flow.2 make: Succeeded: cached: same image, command, env and inputs as flow.1/make" in err
    assert cli.run("workflow", "run", "flow", "--no-cache")[0] == 0
    assert served.call(lambda: list(served.bench.engine.starts)).count("make") == 2
    code, out, err = cli.run("workflow", "run", "flow", "--detach")
    assert (code, out) == (0, "flow.4\n")
    code, out, err = cli.run("workflow", "follow", "flow.4")
    assert (code, err.splitlines()[-1]) == (0, "flow.4: Succeeded")
    code, out, err = cli.run("workflow", "runs", "flow")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        [f"flow.{number}", "Succeeded", "manual"] for number in (4, 3, 2, 1)
    ]
    assert json.loads(cli.run("workflow", "runs", "flow", "-o", "json")[1])[0]["name"] == "flow.4"


def test_a_failure_is_told_once_with_what_can_be_done(served: ServedRuns, cli: Shown) -> None:
    served.bench.engine.body = {"make": make, "read": lambda inside: 3}
    code, out, err = cli.run("workflow", "run", cli.file(FLOW))
    assert (code, out) == (1, "")
    assert err.splitlines()[-3:] == [
        "flow.1: Failed: read: exit code 3",
        "look into it: `appliance notebook create NAME --from-job flow.1/read`",
        "go on from there, with the spec of then: `appliance workflow resume flow.1`",
    ]
    code, out, told = cli.run("workflow", "show", "flow")
    assert (code, told.splitlines()) == (0, err.splitlines()[-2:]), "the same next steps"
    assert [line.split()[:2] for line in out.splitlines()[4:]] == [
        ["make", "Succeeded"],
        ["read", "Failed"],
        ["last", "Omitted"],
    ]
    shown = json.loads(cli.run("workflow", "show", "flow.1", "-o", "json")[1])
    assert [(job["name"], job["capsule"]) for job in shown["jobs"]][1] == ("read", True)
    assert cli.run("workflow", "show", "flow.1", "-o", "yaml")[1].startswith("kind: run\n")
    served.bench.engine.body = {"make": make}
    code, _, err = cli.run("workflow", "resume", "flow.1")
    assert code == 0
    assert "flow.2 make: Succeeded: taken over from flow.1/make" in err
    assert "resume flow.1" in cli.run("workflow", "runs", "flow")[1]
    code, out, err = cli.run("workflow", "replay", "flow.2", "-d")
    assert (code, out, err) == (0, "flow.3\n", "")
    assert cli.run("workflow", "follow", "flow.3")[0] == 0
    assert cli.run("workflow", "resume", "flow.3")[0] == 4
    assert cli.run("workflow", "resume", "none.1")[0] == 3
    assert cli.run("workflow", "replay", "none")[0] == 3


def test_a_hint_stands_at_the_job_and_not_at_the_run(served: ServedRuns, cli: Shown) -> None:
    document = flow(a=script(outputs={"d": {"type": "dataset", "with": {"ref": "nowhere"}}}))
    code, _, err = cli.run("workflow", "run", cli.file(document))
    if code == 1:  # told by the job; a daemon that knows it before the run refuses the run
        assert "(next: " in next(line for line in err.splitlines() if line.startswith("flow.1 a: Error"))
        assert "(next: " not in next(line for line in err.splitlines() if line.startswith("flow.1: "))
    else:
        assert code in (2, 3, 4)
    assert "nowhere" in err


def test_what_runs_shows_its_time_and_what_is_canceled_does_not_say_so_twice(served: ServedRuns, cli: Shown) -> None:
    served.bench.engine.body = {"make": lambda inside: None}
    assert cli.run("workflow", "run", cli.file(FLOW), "-d")[1] == "flow.1\n"
    deadline = time.monotonic() + 60
    while served.call(lambda: not served.bench.engine.running()):
        assert time.monotonic() < deadline
    served.call(lambda: served.bench.db.read.execute("UPDATE runs SET started = started - 60"))
    served.call(lambda: served.bench.db.read.execute("UPDATE jobs SET started = started - 50"))
    lines = cli.run("workflow", "show", "flow.1")[1].splitlines()
    assert int(lines[1].split()[4].removesuffix("s")) >= 60
    assert int(lines[4].split()[2].removesuffix("s")) >= 50
    assert lines[5].split()[:3] == ["read", "Pending", "-"]
    code, _, err = cli.run("workflow", "cancel", "flow.1")
    assert (code, err) == (0, "run flow.1: Canceling\n")
    code, _, err = cli.run("workflow", "follow", "flow.1")
    assert (code, err.splitlines()[-1]) == (1, "flow.1: Canceled")
    assert "canceled" not in cli.run("workflow", "show", "flow.1")[1]
    assert cli.run("workflow", "cancel", "flow.1")[0] == 0, "it is what was asked for"
    served.bench.engine.body = {"make": make}
    assert cli.run("workflow", "run", "flow")[0] == 0
    assert cli.run("workflow", "cancel", "flow.2")[0] == 4


def test_inputs_are_given_by_name_or_by_file(served: ServedRuns, cli: Shown, tmp_path: Path) -> None:
    async def put() -> str:
        served.bench.datasets.create("base")
        version = await served.bench.datasets.begin("base")
        return f"base:{(await served.bench.datasets.commit(version)).version}"

    version = served.do(put())
    code, _, err = cli.run("workflow", "run", cli.file(INPUTS), "--input", "seed=a=b", "--input", f"data={version}")
    assert code == 0, err
    (job,) = json.loads(cli.run("workflow", "show", "flow.1", "-o", "json")[1])["jobs"]
    assert job["inputs"]["seed"]["value"] == "a=b"
    assert job["inputs"]["data"]["id"] == version
    (tmp_path / "in.yaml").write_text("inputs:\n  seed: {value: '7'}\n")
    (tmp_path / "plain.yaml").write_text("seed: {value: '7'}\n")
    assert cli.run("workflow", "run", "flow", "--input-path", str(tmp_path / "plain.yaml"))[0] == 0
    (job,) = json.loads(cli.run("workflow", "show", "flow.2", "-o", "json")[1])["jobs"]
    assert job["inputs"]["seed"]["value"] == "7"
    for wrong in (["--input", "seed"], ["--input", "sede=1"], ["--input-path", str(tmp_path / "none.yaml")]):
        code, _, err = cli.run("workflow", "run", "flow", *wrong)
        assert code in (2, 3), err
        assert err.startswith("appliance: ")
    assert len(json.loads(cli.run("workflow", "runs", "flow", "-o", "json")[1])) == 2
    assert cli.run("workflow", "run", "no-such-thing")[0] == 3
    for path in ("typo.yaml", "folder/typo"):
        code, _, err = cli.run("workflow", "run", path)
        assert (code, err.splitlines()[0]) == (3, f"appliance: {path}: there is no such file")


def test_a_file_with_two_workflows_or_a_mistake_runs_nothing(served: ServedRuns, cli: Shown, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("jobs: {a: {uses: script@v1, with: {image: i, scrip: x}}}\n")
    code, _, err = cli.run("workflow", "run", str(tmp_path / "bad.yaml"))
    assert code == 1
    assert "script" in err
    (tmp_path / "dataset.yaml").write_text("kind: dataset\nname: d\n")
    code, _, err = cli.run("workflow", "run", str(tmp_path / "dataset.yaml"))
    assert code == 2
    assert "declares 0 workflows" in err
    assert cli.run("get", "runs")[1] == ""


def test_a_failed_job_is_opened_as_a_notebook(served: ServedRuns, cli: Shown) -> None:
    served.bench.engine.body = {"make": make, "read": lambda inside: 3}
    cli.run("workflow", "run", cli.file(FLOW))
    code, _, err = cli.run("notebook", "create", "look", "--from-job", "flow.1/read", "--no-wait")
    assert code == 0, err
    assert "notebook look holds inputs/, outputs/ and capsule.md of flow.1/read: Failed: exit code 3" in err
    assert "the job ran on busybox (take it with --image)" in err
    for job, name, expected in (
        ("flow.1/read", "look", 4),
        ("flow.1/make", "two", 3),
        ("flow.1/none", "two", 3),
        ("flow.1", "two", 2),
        ("flow.1/", "two", 2),
    ):
        code, _, err = cli.run("notebook", "create", name, "--from-job", job, "--no-wait")
        assert code == expected, err
        assert "next: " in err
    code, _, err = cli.run("notebook", "create", "two", "--from-job", "flow.1/read", "--gpus", "1")
    assert (code, "--image only" in err) == (2, True)
    assert [item["name"] for item in json.loads(cli.run("get", "notebooks", "-o", "json")[1])] == ["look"]


def test_repositories_are_declared_listed_and_deleted(served: ServedRuns, cli: Shown, tmp_path: Path) -> None:
    (tmp_path / "repo.yaml").write_text("kind: repository\nname: code\nurl: https://git.test/a.git\n")
    assert "no repositories yet" in cli.run("get", "repositories")[2]
    assert cli.run("apply", "-f", str(tmp_path / "repo.yaml"))[0] == 0
    for kind in ("repositories", "repository"):
        lines = cli.run("get", kind)[1].splitlines()
        assert lines[0].split() == ["NAME", "PHASE", "LOOKED", "NEWEST", "PUSH", "STARTED", "DETAIL"]
        assert lines[1].split()[0] == "code"
    assert json.loads(cli.run("get", "repository", "code", "-o", "json")[1])["spec"]["url"] == "https://git.test/a.git"
    assert cli.run("delete", "repository", "code")[0] == 0
    assert cli.run("get", "repository", "code")[0] == 3


def test_the_url_of_a_repository_and_its_events_are_shown(served: ServedRuns, cli: Shown, tmp_path: Path) -> None:
    (tmp_path / "repo.yaml").write_text("kind: repository\nname: code\nurl: https://git.test/a.git\n")
    assert cli.run("apply", "-f", str(tmp_path / "repo.yaml"))[0] == 0
    assert cli.run("get", "repository", "code")[1].splitlines()[-1] == "url: https://git.test/a.git"
    for subject in ("repository/code", "repositories/code"):
        assert "repository/code" in cli.run("events", subject)[1]
    assert cli.run("events", "repo/code")[0] == 2
    counts = json.loads(cli.run("status", "-o", "json")[1])["counts"]
    assert counts == {"repositories": {"Pending": 1}}


def test_a_schedule_tells_its_next_run(served: ServedRuns, cli: Shown) -> None:
    daily = {"on": {"schedule": [{"cron": "0 3 * * *", "timezone": "UTC"}]}, **flow(make=script(outputs=TREE))}
    assert cli.run("apply", "-f", cli.file(daily, "daily"), "-f", cli.file(FLOW))[0] == 0
    header, first, second = cli.run("get", "workflows")[1].splitlines()
    assert "NEXT RUN" in header
    assert re.search(r"  in \d+[smh]", first), "in the column of its own"
    assert second.split()[-1] == "-"
    listed = {item["name"]: item["next_run"] for item in json.loads(cli.run("get", "workflows", "-o", "json")[1])}
    assert 0 < listed["daily"] - time.time() <= 86_401
    assert listed["flow"] is None
    code, _, err = cli.run("workflow", "show", "daily")
    assert (code, err.splitlines()[0]) == (3, "appliance: workflow 'daily' has no runs yet")
    assert cli.run("workflow", "run", "daily")[0] == 0
    assert "its schedule starts the next run in" in cli.run("workflow", "show", "daily")[2]
    assert "next run" not in cli.run("workflow", "show", "daily.1")[2], "that is one run"
    assert cli.run("workflow", "run", "flow")[0] == 0
    assert cli.run("workflow", "show", "flow")[2] == ""


def test_a_trigger_that_cannot_fire_is_told_beside_its_runs(served: ServedRuns, cli: Shown) -> None:
    waiting = {"on": {"dataset": "incoming"}, **flow(make=script(outputs=TREE))}
    told = "there is no dataset 'incoming' yet"
    code, _, err = cli.run("workflow", "run", cli.file(waiting, "waiting"))
    assert code == 0
    assert f"warning: {told}" in err

    def show() -> None:
        with served.bench.db.write() as db:
            row = resources.get(db, "workflow", "waiting")
            resources.set_status(db, row.uid, generation=row.generation, phase="Ready", message=told)

    served.call(show)
    assert cli.run("workflow", "show", "waiting")[2] == f"workflow waiting: {told}\n"
    assert told in cli.run("get", "workflows")[1]
    assert told not in cli.run("workflow", "show", "waiting.1")[2], "that is one run"


def test_the_commit_of_a_checkout_and_what_a_trigger_saw_are_shown(served: ServedRuns, cli: Shown) -> None:
    assert cli.run("workflow", "run", cli.file(flow(make=script(outputs=TREE))))[0] == 0
    commit = "70e9910c536045294b6d26702eeefdc0fdab77af"

    def change(text: str, *values: str) -> None:
        served.call(lambda: served.bench.db.read.execute(text, values))

    change("UPDATE jobs SET commit_id = ?", commit)
    change("UPDATE runs SET cause = 'git', source = ?", "main of code\x1b[2J")
    out = cli.run("workflow", "show", "flow")[1]
    assert out.splitlines()[-1].split()[-2:] == ["commit", commit[:12]]
    assert "started by git: main of code\N{REPLACEMENT CHARACTER}[2J" in out
    assert json.loads(cli.run("workflow", "show", "flow", "-o", "json")[1])["jobs"][0]["commit_id"] == commit
    change("UPDATE jobs SET message = ?", f"branch main at {commit} is in /outputs/repo")
    assert cli.run("workflow", "show", "flow")[1].count(commit[:12]) == 1, "the message says it"


def test_a_name_that_is_bent_is_told(served: ServedRuns, cli: Shown) -> None:
    code, out, err = cli.run("workflow", "run", cli.file(FLOW), "--name", "größer", "-d")
    assert (code, out) == (0, "groer.1\n"), err
    assert "workflow 'größer' is called 'groer' here" in err


def test_a_failure_that_a_resume_made_good_is_not_listed_any_more(served: ServedRuns, cli: Shown) -> None:
    def failed() -> list[str]:
        return [row["name"] for row in json.loads(cli.run("status", "-o", "json")[1])["failed"]]

    served.bench.engine.body = {"make": make, "read": lambda inside: 3}
    assert cli.run("workflow", "run", cli.file(FLOW))[0] == 1
    assert cli.run("workflow", "resume", "flow.1")[0] == 1
    assert sorted(failed()) == ["flow.1", "flow.2"]
    served.bench.engine.body = {"make": make}
    assert cli.run("workflow", "resume", "flow.2")[0] == 0
    assert failed() == []


def test_the_newest_runs_are_listed_and_an_unknown_workflow_is_told(served: ServedRuns, cli: Shown) -> None:
    for _ in range(3):
        assert cli.run("workflow", "run", cli.file(FLOW))[0] == 0
    code, out, err = cli.run("workflow", "runs", "flow", "-n", "2")
    assert (code, [line.split()[0] for line in out.splitlines()[1:]]) == (0, ["flow.3", "flow.2"])
    assert "the newest 2" in err
    assert cli.run("workflow", "runs", "flow")[2] == ""
    assert cli.run("workflow", "runs", "none")[0] == 3


def test_strict_is_gradients_own_dialect(cli: Shown, tmp_path: Path) -> None:
    path = cli.file(flow(a=script(retry=2)))
    assert cli.run("validate", path)[0] == 0
    code, out, _ = cli.run("validate", "--strict", path)
    assert code == 1
    assert "jobs.a.retry" in out
    assert "extension of the appliance" in out
    document = json.loads(cli.run("validate", "--strict", "--json", path)[1])[0]
    assert (document["valid"], document["extensions"]) == (False, ["jobs.a.retry"])
    assert cli.run("validate", "--strict", cli.file(flow(a=script()), "plain"))[0] == 0


@pytest.mark.parametrize("verb", ["run", "runs", "show", "follow", "cancel", "resume", "replay"])
def test_every_verb_tells_what_it_does(verb: str, cli: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["workflow", verb, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"usage: appliance workflow {verb}" in told
    if verb in ("run", "follow", "resume", "replay"):
        assert "130: Ctrl-C" in told
