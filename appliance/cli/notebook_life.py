"""`appliance notebook set, restart, rename, delete, deleted, undelete`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from appliance.cli import ending, render
from appliance.cli.history import Verb
from appliance.cli.settle import settle
from appliance.errors import UsageError

KEYS = ("image", "machine", "gpus", "user", "idle", "shutdown", "quota", "shm", "owner", "priority")
APART = {"idle", "shutdown", "quota", "owner", "priority", "preemptible"}
"""Keys with which a session goes on."""
LOSS = "This destroys notebook {name!r} with its files and history; it cannot be brought back."


def configure(verb: Verb, verbs: Any) -> None:
    """`verb` adds a verb that takes the notebook's name, `verbs` one that does not."""
    change = verb("set", "change its image, machine, user, times or variables; files and history stay", run_set)
    change.add_argument("--image", help="'' for the built-in one")
    change.add_argument("--machine")
    change.add_argument("--gpus", type=render.count)
    change.add_argument("--user", metavar="UID[:GID]", help="who its sessions run as; the files become theirs")
    change.add_argument("--idle", metavar="TIME", help="stop it after so long without use, such as 30m; never; ''")
    change.add_argument("--shutdown", metavar="TIME", help="stop it so long after its start, such as 6h; never; ''")
    change.add_argument("--quota", metavar="SIZE", help="most that the files may take, such as 20G; ''")
    change.add_argument("--shm", metavar="SIZE", help="shared memory, such as 8G; ''")
    change.add_argument("--owner", metavar="NAME", help="whose GPU time it is; ''")
    change.add_argument("--priority", type=int, metavar="N", help="-100 to 100: the higher gets a GPU first")
    change.add_argument("--preemptible", choices=("yes", "no"), help="make way for a higher priority, and come back")
    change.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    change.add_argument("--unset-env", action="append", default=[], metavar="NAME")
    change.add_argument("--no-start", action="store_true", help="a session that runs is stopped, and none follows")
    restart = verb("restart", "end its session and begin another", run_restart)
    restart.add_argument("--no-wait", action="store_true", help="do not wait until it is there")
    rename = verb("rename", "give it another name; history, files and token stay, its address changes", run_rename)
    rename.add_argument("new")
    for ends in (change, restart, rename):
        ending.add_yes(ends)
    delete = verb("delete", "delete it; for some days `undelete` brings it back with all it had", run_delete)
    add_purge(delete)
    undelete = verb("undelete", "bring a deleted one back, stopped; by name, or by id from `deleted`", run_undelete)
    undelete.add_argument("--as", dest="new", default="", metavar="NEW", help="by another name")
    deleted = verbs.add_parser("deleted", help="what was deleted and can be brought back")
    deleted.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    deleted.set_defaults(run=run_deleted)


def add_purge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--purge", action="store_true", help="a notebook: for ever, with its files and history")
    parser.add_argument("--confirm", default="", metavar="NAME", help="repeat the name where data goes for ever")


def run_set(args: argparse.Namespace) -> int:
    change: dict[str, Any] = {key: value for key in KEYS if (value := getattr(args, key)) is not None}
    if args.preemptible is not None:
        change["preemptible"] = args.preemptible == "yes"
    if args.env:
        change["env"] = dict(pair(text, "--env") for text in args.env)
    if args.unset_env:
        change["unset_env"] = args.unset_env
    if not change:
        raise UsageError("nothing to change", hint="such as `appliance notebook set NAME --idle 30m`")
    client = render.client()
    before = client.get("notebooks", args.name)
    running = before["desired"] == "running"
    if change.keys() - APART or args.no_start:
        ending.agree(client, args.name, yes=args.yes)
    change |= {"generation": before["generation"], "start": not args.no_start}
    after = client.set_notebook(args.name, change)
    if after["notebook"]["generation"] == before["generation"]:
        render.say(f"notebook {args.name} is that way already")
    elif running and args.no_start:
        render.say(f"notebook {args.name} is changed and stops; `appliance notebook start {args.name}` starts it")
    elif running and after["session"]:
        render.say(f"notebook {args.name} is changed: its session is followed by another as soon as the image is here")
    else:
        render.say(f"notebook {args.name} is changed" + ("; its session goes on" if running else ""))
    return 0


def run_restart(args: argparse.Namespace) -> int:
    client = render.client()
    ending.agree(client, args.name, yes=args.yes)
    client.act("notebooks", args.name, "restart")
    return 0 if args.no_wait else settle(client, args.name, "Running")


def run_rename(args: argparse.Namespace) -> int:
    client = render.client()
    ending.agree(client, args.name, yes=args.yes)
    made = client.rename_notebook(args.name, args.new)
    then = "; another session begins at its new address" if made["desired"] == "running" else ""
    render.say(f"notebook {args.name} is {made['name']} from now on{then}")
    return 0


def run_delete(args: argparse.Namespace) -> int:
    """One that is deleted already goes for ever with --purge."""
    client, name = render.client(), args.name
    confirm = args.confirm
    if args.purge and not confirm and sys.stdin.isatty():
        render.say(LOSS.format(name=name))
        confirm = input("Type its name to go on: ")
        if confirm != name:
            raise UsageError("the name does not match; nothing was deleted")
    there = any(item["name"] == name for item in client.items("notebooks"))
    if args.purge and not there and any(name in (row["name"], row["uid"]) for row in client.deleted_notebooks()):
        client.purge_notebook(name, confirm=confirm)
        render.say(f"the deleted notebook {name} is gone for ever")
        return 0
    until = client.delete_notebook(name, purge=args.purge, confirm=confirm)["until"]
    if until is None:
        render.say(f"notebook {name} is being destroyed")
    else:
        render.say(
            f"notebook {name} is deleted; `appliance notebook undelete {name}` brings it back until"
            f" {render.clock(until)}, and until then it takes its space"
        )
    return 0


def run_deleted(args: argparse.Namespace) -> int:
    rows = render.client().deleted_notebooks()
    if args.output != "table":
        render.data(rows, args.output)
        return 0
    cells = [
        (
            row["name"],
            row["uid"],
            render.clock(row["deleted"]),
            "is being destroyed" if row["going"] else render.clock(row["until"]),
            render.size(row["bytes"]),
        )
        for row in rows
    ]
    render.table(("name", "id", "deleted", "kept until", "on disk"), cells, empty="nothing was deleted lately")
    return 0


def run_undelete(args: argparse.Namespace) -> int:
    back = render.client().undelete_notebook(args.name, args.new)
    render.say(f"notebook {back['name']} is back; `appliance notebook start {back['name']}` starts it")
    return 0


def pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{option} takes NAME=VALUE, not {text!r}")
    return name, value
