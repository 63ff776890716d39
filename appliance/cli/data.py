"""`appliance dataset`, `model` and `secret`."""

from __future__ import annotations

import argparse
import getpass
import json
import sys

from appliance.cli import get, render


def configure_dataset(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = verbs.add_parser("create", help="an empty dataset; a workflow's outputs become its versions")
    create.add_argument("name")
    create.add_argument("--description", default="")
    create.set_defaults(run=run_create)
    versions = verbs.add_parser("versions", help="its committed versions, newest first")
    versions.add_argument("name")
    versions.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    versions.set_defaults(run=run_versions)


def configure_model(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="all models, newest first")
    listing.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    listing.set_defaults(run=lambda args: _get("models", args.output))


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


def run_create(args: argparse.Namespace) -> int:
    document = {"kind": "dataset", "name": args.name}
    if args.description:
        document["description"] = args.description
    for change in render.client().apply(json.dumps(document), "dataset create"):
        render.say(f"dataset {change['name']}: {change['change']}")
    return 0


def run_versions(args: argparse.Namespace) -> int:
    items = render.client().versions(args.name)
    if args.output != "table":
        render.data(items, args.output)
        return 0
    rows = [
        (
            row["ref"],
            render.clock(row["created"]),
            render.size(row["bytes"]),
            " ".join(row["tags"]),
            row["message"],
        )
        for row in items
    ]
    empty = "no committed version yet"
    render.table(("ref", "committed", "size", "tags", "message"), rows, empty=empty)
    return 0


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
