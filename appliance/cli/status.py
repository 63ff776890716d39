"""`appliance status`."""

from __future__ import annotations

import argparse
import json
import sys

from appliance.cli import render

WRONG = ("Pending", "Preparing", "Failed", "Degraded")
"""Phases of which the reason says more than the address."""


def configure_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    document = render.client().status_bytes()
    if args.output == "json":
        sys.stdout.write(document.decode() + "\n")
        return 0
    status = json.loads(document)
    if args.output == "yaml":
        render.data(status, "yaml")
        return 0
    now = status["now"]
    up = render.age(status["started"], now)
    print(f"appliance {status['version']} at {status['url']}, up {up}, home {status['home']}")
    print()
    parts = [
        (part["name"], "ok" if part["ok"] else "DEGRADED", render.one_line(part["message"])) for part in status["parts"]
    ]
    render.table(("part", "state", "detail"), parts, empty="the parts are still being looked at")
    for title, key in (("Running", "active"), ("Failed in the last day", "failed")):
        rows = [
            (f"{row['kind']}/{row['name']}", row["phase"], render.age(row["since"], now), _detail(row))
            for row in status[key]
        ]
        if rows:
            print(f"\n{title}")
            render.table(("name", "phase", "since", "detail"), rows, empty="")
    for found in status["broken_specs"]:
        render.say(f"\nspec file {found['name']} is not in force:\n  {found['problem']}")
    if not status["active"] and not status["failed"]:
        print("\nNothing runs. Drop a spec into the watched folder, or try `appliance demo`.")
    return 0


def _detail(row: dict[str, str]) -> str:
    """Why it is not as it should be; of the rest, where it is reached."""
    wrong = row["message"] if row["phase"] in WRONG else ""
    return render.one_line(wrong or row["url"] or row["message"])
