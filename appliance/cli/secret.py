"""`appliance secret`."""

from __future__ import annotations

import argparse
import getpass
import sys

from appliance.cli import get, render


def configure_secret(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    put = verbs.add_parser("set", help="set a value; asked for without echo, or read from stdin")
    put.add_argument("name")
    put.set_defaults(run=run_set)
    listing = verbs.add_parser("list", help="the names; values are never shown")
    listing.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    listing.set_defaults(run=lambda args: _get("secrets", args.output))
    delete = verbs.add_parser("delete", help="forget a value")
    delete.add_argument("name")
    delete.set_defaults(run=run_delete)


def run_set(args: argparse.Namespace) -> int:
    value = getpass.getpass(f"value of {args.name}: ") if sys.stdin.isatty() else sys.stdin.read().rstrip("\n")
    render.client().put_secret(args.name, value)
    render.say(f"secret {args.name} is set; use it as secret:{args.name}")
    return 0


def run_delete(args: argparse.Namespace) -> int:
    render.client().delete("secrets", args.name)
    render.say(f"secret {args.name} is gone")
    return 0


def _get(kind: str, output: str) -> int:
    return get.run(argparse.Namespace(kind=kind, name=None, output=output))
