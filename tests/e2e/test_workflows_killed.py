"""Kill -9 in the middle of every kind of job, and what happened while nobody looked: nothing twice, nothing lost."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ApplianceError
from tests.support.daemon import RunningDaemon, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

KINDS = """
jobs:
  again:                          # killed in the pause between its attempts
    uses: script@v1
    retry: {limit: 1, delay: 4s}
    with:
      image: appliance/base
      script: |
        echo again >> /storage/kinds-starts
        [ "$(grep -c again /storage/kinds-starts)" = 2 ]
  book:                           # in the middle of a cell
    uses: notebook@v1
    inputs: {books: {type: dataset, with: {ref: books}}}
    outputs: {executed: {type: volume}}
    with: {notebook: /inputs/books/long.ipynb, parameters: {steps: 16}}
  serve:                          # while it waits for its replica
    uses: deploy@v1
    inputs: {model: {type: dataset, with: {ref: books}}}
    with:
      name: kinds
      timeout: 5m
      spec:
        image: appliance/base
        port: 8000
        command: [bash, -c, "sleep 6; exec python3 -m http.server 8000"]
        resources: {instanceType: C5}
  made:                           # while its version is committed, or thereabouts
    uses: script@v1
    outputs: {rows: {type: dataset, with: {ref: rows}}}
    with:
      image: appliance/base
      script: |
        echo made >> /storage/kinds-starts
        for n in $(seq 1500); do echo $n > /outputs/rows/$n; done
  after:
    needs: [again, book, serve, made]
    uses: script@v1
    inputs: {executed: book.outputs.executed, rows: made.outputs.rows}
    with:
      image: appliance/base
      script: |
        echo after >> /storage/kinds-starts
        ls /inputs/rows | wc -l
        grep -c 'step 15' /inputs/executed/long.ipynb
        sort /storage/kinds-starts
"""
CELLS = [
    (["parameters"], "steps = 1"),
    (
        [],
        "import pathlib, time\n"
        "with pathlib.Path('/storage/kinds-starts').open('a') as file:\n"
        "    file.write('book\\n')\n"
        "for step in range(steps):\n"
        "    print('step', step, flush=True)\n"
        "    time.sleep(0.5)",
    ),
]
WAITING = """
concurrency: queue
jobs:
  one:
    uses: script@v1
    with: {image: appliance/base, script: "sleep 2"}
"""
QUICK = "jobs: {one: {uses: script@v1, with: {image: appliance/base, script: 'true'}}}\n"


@pytest.fixture(scope="module", autouse=True)
def images(notebook_image: str) -> None:
    """What the jobs run on is built."""


def job(daemon: RunningDaemon, run: str, name: str) -> Any:
    (found,) = [one for one in daemon.client.get("runs", run)["jobs"] if one["name"] == name]
    return found


def runs(daemon: RunningDaemon, workflow: str) -> list[Any]:
    """Oldest first; nothing while no daemon answers."""
    try:
        return list(reversed(daemon.client.items("runs", workflow=workflow, limit=1000)))
    except ApplianceError:
        return []


def test_a_kill_in_the_middle_of_each_kind_of_job_repeats_and_loses_nothing(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "long.ipynb").write_text(notebook())
    for name in ("books", "rows"):
        assert daemon.cli("dataset", "create", name).returncode == 0
    added = daemon.cli("dataset", "put", "books", str(tmp_path / "books"))
    assert added.returncode == 0, added.stderr
    daemon.client.apply(KINDS, "kinds.yaml")
    run = daemon.client.start_run("kinds")["name"]

    def seen(what: str) -> bool:
        return any(what in line["line"] for line in daemon.client.logs(kind="run", name=run, part="book", limit=1000))

    def begun(name: str) -> bool:
        return job(daemon, run, name)["started"] is not None

    def pausing() -> bool:
        now = job(daemon, run, "again")
        return now["attempt"] > 1 or "attempt 1 of 2" in now["message"]

    moments: dict[str, Callable[[], bool]] = {  # each stays true once it was
        "`made` and `serve` have begun": lambda: begun("made") and begun("serve"),
        "the pause of `again`": pausing,
        "the cell runs": lambda: seen("step 2"),
    }
    for what, moment in moments.items():
        eventually(moment, within_s=90, what=what)
        daemon.kill()
        daemon.start()
    ended = daemon.run_to_end(run, within_s=180)
    assert ended["phase"] == "Succeeded", ended["message"]
    told = [line["line"].strip() for line in daemon.client.logs(kind="run", name=run, part="after")]
    assert told[0] == "1500"
    assert int(told[1]) >= 1
    assert Counter(told[2:]) == {"again": 2, "book": 1, "made": 1, "after": 1}
    assert len(daemon.client.versions("rows")) == 1
    served = daemon.client.get("deployments", "kinds")
    assert (served["phase"], served["generation"]) == ("Ready", 1)
    steps = [line["line"] for line in daemon.client.logs(kind="run", name=run, part="book", limit=1000)]
    assert [line for line in steps if line.startswith("step ")] == [f"step {number}" for number in range(16)]


def test_what_happens_while_no_daemon_runs_starts_one_run_each(daemon: RunningDaemon, tmp_path: Path) -> None:
    specs, inbox, source = daemon.home / "specs", tmp_path / "inbox", tmp_path / "source"
    inbox.mkdir()
    commit(source, "first", begin=True)
    put(specs / "changed.yaml", "on: {spec: true}\n" + QUICK)
    daemon.client.apply(f"on: {{folder: {inbox}}}\n" + QUICK, "filled.yaml")
    daemon.client.apply(f"kind: repository\nname: source\nurl: {source}\ninterval: 5\n", "source.yaml")
    daemon.client.apply(WAITING, "waiting.yaml")
    eventually(lambda: len(runs(daemon, "changed")) == 1, within_s=60, what="the run of the new file")
    eventually(lambda: repository(daemon).get("looked"), within_s=60, what="the first look at the repository")
    eventually(lambda: looked_into(daemon, "filled"), within_s=60, what="the first look at the folder")
    put(inbox / "first", "x")
    eventually(lambda: len(runs(daemon, "filled")) == 1, within_s=60, what="a run of the folder")
    for name in ("changed.1", "filled.1"):
        daemon.run_to_end(name)
    queued = [daemon.client.start_run("waiting")["name"] for _ in range(3)]

    daemon.kill()
    put(inbox / "second", "x")
    put(specs / "changed.yaml", "on: {spec: true}\n" + QUICK.replace("script: 'true'", "script: 'date'"))
    pushed = commit(source, "second")
    eventually(lambda: not daemon.running_containers(queued[0]), within_s=60, what="the first one ends meanwhile")
    daemon.start()

    begun = {"changed": 2, "filled": 2, "source.w": 1}
    for workflow, count in begun.items():
        eventually(lambda w=workflow, n=count: len(runs(daemon, w)) >= n, within_s=60, what=f"a run of {workflow}")  # type: ignore[misc]
    ended = [daemon.run_to_end(name) for name in queued]
    assert [run["phase"] for run in ended] == ["Succeeded"] * 3
    assert all(later["started"] >= earlier["finished"] for earlier, later in pairwise(ended))
    looked = repository(daemon)["looked"]
    eventually(lambda: repository(daemon)["looked"] > looked, within_s=60, what="one more look")
    assert {workflow: len(runs(daemon, workflow)) for workflow in begun} == begun, "one each, and no more"
    assert pushed[:12] in runs(daemon, "source.w")[0]["source"]


def put(path: Path, text: str) -> None:
    """Whole, for whoever looks at any moment."""
    beside = path.parent.parent / f"{path.name}.part"
    beside.write_text(text)
    beside.rename(path)


def repository(daemon: RunningDaemon) -> Any:
    return daemon.client.get("repositories", "source")["status"]


def looked_into(daemon: RunningDaemon, workflow: str) -> bool:
    """Whether its trigger has a mark from which on changes count."""
    with contextlib.closing(sqlite3.connect(daemon.home / "state.db", timeout=10)) as db:
        marks = "SELECT 1 FROM trigger_marks JOIN resources ON uid = subject WHERE name = ?"
        return db.execute(marks, (workflow,)).fetchone() is not None


def notebook() -> str:
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"cell{number}",
            "metadata": {"tags": tags},
            "source": text,
            "outputs": [],
            "execution_count": None,
        }
        for number, (tags, text) in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells})


def commit(folder: Path, text: str, *, begin: bool = False) -> str:
    """The hash of a new commit on `main` in a plain repository at a path, with a workflow for its pushes."""

    def git(*argv: str) -> str:
        who = ("-c", "user.name=A Test", "-c", "user.email=test@example.com")
        return subprocess.run(
            ["git", *who, *argv], cwd=folder, check=True, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    if begin:
        (folder / ".gradient" / "workflows").mkdir(parents=True)
        on = "on: {github: {branches: {only: main}}}\n"
        (folder / ".gradient" / "workflows" / "w.yaml").write_text(on + QUICK)
        git("init", "-q", "-b", "main", ".")
    (folder / "text").write_text(text)
    git("add", "--all")
    git("commit", "-q", "-m", text)
    return git("rev-parse", "HEAD")
