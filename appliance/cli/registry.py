"""`appliance registry`: the logins that images are pulled with."""

from __future__ import annotations

import argparse
import getpass
import sys

from appliance.cli import get, render


def configure_registry(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser(
        "add", help="a login at a registry; the password is asked for without echo, or read from stdin"
    )
    add.add_argument("name", help="what a spec calls it: `containerRegistry: NAME`")
    add.add_argument("--url", required=True, help="such as https://ghcr.io or https://index.docker.io/v1/")
    add.add_argument("--username", required=True)
    add.add_argument("--password-stdin", action="store_true", help="read the password from stdin, also at a terminal")
    add.set_defaults(run=run_add)
    listing = verbs.add_parser("list", help="names, addresses and user names; passwords are never shown")
    listing.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    listing.set_defaults(run=lambda args: get.run(argparse.Namespace(kind="registries", name=None, output=args.output)))
    delete = verbs.add_parser("delete", help="forget a login; images that are here stay")
    delete.add_argument("name")
    delete.set_defaults(run=run_delete)


def run_add(args: argparse.Namespace) -> int:
    asked = sys.stdin.isatty() and not args.password_stdin
    password = getpass.getpass(f"password of {args.username}: ") if asked else sys.stdin.read().rstrip("\n")
    render.client().put_registry(args.name, url=args.url, username=args.username, password=password)
    where = f"`containerRegistry: {args.name}` or `container-registries: [{args.name}]`"
    render.say(f"registry {args.name} is set; use it as {where}")
    return 0


def run_delete(args: argparse.Namespace) -> int:
    render.client().delete("registries", args.name)
    render.say(f"registry {args.name} is gone")
    return 0
