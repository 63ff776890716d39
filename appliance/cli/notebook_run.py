"""`appliance notebook run, runs, run-logs, run-cancel`: a notebook's file executed with nobody watching."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance import foreign
from appliance.cli import render
from appliance.cli.follow import LINES, PATIENCE_S, POLL_S
from appliance.cli.history import Verb
from appliance.cli.logs import FIRST
from appliance.cli.notebook_life import pair
from appliance.client import Client
from appliance.errors import TelemetryError, Unavailable, UsageError

if TYPE_CHECKING:
    from appliance import wire

FINAL = frozenset({"Succeeded", "Failed", "Canceled"})
NEWEST = 50
PROGRESS_EVERY_S = 3.0
"""Between two words about an image that is fetched."""
EXIT_CODES = "Exit code 0: every cell ran; 130: canceled by Ctrl-C; else that of the run, mostly 1."


def configure(verb: Verb) -> None:
    run = verb("run", "execute one of its notebook files from the first cell to the last, and keep a copy", run_run)
    run.description = (
        "Executes a file of the notebook on the notebook's image and files, beside a session or without one. The file"
        " stays as it is; the executed copy is written as it goes on. Ctrl-C cancels, and the copy has what ran."
    )
    run.epilog = EXIT_CODES
    run.add_argument("file", help="such as train.ipynb")
    run.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE",
        help="written into a cell after the one tagged `parameters`: JSON where it is (3, true, [1, 2], \"3\"), else a "
        "text; @FILE: the JSON of a file here; may be repeated",
    )  # fmt: skip
    run.add_argument("--kernel", default="", help="of the image; default: the one that the file names")
    run.add_argument("--out", default="", metavar="FILE", help="the executed copy; default: beside it, with the time")
    run.add_argument("--no-gpu", action="store_true", help="without the notebook's GPUs: it waits for none")
    run.add_argument("-d", "--detach", action="store_true", help="print the run's number and return")
    runs = verb("runs", "its runs, newest first", run_runs)
    runs.add_argument(
        "-n", type=render.positive, default=NEWEST, metavar="COUNT", help=f"at most so many; else {NEWEST}"
    )
    runs.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    logs = verb("run-logs", "what a run has printed", run_logs)
    logs.add_argument("-f", "--follow", action="store_true", help="until it is over; the exit code is the run's")
    cancel = verb("run-cancel", "end a run; its copy keeps what has run", run_cancel)
    for added in (logs, cancel):
        added.add_argument("number", nargs="?", type=render.positive, help="from `runs`; default: the newest")


def run_run(args: argparse.Namespace) -> int:
    client = render.client()
    parameters = parameters_of(args.parameter)
    row = client.execute_file(
        args.name, args.file, parameters, kernel=args.kernel, output=args.out, gpu=not args.no_gpu
    )
    if args.detach:
        print(row["number"])
        return 0
    render.say(f"run {row['number']} of {args.name} (Ctrl-C cancels it); its copy: {render.clean(row['output'])}")
    follower = Follower(client, row)
    try:
        row = follower.to_end()
    except KeyboardInterrupt:
        render.say("\nit is asked to end and saves what it has (Ctrl-C again: it ends without you)")
        client.cancel_execution(args.name, row["number"])
        row = follower.to_end()
        say_end(row)
        return 130 if row["phase"] == "Canceled" else code_of(row)
    say_end(row)
    return code_of(row)


def run_runs(args: argparse.Namespace) -> int:
    rows = render.client().executions(args.name, limit=args.n)
    if args.output != "table":
        render.data(rows, args.output)
        return 0
    cells = [
        (
            str(row["number"]),
            row["phase"],
            render.age(row["created"]),
            render.took(row),
            row["file"],
            row["output"],
            render.detail(row["phase"], row["message"]),
        )
        for row in rows
    ]
    empty = f"nothing was run: `appliance notebook run {args.name} FILE.ipynb`"
    render.table(("run", "phase", "age", "took", "file", "copy", "detail"), cells, empty=empty)
    return 0


def run_logs(args: argparse.Namespace) -> int:
    client = render.client()
    follower = Follower(client, client.execution(args.name, args.number))
    if not args.follow:
        follower.print_lines()
        return 0
    row = follower.to_end()
    say_end(row)
    return code_of(row)


def run_cancel(args: argparse.Namespace) -> int:
    row = render.client().cancel_execution(args.name, args.number)
    state = f"is over already: {row['phase']}" if row["phase"] in FINAL else "is asked to end and saves what it has"
    render.say(f"run {row['number']} of {args.name} {state}")
    return 0


class Follower:
    """What has been told of one run."""

    def __init__(self, client: Client, row: wire.Execution) -> None:
        self._client = client
        self._row = row
        self._seq = FIRST
        self._told = ""
        self._told_at = float("-inf")

    def to_end(self) -> wire.Execution:
        """The run, once it is over and all its lines are printed. A daemon that restarts is waited for a while."""
        down_since: float | None = None
        while True:
            try:
                self._look()
                down_since = None
            except (Unavailable, TelemetryError):
                now = time.monotonic()
                if down_since is not None and now - down_since > PATIENCE_S:
                    raise
                if down_since is None:
                    down_since = now
                    render.say(f"the daemon does not answer; it is asked again for {PATIENCE_S:.0f} s")
            else:
                if self._row["phase"] in FINAL:
                    return self._row
            time.sleep(POLL_S)

    def print_lines(self) -> None:
        """Of this run only, also where another notebook of this name had one of this number."""
        row = self._row
        query = {"kind": "notebook", "name": row["logged"], "part": row["part"], "since": row["created"]}
        while lines := self._client.logs(**query, after=self._seq, limit=LINES):
            for line in lines:
                print(foreign.line(line["line"]), flush=True)
            self._seq = lines[-1]["seq"]

    def _look(self) -> None:
        """The run is read before its lines, so that none is missing of one that is over."""
        self._row = self._client.execution(self._row["notebook"], self._row["number"])
        self.print_lines()
        words, now = render.phase(self._row), time.monotonic()
        new = words != self._told and now - self._told_at >= PROGRESS_EVERY_S
        if self._row["phase"] == "Preparing" and self._row["message"] and new:
            self._told, self._told_at = words, now
            render.say(words)


def say_end(row: wire.Execution) -> None:
    render.say(f"run {row['number']} of {row['notebook']}: {render.phase(row)}")


def code_of(row: wire.Execution) -> int:
    return 0 if row["phase"] == "Succeeded" else row["exit_code"] or 1


def parameters_of(given: Sequence[str]) -> dict[str, Any]:
    """Raises UsageError."""
    found: dict[str, Any] = {}
    for text in given:
        name, value = pair(text, "-p")
        found[name] = _from_file(value[1:]) if value.startswith("@") else _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return _json(text)
    except (ValueError, RecursionError):
        return text


def _from_file(path: str) -> Any:
    try:
        return _json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}") from None


def _json(text: str) -> Any:
    """As the API takes it, which knows no NaN and no infinity."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)
