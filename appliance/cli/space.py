"""`appliance space`: what holds the disk space, which snapshots hold most of it, and how long the rest lasts."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from appliance.cli import render

WAIT_S = 1.0
"""Between two looks at a count that goes on."""
MOST_OWNERS = 20
FAR_DAYS = 3650

Document = dict[str, Any]


def configure_space(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fresh", action="store_true", help="count again, though the last count is minutes old")
    parser.add_argument("--all", action="store_true", help="list everything that has volumes")
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    space = _counted(args.fresh)
    if args.output != "table":
        render.data(space, args.output)
        return 0
    for line in summary(space):
        print(line)
    print()
    most = len(space["owners"]) if args.all else MOST_OWNERS
    header = ("name", "live", "history", "unique", "on disk")
    render.table(header, [_owner(row) for row in space["owners"][:most]], empty="there is no volume yet")
    if len(space["owners"]) > most:
        print(f"and {len(space['owners']) - most} more: --all lists them")
    if space["holders"]:
        print("\nSnapshots that hold most; `back` is what comes back if these go and no others")
        columns = ("back", "of", "snapshot", "age", "why", "held")
        render.table(columns, [_holder(row) for row in space["holders"]], empty="")
    for problem in space["problems"]:
        render.say(f"not counted: {render.clean(problem)}")
    return 0


def summary(space: Document) -> list[str]:
    """How full it is and how long it lasts, a line each."""
    lines = [
        f"{render.size(place['free'])} of {render.size(place['total'])} free for {place['name']}, {place['where']}"
        + (": LOW" if place["low"] else "")
        for place in space["places"]
    ]
    if space["reserve"]:
        part = "" if space["reserved"] == space["reserve"] else f" of {render.size(space['reserve'])}"
        lines.append(f"{render.size(space['reserved'])}{part} kept back for the appliance itself")
    if space["waiting"]:
        lines.append(f"new work {space['waiting']}")
    else:
        lines.append(f"new work waits when less than {render.size(space['low_mark'])} are free")
    return [*(render.clean(line) for line in lines), forecast(space["growth"])]


def forecast(growth: Document) -> str:
    if growth["per_day"] is None:
        return f"no forecast: {growth['why']}"
    span = f"seen over {_days(growth['days'])}"
    note = f"; {growth['why']}" if growth["why"] else ""
    if growth["full_in_days"] is None:
        return f"nothing was added, {span}{note}"
    pace = f"{render.size(int(growth['per_day']))} a day, {span}"
    if growth["full_in_days"] > FAR_DAYS:
        return f"grows by {pace}: more than ten years to go{note}"
    low = f"; new work waits in {_days(growth['low_in_days'])}" if growth["low_in_days"] else ""
    return f"grows by {pace}: full in {_days(growth['full_in_days'])} where nothing is pruned{low}{note}"


def _days(days: float) -> str:
    if days < 2:
        return f"{days * 24:.0f} hours"
    return f"{days:.0f} days"


def _owner(row: Document) -> render.Row:
    sizes = (render.size(row[key]) for key in ("live", "history", "unique", "disk"))
    return (f"{row['kind']}/{row['name']}", *sizes)


def _holder(row: Document) -> render.Row:
    back = render.size(row["bytes"]) if row["exact"] else f"{render.size(row['bytes'])} or more"
    frozen = row["snapshots"]
    which = frozen[0] if len(frozen) == 1 else f"{frozen[0]} .. {frozen[-1]}"
    why = ": ".join(filter(None, (row["cause"], row["message"])))
    return (back, f"{row['kind']}/{row['name']}", which, render.age(row["created"]), why, "yes" if row["held"] else "")


def _counted(fresh: bool) -> Document:
    """The report, waited for where it is being made. How far that is goes to stderr."""
    client = render.client()
    live = sys.stderr.isatty()
    told = time.monotonic()
    space: Document = dict(client.space(fresh=fresh, wait_s=WAIT_S))
    while progress := space["measuring"]:
        text = f"counting: {progress['done']} of {progress['total']} volumes"
        if live:
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - told > 10:
            told = time.monotonic()
            render.say(text)
        space = dict(client.space(wait_s=WAIT_S))
    if live:
        print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
    return space
