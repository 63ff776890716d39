"""`appliance dataset ...`. A reference is NAME, NAME:VERSION or NAME:TAG; the name alone is the newest version."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from appliance.cli import listing, render
from appliance.errors import UsageError
from appliance.paths import encode

Run = Callable[[argparse.Namespace], int]
OUTPUTS = ("table", "json", "yaml")
MOST_LISTED = 10_000


def configure_dataset(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, run: Run, *arguments: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        for argument in arguments:
            added.add_argument(argument, metavar=argument.upper())
        added.set_defaults(run=run)
        return added

    create = verb("create", "an empty dataset; what is put and a workflow's outputs become its versions", run_create)
    create.add_argument("name")
    create.add_argument("--description", default="")
    put = verb("put", "send a file, or what is in a directory, as a version; again: goes on", run_put, "name", "path")
    put.add_argument("-m", "--message", default="")
    put.add_argument("--tag", action="append", default=[], help="may be given several times")
    put.add_argument("--base", default="", metavar="NAME:VERSION", help="begin as this version, and send what differs")
    put.add_argument("--delete", action="store_true", help="with --base: leave out what PATH does not have")
    put.add_argument("--restart", action="store_true", help="drop what an interrupted put of PATH has sent")
    get = verb("get", "fetch a version into a directory; again: goes on", run_get, "ref", "directory")
    get.add_argument("--path", default="", help="only this file or directory of the version")
    versions = verb("versions", "its committed versions with true sizes, newest first", run_versions, "name")
    ls = verb("ls", "what is in a version", run_ls, "ref")
    ls.add_argument("path", nargs="?", default="", metavar="PATH")
    lineage = verb("lineage", "where a version comes from, and what came of it", run_lineage, "ref")
    for added in (versions, ls, lineage):
        added.add_argument("-o", "--output", choices=OUTPUTS, default="table")
    verb("tag", "let TAG mean a version; a tag that exists moves", run_tag, "ref", "tag")
    verb("untag", "forget a tag", run_untag, "name", "tag")
    branch = verb("branch", "a dataset NEW that begins as this version, without a copy", run_branch, "ref", "new")
    branch.add_argument("-m", "--message", default="")
    hold = verb("hold", "keep a version from being removed", run_hold, "ref")
    hold.add_argument("-m", "--message", default="", help="why")
    verb("release", "let go of a version that is held", run_release, "ref")
    remove = verb("remove", "destroy one version; refused while something needs it", run_remove, "ref")
    remove.add_argument("--confirm", default="", metavar="NAME:VERSION", help="the same again")


def run_create(args: argparse.Namespace) -> int:
    document = {"kind": "dataset", "name": args.name}
    if args.description:
        document["description"] = args.description
    for change in render.client().apply(json.dumps(document), "dataset create"):
        render.say(f"dataset {change['name']}: {change['change']}")
    return 0


def run_put(args: argparse.Namespace) -> int:
    from appliance.cli import transfer  # deferred: only what moves files needs it

    if args.delete and not args.base:
        raise UsageError("--delete is for --base: a version without a base holds nothing but what is sent")
    done = transfer.put(
        render.client(),
        split(args.name)[0],
        Path(args.path),
        message=args.message,
        tags=args.tag,
        base=args.base,
        mirror=args.delete,
        restart=args.restart,
    )
    print(done["ref"])
    render.say(f"committed: {render.size(done['bytes'])}, sha256 {done['digest'] or 'of the base is not known'}")
    return 0


def run_get(args: argparse.Namespace) -> int:
    from appliance.cli import transfer  # deferred: only what moves files needs it

    name, version = split(args.ref)
    known = transfer.get(render.client(), name, version, Path(args.directory), path=args.path)
    checked = ", compared with its digest" if known["digest"] and not args.path else ""
    render.say(f"{known['ref']} is in {args.directory}{checked}")
    return 0


def run_versions(args: argparse.Namespace) -> int:
    items = render.client().versions(split(args.name)[0], sizes=True)
    if args.output != "table":
        render.data(items, args.output)
        return 0
    rows = [
        (
            row["ref"],
            render.clock(row["created"]),
            render.size(row["bytes"]),
            render.size(row.get("unique")),
            render.size(row.get("shared")),
            " ".join(row["tags"]),
            str(len(row["used_by"]) or ""),
            row["message"],
        )
        for row in items
    ]
    header = ("ref", "committed", "size", "unique", "shared", "tags", "uses", "message")
    render.table(header, rows, empty="no committed version yet")
    return 0


def run_ls(args: argparse.Namespace) -> int:
    name, version = split(args.ref)
    found = render.client().version_entries(name, version, encode(args.path), limit=MOST_LISTED)
    return listing.show(found, args.output)


def run_lineage(args: argparse.Namespace) -> int:
    found = render.client().lineage(*split(args.ref))
    if args.output != "table":
        render.data(found, args.output)
        return 0
    listing.lineage(found)
    return 0


def run_tag(args: argparse.Namespace) -> int:
    name, version = split(args.ref)
    render.client().tag(name, version or "latest", args.tag)
    render.say(f"{name}:{args.tag} is {name}:{version or 'latest'}")
    return 0


def run_untag(args: argparse.Namespace) -> int:
    render.client().untag(split(args.name)[0], args.tag)
    render.say(f"tag {args.tag} is gone; what it meant stays")
    return 0


def run_branch(args: argparse.Namespace) -> int:
    name, version = split(args.ref)
    print(render.client().branch(name, args.new, version=version, message=args.message)["ref"])
    return 0


def run_hold(args: argparse.Namespace) -> int:
    name, version = split(args.ref)
    render.client().hold_version(name, version or "latest", args.message)
    render.say(f"{args.ref} stays until `appliance dataset release {args.ref}`")
    return 0


def run_release(args: argparse.Namespace) -> int:
    name, version = split(args.ref)
    render.client().release_version(name, version or "latest")
    render.say(f"{args.ref} is not held any more")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    name, version = split(args.ref)
    if not version:
        raise UsageError(
            "one version is removed at a time: NAME:VERSION", hint=f"`appliance dataset versions {name}` lists them"
        )
    render.client().remove_version(name, version, confirm=args.confirm)
    render.say(f"{args.ref} is gone")
    return 0


def split(ref: str) -> tuple[str, str]:
    """Name and version. A namespace selects nothing: one machine has one."""
    name, _, version = ref.rpartition("/")[2].partition(":")
    return name, version
