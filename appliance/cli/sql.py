"""`appliance sql`: a question over logs, metrics, requests and the state; or one of those that are ready."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from appliance.cli import render
from appliance.client import Client
from appliance.errors import ApplianceError, NotFound, UsageError

if TYPE_CHECKING:
    from appliance import wire

PIECE = 1 << 18


def configure_sql(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "query", nargs="?", default="", help='such as "SELECT name, count(*) FROM logs GROUP BY name"; -: from stdin'
    )
    parser.add_argument("--ready", nargs="?", const="", metavar="NAME", help="ask a ready query; without NAME: list")
    parser.add_argument("--show", action="store_true", help="with --ready NAME: print the query and do not ask it")
    parser.add_argument("--tables", nargs="?", const="", metavar="NAME", help="list the tables, or the columns of one")
    parser.add_argument("-n", "--limit", type=render.count, default=None, metavar="N", help="rows at most: 10000")
    parser.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="end it after that time")
    parser.add_argument("-o", "--output", choices=("table", "json", "csv", "parquet"), default="table")
    parser.add_argument("--to", type=Path, metavar="FILE", help="write csv or parquet there and not to stdout")
    parser.set_defaults(run=run_sql)


def run_sql(args: argparse.Namespace) -> int:
    client = render.client()
    given = [args.query != "", args.ready is not None, args.tables is not None]
    if sum(given) != 1:
        raise UsageError("one of QUERY, --ready and --tables is expected", hint="`appliance sql --ready` lists queries")
    if args.tables is not None:
        return _tables(client, args)
    if args.ready == "":
        found = client.ready_sql()
        if args.output == "json":
            render.data(found, "json")
        else:
            render.table(["name", "question"], [(one["name"], one["question"]) for one in found], empty="none")
        return 0
    query = _ready(client, args.ready) if args.ready else sys.stdin.read() if args.query == "-" else args.query
    if args.show:
        print(query)
        return 0
    more = {"limit": args.limit, "timeout_s": args.timeout}
    return _ask(client, query, args, {key: value for key, value in more.items() if value is not None})


def _ask(client: Client, query: str, args: argparse.Namespace, more: dict[str, Any]) -> int:
    if args.output in ("csv", "parquet"):
        return _pass_on(client, query, args, more)
    if args.to is not None:
        raise UsageError("--to is for csv and parquet", hint="redirect stdout, or say -o csv")
    answer = client.sql(query, **more)
    if args.output == "json":
        render.data([dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]], "json")
    else:
        rows = [["-" if cell is None else cell for cell in row] for row in answer["rows"]]
        render.table(answer["columns"], rows, empty="no rows")
    _narrate(len(answer["rows"]), answer["truncated"], "; ".join(answer["notes"]))
    return 0


def _pass_on(client: Client, query: str, args: argparse.Namespace, more: dict[str, Any]) -> int:
    """Piece by piece: an answer may be larger than the memory."""
    if args.output == "parquet" and args.to is None and sys.stdout.isatty():
        raise UsageError("a Parquet file is not for a terminal", hint="--to FILE, or redirect stdout")
    with client.sql_answer(query, format=args.output, **more) as response:
        try:
            target = args.to.open("wb") if args.to else sys.stdout.buffer
        except OSError as error:
            raise ApplianceError(f"cannot be written: {error.strerror}", where=str(args.to)) from error
        try:
            while piece := response.read(PIECE):
                target.write(piece)
        finally:
            if args.to:
                target.close()
        told = response.headers
    _narrate(
        int(told.get("X-Appliance-Rows", 0)),
        told.get("X-Appliance-Truncated") == "true",
        unquote(told.get("X-Appliance-Notes", "")),
    )
    return 0


def _narrate(rows: int, truncated: bool, notes: str) -> None:
    if truncated:
        render.say(f"only the first {rows:,} rows; --limit N gives more")
    if notes:
        render.say(render.clean(notes))


def _ready(client: Client, name: str) -> str:
    found = {one["name"]: one["sql"] for one in client.ready_sql()}
    if name not in found:
        raise NotFound(f"no ready query {name!r}", hint=f"there are {', '.join(found)}")
    return found[name]


def _tables(client: Client, args: argparse.Namespace) -> int:
    found = {table["name"]: table for table in client.sql_tables()}
    if args.tables and args.tables not in found:
        raise NotFound(f"no table {args.tables!r}", hint=f"there are {', '.join(found)}")
    if args.output == "json":
        render.data(found[args.tables] if args.tables else [*found.values()], "json")
    elif args.tables:
        rows: list[wire.SqlColumn] = found[args.tables]["columns"]
        render.table(["column", "type", "about"], [(one["name"], one["type"], one["about"]) for one in rows], empty="")
    else:
        render.table(["table", "about"], [(table["name"], table["about"]) for table in found.values()], empty="")
    return 0
