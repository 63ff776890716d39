"""`appliance workflow ...`: run a workflow; show, follow, cancel, resume and replay its runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli import get, render
from appliance.cli.declare import SUFFIXES, apply_file
from appliance.cli.follow import follow
from appliance.client import Client
from appliance.errors import NotFound, UsageError

if TYPE_CHECKING:
    from appliance import wire

EXIT_CODES = "Exit code 0: the run succeeded; 1: it did not; 130: Ctrl-C, which leaves it running."
MORE = {
    "resume": "Jobs that succeeded are taken over with their outputs; the others run, with the spec of then, and one "
    "that had begun with the inputs it had. Possible for `keep_capsules_days` after a failure; after a cancel, where "
    "no volume is missing.",
    "replay": "Every dataset input is the version that was read then, every checkout the commit that was taken then, "
    "every image the one that ran then by its content; the cache is left out. Refused, in words, where one of them is "
    "gone.",
}
NEWEST = 100
MOST_ROWS = 1000
"""What the API gives at most."""
RUN = "WORKFLOW.NUMBER, or WORKFLOW for its newest run"


def configure_workflow(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    text = "run a workflow: a spec file, which is declared by it, or one that is declared already"
    run = verbs.add_parser("run", help=text, description=f"{text}; follow it to its end", epilog=EXIT_CODES)
    run.add_argument("workflow", metavar="FILE|NAME", help="`-`: the file is read from stdin")
    run.add_argument("--name", help="the workflow's name, for a spec file that has none; else the file's stem")
    run.add_argument(
        "--input", action="append", default=[], metavar="NAME=VALUE",
        help="an input that the workflow declares: a text, or NAME[:VERSION] of a dataset; may be repeated",
    )  # fmt: skip
    run.add_argument("--input-path", metavar="FILE", help="YAML or JSON file of inputs, as Gradient's --inputPath")
    run.add_argument(
        "--no-cache", action="store_true", help="run every job, also one whose outputs an equal job has made before"
    )
    run.add_argument("-d", "--detach", action="store_true", help="print the run's name and return")
    run.set_defaults(run=run_run)
    text = "the runs of a workflow, newest first"
    runs = verbs.add_parser("runs", help=text, description=text)
    runs.add_argument("workflow", metavar="WORKFLOW")
    runs.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    runs.add_argument(
        "-n", "--limit", type=render.positive, default=NEWEST, metavar="N", help=f"at most so many; else {NEWEST}"
    )
    runs.set_defaults(run=run_runs)
    for verb, text, function in (
        ("show", "one run and its jobs: phase, time, and why", run_show),
        ("follow", "log lines (stdout) and phases (stderr) of a run until it ends", run_follow),
        ("cancel", "stop a run: what runs is stopped, what waits never starts", run_cancel),
        ("resume", "a new run that goes on where this one failed or was canceled", run_resume),
        ("replay", "a new run of all jobs on the exact inputs and images of this one", run_replay),
    ):
        more = f"{text}. {MORE[verb]}" if verb in MORE else text
        epilog = EXIT_CODES if verb in ("follow", "resume", "replay") else None
        added = verbs.add_parser(verb, help=text, description=more, epilog=epilog)
        added.add_argument("run_name", metavar="RUN", help=RUN)
        added.set_defaults(run=function)
        if verb == "show":
            added.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
        elif verb in ("resume", "replay"):
            added.add_argument("-d", "--detach", action="store_true", help="print the new run's name and return")


def run_run(args: argparse.Namespace) -> int:
    client = render.client()
    name = args.workflow
    if name == "-" or Path(name).is_file() or Path(name).is_fifo():  # a folder may have the name of a workflow
        changes = [change for change in apply_file(client, name, name=args.name) if change["kind"] == "workflow"]
        if len(changes) != 1:
            raise UsageError(f"the file declares {len(changes)} workflows, not one", where=name)
        for warning in changes[0]["warnings"]:
            render.say(f"warning: {warning}")
        name = changes[0]["name"]
        if args.name and args.name != name:
            render.say(f"workflow {args.name!r} is called {name!r} here, because it becomes a path")
    elif "/" in name or name.endswith(SUFFIXES):
        raise NotFound("there is no such file", where=name, hint="a workflow that is declared has no `/` and no suffix")
    return _begun(client, client.start_run(name, _inputs(client, name, args), cache=not args.no_cache), args)


def _begun(client: Client, row: wire.Run, args: argparse.Namespace) -> int:
    if args.detach:
        print(row["name"])
        return 0
    render.say(f"run {row['name']} (Ctrl-C leaves it running; `appliance workflow cancel {row['name']}` stops it)")
    return follow(client, row["name"])


def run_runs(args: argparse.Namespace) -> int:
    client = render.client()
    rows = client.items("runs", workflow=args.workflow, limit=args.limit)
    if not rows:
        client.get("workflows", args.workflow)  # or there is none of that name
    if args.output != "table":
        render.data(rows, args.output)
        return 0
    header, row, _ = get.TABLES["runs"]
    empty = f"no runs of {args.workflow}: `appliance workflow run {args.workflow}`"
    render.table(header, [row(item) for item in rows], empty=empty)
    if len(rows) in (args.limit, MOST_ROWS):
        render.say(f"these are the newest {len(rows)}; -n N shows up to {MOST_ROWS}")
    return 0


def run_show(args: argparse.Namespace) -> int:
    args.kind, args.name = "runs", args.run_name
    code = get.run(args)
    if args.output == "table":
        _say_next(render.client(), args.run_name)
    return code


def _say_next(client: Client, name: str) -> None:
    """Of a workflow that starts by itself; `name` may be a run's too, which says nothing of what comes next."""
    with suppress(NotFound):
        workflow = client.get("workflows", name)
        if why := workflow["message"]:
            render.say(f"workflow {name}: {render.clean(why)}")
        if at := workflow.get("next_run"):
            render.say(f"its schedule starts the next run {render.ahead(at)}, at {render.clock(at)}")


def run_resume(args: argparse.Namespace) -> int:
    client = render.client()
    return _begun(client, client.act("runs", args.run_name, "resume"), args)


def run_replay(args: argparse.Namespace) -> int:
    client = render.client()
    return _begun(client, client.act("runs", args.run_name, "replay"), args)


def run_cancel(args: argparse.Namespace) -> int:
    row = render.client().act("runs", args.run_name, "cancel")
    render.say(f"run {row['name']}: {row['phase']}")
    return 0


def run_follow(args: argparse.Namespace) -> int:
    return follow(render.client(), args.run_name)


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
