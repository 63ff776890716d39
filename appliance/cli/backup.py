"""`appliance backup`, `backups` and `restore-backup`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli import render
from appliance.cli.progress import Progress
from appliance.client import Client
from appliance.errors import ApplianceError, UsageError
from appliance.location import default_home

if TYPE_CHECKING:
    from appliance.backup.point import Point

ZFS = "zfs:"
TARGET = "a directory, best on another disk or machine; or zfs:POOL/DATASET where the volumes are on ZFS"


def configure_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help=TARGET)
    parser.add_argument("--verify", action="store_true", help="read every byte of the backup there and check it")
    parser.add_argument(
        "--keep", type=render.positive, default=0, metavar="N", help="remove all points but the newest N afterwards"
    )
    parser.add_argument("--no-wait", action="store_true", help="print its id and leave it to the daemon")
    parser.set_defaults(run=run_backup)


def configure_backups(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    parser.add_argument("--cancel", default="", metavar="ID", help="end the backup that runs")
    parser.add_argument(
        "--forget", default="", metavar="TARGET", help="let go of what is kept here for the next backup to it"
    )
    parser.add_argument("--confirm", default="", metavar="TARGET", help="of --forget: the same again")
    parser.set_defaults(run=run_backups)


def configure_restore_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="what `appliance backup` was given")
    parser.add_argument("--point", default="", metavar="ID", help="which one; default: the newest")
    parser.add_argument("--list", action="store_true", help="list the points and restore nothing")
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table", help="of --list")
    parser.set_defaults(run=run_restore)


def run_backup(args: argparse.Namespace) -> int:
    client = render.client()
    target = _absolute(args.target)
    begun = client.start_backup(target, verify=args.verify, keep=args.keep)
    if args.no_wait:
        print(begun["id"])
        return 0
    try:
        ended = _follow(client, begun["id"], f"{'check' if args.verify else 'backup'} of {target}")
    except KeyboardInterrupt:
        render.say("\ncancelling ...")
        client.delete("backups", begun["id"])
        if client.get("backups", begun["id"])["phase"] == "Succeeded":
            render.say(f"it was too late for that: point {begun['id']} is made")
        else:
            render.say("cancelled: no point was made; what was written is used by the next backup")
        raise
    if ended["phase"] != "Succeeded":
        raise ApplianceError(ended["message"], where=f"backup {ended['id']}", hint="`appliance backups` lists them all")
    if not args.verify:
        print(ended["id"])
        if not target.startswith(ZFS):
            render.say("the key of the secrets is in it: keep it where only you can read it")
    return 0


def run_backups(args: argparse.Namespace) -> int:
    client = render.client()
    if args.cancel:
        client.delete("backups", args.cancel)
        return 0
    if args.forget:
        return _forget(client, args.forget, args.confirm)
    items = client.items("backups")
    if args.output != "table":
        render.data(items, args.output)
        return 0
    rows = [
        (
            row["id"],
            row["target"],
            row["phase"],
            render.size(row["bytes"]),
            _step(row) or render.one_line(row["message"]),
        )
        for row in items
    ]
    render.table(("id", "target", "phase", "new", "message"), rows, empty="no backup yet: `appliance backup TARGET`")
    return 0


def run_restore(args: argparse.Namespace) -> int:
    from appliance.backup.restore import points, restore  # deferred: a restore needs the stores, the other verbs do not

    if args.list:
        return _list(points(args.target), args.output)
    os.umask(0o077)  # as the daemon does: what is written is the owner's
    progress = Progress(sys.stderr)
    progress.start(f"restoring {args.target}")

    def tell(what: str, done: int, total: int, written: int) -> None:
        progress.detail(f"{done} of {total} volumes, {render.size(written)}  {what}")

    try:
        done = restore(default_home(), args.target, point=args.point, tell=tell)
    except BaseException:
        progress.failed()
        raise
    progress.done(f"point {done.point} is in {done.home}, volumes in {done.store}")
    for note in done.notes:
        render.say(f"note: {note}")
    render.say("containers of the old appliance, should any run on this machine, are not taken over: remove them")
    render.say("start it: `./install.sh`, or `appliance serve`")
    return 0


def _forget(client: Client, target: str, confirm: str) -> int:
    target, confirm = _absolute(target), _absolute(confirm) if confirm else ""
    if not confirm and sys.stdin.isatty():
        found = client.forget_backups(target, dry_run=True)
        render.say(f"This lets go of {_moments(found['moments'])} kept here for the next backup to {target},")
        render.say(f"and takes its {found['backups']} backups off the list. The next one there sends everything again.")
        confirm = input("Type the target to go on: ")
        if confirm != target:
            raise UsageError("the target does not match; nothing was let go")
    done = client.forget_backups(target, confirm=confirm)
    render.say(f"{target} is forgotten, {_moments(done['moments'])} let go; what is stored there is still there")
    return 0


def _moments(count: int) -> str:
    return "1 moment" if count == 1 else f"{count} moments"


def _list(found: list[tuple[str, Point | None]], output: str) -> int:
    if output != "table":
        render.data([{"id": name, **_point(point)} for name, point in found], output)
        return 0
    cells = [
        (name, len(point.volumes) if point else "-", render.size(point.bytes if point else None))
        for name, point in found
    ]
    render.table(("point", "volumes", "size"), cells, empty="no backup has ever ended here")
    return 0


def _point(point: Point | None) -> dict[str, Any]:
    """What is known of it without the store that it was sent to."""
    if point is None:
        return {}
    return {
        "created": point.created,
        "volumes": len(point.volumes),
        "bytes": point.bytes,
        "store": point.store,
        "appliance": point.appliance,
        "skipped": list(point.skipped),
    }


def _follow(client: Client, backup_id: str, title: str) -> Any:
    progress = Progress(sys.stderr)
    progress.start(title)
    row: Any = None
    for row in client.follow_backup(backup_id):
        if row["phase"] == "Running":
            progress.detail(_step(row))
    if row is None or row["phase"] == "Running":
        progress.failed()
        raise ApplianceError(
            "the daemon has ended before the backup",
            where=f"backup {backup_id}",
            hint="start it and repeat the command: it goes on from there",
        )
    if row["phase"] == "Succeeded":
        progress.done(row["message"])
    else:
        progress.failed()
    return row


def _step(row: Any) -> str:
    """How far it is, in words; empty where it does not run."""
    at = row.get("progress")
    if not at:
        return ""
    count = f"{at['done']} of {at['total']}, " if at["total"] else ""
    return f"{count}{render.size(at['read'])} read, {render.size(at['written'])} new: {at['step']}"


def _absolute(target: str) -> str:
    """The daemon has another working directory."""
    return target if target.startswith(ZFS) else str(Path(target).expanduser().absolute())
