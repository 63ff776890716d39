"""`appliance workflow ...`: running, following and canceling."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.cli import get, render
from appliance.cli.declare import apply_file
from appliance.cli.logs import FIRST
from appliance.client import Client
from appliance.errors import UsageError

FINAL = frozenset({"Succeeded", "Failed", "Error", "Canceled"})
POLL_S = 0.3


def configure_workflow(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser("run", help="run a workflow: a spec file, or one that is declared")
    run.add_argument("workflow", metavar="FILE|NAME")
    run.add_argument("--name", help="name for a spec file; else its stem")
    run.add_argument("--input", action="append", default=[], metavar="NAME=VALUE", help="string, or dataset reference")
    run.add_argument("--input-path", help="YAML or JSON file of inputs, as Gradient's --inputPath")
    run.add_argument("-d", "--detach", action="store_true", help="print the run's name and return")
    run.set_defaults(run=run_run)
    runs = verbs.add_parser("runs", help="the runs of a workflow, newest first")
    runs.add_argument("workflow")
    runs.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    runs.set_defaults(run=run_runs)
    for verb, text, function in (
        ("show", "one run and its jobs", run_show),
        ("cancel", "stop a run", run_cancel),
        ("follow", "log lines and phases of a run until it ends", run_follow),
    ):
        added = verbs.add_parser(verb, help=text)
        added.add_argument("run_name", metavar="RUN", help="WORKFLOW.NUMBER, or WORKFLOW for its newest run")
        added.set_defaults(run=function)


def run_run(args: argparse.Namespace) -> int:
    client = render.client()
    name = args.workflow
    if Path(name).exists() or name == "-":
        changes = [change for change in apply_file(client, name, name=args.name) if change["kind"] == "workflow"]
        if len(changes) != 1:
            raise UsageError(f"the file declares {len(changes)} workflows, not one", where=name)
        name = changes[0]["name"]
    row = client.start_run(name, _inputs(client, name, args))
    if args.detach:
        print(row["name"])
        return 0
    render.say(f"run {row['name']} (Ctrl-C leaves it running; `appliance workflow cancel {row['name']}` stops it)")
    return follow(client, row["name"])


def run_runs(args: argparse.Namespace) -> int:
    rows = render.client().items("runs", workflow=args.workflow)
    if args.output != "table":
        render.data(rows, args.output)
        return 0
    header, row, empty = get.TABLES["runs"]
    render.table(header, [row(item) for item in rows], empty=empty)
    return 0


def run_show(args: argparse.Namespace) -> int:
    args.kind, args.name, args.output = "runs", args.run_name, "table"
    return get.run(args)


def run_cancel(args: argparse.Namespace) -> int:
    row = render.client().act("runs", args.run_name, "cancel")
    render.say(f"run {row['name']}: {row['phase']}")
    return 0


def run_follow(args: argparse.Namespace) -> int:
    return follow(render.client(), args.run_name)


def follow(client: Client, name: str) -> int:
    """Log lines to stdout and phases to stderr until the run has ended. 0 if it succeeded, else 1."""
    told: dict[str, str] = {}
    seq = 0
    while True:
        run = client.get("runs", name)
        name = run["name"]
        while lines := client.logs(kind="run", name=name, after=seq or FIRST, limit=1000):
            for line in lines:
                print(f"{line['part']} | {render.clean(line['line'])}")
            seq = lines[-1]["seq"]
        sys.stdout.flush()
        for job in run["jobs"]:
            now = f"{job['phase']}" + (f": {job['message']}" if job["message"] else "")
            if told.get(job["name"], "Pending") != now:
                render.say(f"{name} {job['name']}: {now}")
                told[job["name"]] = now
        if run["phase"] in FINAL:
            render.say(f"{name}: {run['phase']}" + (f": {run['message']}" if run["message"] else ""))
            return 0 if run["phase"] == "Succeeded" else 1
        time.sleep(POLL_S)


def _inputs(client: Client, workflow: str, args: argparse.Namespace) -> Mapping[str, Any]:
    """Values of both options; a name that the workflow declares as a dataset is taken as a reference."""
    inputs: dict[str, Any] = {}
    if args.input_path:
        from appliance.spec.dump import read_mapping  # deferred: most runs have no such file

        inputs.update(read_mapping(Path(args.input_path)))
    if args.input:
        declared = client.get("workflows", workflow)["spec"].get("inputs") or {}
        for text in args.input:
            name, equals, value = text.partition("=")
            if not equals:
                raise UsageError(f"--input takes NAME=VALUE, not {text!r}")
            dataset = declared.get(name, {}).get("type") == "dataset"
            inputs[name] = {"ref": value} if dataset else {"value": value}
    return inputs
