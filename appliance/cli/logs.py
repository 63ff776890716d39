"""`appliance logs` and `events`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from appliance import foreign
from appliance.cli import get, render
from appliance.cli.since import since
from appliance.client import Client
from appliance.errors import ApplianceError, UsageError

if TYPE_CHECKING:
    from appliance import wire

KINDS = ("notebook", "run", "deployment", "workflow", "dataset", "repository", "spec", "secret", "model")
LOGGED = {"notebook": "notebooks", "run": "runs", "deployment": "deployments"}
"""Kinds whose lines are kept, and what the API calls them."""
CHUNK = 5000
FIRST = 1
"""A cursor before every line: without one, a query answers with the newest lines."""


def configure_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subject", metavar="KIND/NAME[/PART]", help="notebook/NAME[/run-N], run/WORKFLOW.N[/JOB], deployment/NAME"
    )
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-n", "--tail", type=render.positive, default=0, metavar="N", help="only the newest N lines")
    parser.add_argument("--since", default="", metavar="TIME", help="10m, 2h, 1d, or unix seconds")
    parser.add_argument("--grep", default="", metavar="TEXT", help="only lines that hold the text")
    parser.add_argument("-t", "--timestamps", action="store_true")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.set_defaults(run=run_logs)


def configure_events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", nargs="?", default="", metavar="KIND[/NAME]")
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    parser.set_defaults(run=run_events)


def run_logs(args: argparse.Namespace) -> int:
    client = render.client()
    subject = _logged(client, args.subject)
    query = {**subject, "since": since(args.since), "contains": args.grep}
    seq = 0
    if args.tail:
        lines = client.logs(**query, limit=args.tail)
        seq = _show(lines, args) or seq
    else:
        while lines := client.logs(**query, after=seq or FIRST, limit=CHUNK):
            seq = _show(lines, args)
    if not seq and "name" in subject:
        client.get(LOGGED[subject["kind"]], subject["name"])  # of what is gone lines may be left; of a typo none are
    if args.follow:
        for line in client.follow_logs(**query, after=seq or FIRST):
            _show([line], args)
            sys.stdout.flush()
    return 0


def run_events(args: argparse.Namespace) -> int:
    client = render.client()
    subject = _subject(args.subject) if args.subject else {}
    items = client.items("events", **subject)
    if args.output != "table" and not args.follow:
        render.data(items, args.output)
        return 0
    header, row, empty = get.TABLES["events"]
    render.table(header, [row(item) for item in items], empty=empty)
    if args.follow:
        for event in client.follow_events(items[-1]["id"] if items else 0):
            if all(event[key] == value for key, value in subject.items()):  # type: ignore[literal-required]
                print("  ".join(render.clean(str(cell)) for cell in row(dict(event))), flush=True)
    return 0


def _logged(client: Client, text: str) -> dict[str, str]:
    """Raises UsageError for a kind without lines, with the subject that a mere name may stand for."""
    kind = text.partition("/")[0]
    try:
        found = _subject(text)
    except UsageError:
        found = {"kind": ""}
    if found["kind"] in LOGGED:
        return found
    meant = [f"{one}/{text}" for one, kinds in LOGGED.items() if "/" not in text and _is_there(client, kinds, text)]
    meant = meant or _near(client, text)
    hint = f"did you mean {' or '.join(meant)}?" if meant else f"KIND/NAME with a kind of {', '.join(LOGGED)}"
    raise UsageError(f"no lines are kept of a kind {kind!r}", where=text, hint=hint)


def _is_there(client: Client, kinds: str, name: str) -> bool:
    """As far as is known."""
    try:
        client.get(kinds, name)
    except ApplianceError:
        return False
    return True


def _near(client: Client, text: str) -> list[str]:
    """Subjects whose name is nearly that one, as far as is known."""
    import difflib  # deferred: only a typing mistake needs it

    try:
        found = {one: [row["name"] for row in client.items(kinds)] for one, kinds in LOGGED.items()}
    except ApplianceError:
        return []
    near = difflib.get_close_matches(text, {name for names in found.values() for name in names}, n=1)
    return [f"{one}/{name}" for one, names in found.items() for name in near if name in names]


def _subject(text: str) -> dict[str, str]:
    kind, _, rest = text.partition("/")
    name, _, part = rest.partition("/")
    for singular in (kind, kind.removesuffix("s"), f"{kind.removesuffix('ies')}y"):
        if singular in KINDS:
            break
    else:
        raise UsageError(f"no kind {kind!r} in {text!r}", hint=f"KIND/NAME with a kind of {', '.join(KINDS)}")
    found = {"kind": singular}
    if name:
        found["name"] = name
    if part:
        found["part"] = part
    return found


def _show(lines: list[wire.LogLine], args: argparse.Namespace) -> int:
    """The seq of the last line."""
    for line in lines:
        if args.output == "json":
            print(json.dumps(line, ensure_ascii=False))
            continue
        when = f"{render.clock(line['at'])} " if args.timestamps else ""
        part = f"{line['part']} | " if line["part"] and "/" not in args.subject.partition("/")[2] else ""
        print(f"{when}{part}{foreign.line(line['line'])}")
    return lines[-1]["seq"] if lines else 0
