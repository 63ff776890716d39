"""`appliance notebook history, snapshot, rollback, undo, ls, cat, restore, fork, prune, hold, release`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, Protocol

from appliance.cli import listing, render
from appliance.paths import encode

Run = Callable[[argparse.Namespace], int]
MOST_LISTED = 100_000
LONGEST_LINE = 1 << 20
"""Bytes; on a terminal a longer one is shown in parts."""


class Verb(Protocol):
    def __call__(self, name: str, text: str, run: Run, /) -> argparse.ArgumentParser: ...


def configure(verb: Verb) -> None:
    history = verb("history", "the snapshots of its workspace, newest first", run_history)
    history.add_argument("--web", action="store_true", help="print the address of its page, for a browser")
    history.add_argument("-n", type=render.positive, default=0, metavar="COUNT", help="only the newest")
    snapshot = verb("snapshot", "keep the workspace as it is now", run_snapshot)
    snapshot.add_argument("-m", "--message", default="", help="with one, retention keeps it for good")
    rollback = verb("rollback", "bring back a snapshot; what is there now is kept", run_rollback)
    rollback.add_argument("snapshot", help="its id, from `history`")
    verb("undo", "take the last rollback back", run_undo)
    ls = verb("ls", "list a folder of the workspace, now or at a snapshot", run_ls)
    ls.add_argument("path", nargs="?", default="")
    cat = verb("cat", "print a file of the workspace, now or at a snapshot", run_cat)
    cat.add_argument("path")
    restore = verb("restore", "bring back one file or folder; what it replaces is kept", run_restore)
    restore.add_argument("snapshot", help="its id, from `history`")
    restore.add_argument("path")
    restore.add_argument("--to", default="", metavar="PATH", help="put it there instead, beside what is there now")
    fork = verb("fork", "another notebook that begins with these files", run_fork)
    fork.add_argument("new", help="its name")
    fork.add_argument("--start", action="store_true", help="start it at once")
    for added in (ls, cat, fork):
        added.add_argument("--at", default="", metavar="SNAPSHOT", help="default: now")
    prune = verb("prune", "let the snapshots go that retention does not keep", run_prune)
    prune.add_argument("--dry-run", action="store_true", help="only tell which go, and why the others stay")
    hold = verb("hold", "keep a snapshot until `release`, whatever retention says", run_hold)
    hold.add_argument("snapshot")
    hold.add_argument("-m", "--message", default="", help="why")
    release = verb("release", "give a held snapshot back to retention", run_release)
    release.add_argument("snapshot")
    for added in (history, ls, prune):
        added.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")


def run_history(args: argparse.Namespace) -> int:
    if args.web:
        print(render.client().access(args.name)["history_url"])
        return 0
    items = render.client().history(args.name)
    if args.n > 0:
        items = items[: args.n]
    if args.output != "table":
        render.data(items, args.output)
        return 0
    render.table(
        ("id", "time", "cause", "author", "of", "written", "held", "message"),
        [(*_about(row), "held" if row["held"] else "", row["message"]) for row in items],
        empty="no snapshots yet",
    )
    return 0


def run_snapshot(args: argparse.Namespace) -> int:
    print(render.client().act("notebooks", args.name, "snapshot", {"message": args.message})["id"])
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    before = render.client().act("notebooks", args.name, "rollback", {"snapshot": args.snapshot})
    render.say(
        f"rolled back; what was there is snapshot {before['id']}, `appliance notebook undo {args.name}` returns to it"
    )
    return 0


def run_undo(args: argparse.Namespace) -> int:
    render.client().act("notebooks", args.name, "undo")
    render.say("the last rollback is undone")
    return 0


def run_ls(args: argparse.Namespace) -> int:
    found = render.client().entries(args.name, encode(args.path), at=args.at, limit=MOST_LISTED)
    return listing.show(found, args.output)


def run_cat(args: argparse.Namespace) -> int:
    """As it is into a pipe or file; on a terminal what would move the cursor is replaced."""
    pieces = render.client().read_file(args.name, encode(args.path), at=args.at)
    if not sys.stdout.isatty():
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        return 0
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            print(_shown(line))
        if len(rest) > LONGEST_LINE:
            print(_shown(rest), end="")
            rest = b""
    print(_shown(rest), end="\n" if rest else "")
    return 0


def run_restore(args: argparse.Namespace) -> int:
    before = render.client().restore(args.name, args.snapshot, encode(args.path), encode(args.to))
    where = render.clean(encode(args.to or args.path))
    render.say(f"{where} is as it was in {args.snapshot}; all as it was before is snapshot {before['id']}")
    for words in before.get("warnings", []):
        render.say(render.clean(words))
    return 0


def run_fork(args: argparse.Namespace) -> int:
    made = render.client().fork(args.name, args.new, snapshot=args.at, start=args.start)
    then = "it starts" if args.start else f"`appliance notebook start {made['name']}` starts it"
    render.say(f"notebook {made['name']} has the files of {args.name}; {then}")
    return 0


def run_prune(args: argparse.Namespace) -> int:
    found = render.client().prune(args.name, dry_run=args.dry_run)
    if args.output != "table":
        render.data(found, args.output)
        return 0
    going = "would go" if args.dry_run else "went"
    rows = [(*_about(row["snapshot"]), row["why"] or going) for row in found["items"]]
    render.table(("id", "time", "cause", "author", "of", "written", "why"), rows, empty="no snapshots yet")
    count = sum(not row["why"] for row in found["items"])
    least = "" if found["exact"] else "at least "
    free = f", which {'frees' if args.dry_run else 'freed'} {least}{render.size(found['bytes'])}" if count else ""
    render.say(f"{count} of {len(found['items'])} snapshots {'would go' if args.dry_run else 'are gone'}{free}")
    return 0


def run_hold(args: argparse.Namespace) -> int:
    render.client().hold(args.name, args.snapshot, args.message)
    render.say(f"snapshot {args.snapshot} is kept until `appliance notebook release {args.name} {args.snapshot}`")
    return 0


def run_release(args: argparse.Namespace) -> int:
    render.client().release(args.name, args.snapshot)
    render.say(f"retention decides about snapshot {args.snapshot} again")
    return 0


def _about(row: Any) -> tuple[str, ...]:
    return (
        row["id"],
        render.clock(row["created"]),
        row["cause"],
        row["author"],
        row["subject"],
        render.size(row["bytes"]),
    )


def _shown(line: bytes) -> str:
    text = line.decode(errors="replace").removesuffix("\r")
    return "\t".join(render.clean(part) for part in text.split("\t"))
