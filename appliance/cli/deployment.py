"""`appliance deployment ...`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from appliance import foreign
from appliance.cli import render
from appliance.client import Client, words
from appliance.errors import ApplianceError, NotFound, UsageError

WAIT_S = 600.0
POLL_S = 0.3
SHOWN_WORDS = 20
"""Lines of what a revision that failed wrote last; `history -o json` has all that is kept."""


def configure_deployment(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument("name")
        added.set_defaults(run=run)
        return added

    show = verb("show", "its replicas, its rollout, its scale and its traffic", run_show)
    verb("url", "where it answers on the front door", run_url)
    verb("wait", "wait until the declared revision serves", run_wait)
    verb("start", "run it again", run_switch)
    verb("stop", "stop its replicas; it stays declared", run_switch)
    scale = verb("scale", "change the number of replicas; none is replaced", run_scale)
    scale.add_argument("replicas", type=render.count)
    history = verb("history", "its revisions, newest first", run_history)
    history.add_argument("-n", type=render.positive, default=0, metavar="COUNT", help="only the newest")
    diff = verb("diff", "what differs between two revisions: the spec, the image, the models", run_diff)
    diff.add_argument(
        "older", type=render.positive, nargs="?", help="generation; default: what served before the newest"
    )
    diff.add_argument("newer", type=render.positive, nargs="?", help="generation; default: the newest")
    rollback = verb("rollback", "bring back an earlier revision: its spec, its image, its models", run_rollback)
    rollback.add_argument(
        "--to", type=render.positive, metavar="GENERATION", help="default: the last that served before"
    )
    restart = verb("restart", "all replicas anew, the image and the models looked up again", run_restart)
    for added in (rollback, restart, scale):
        added.add_argument("--wait", action="store_true", help="wait until it serves")
    for added in (show, history, diff):
        added.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")
    execute = verb("exec", "run a command in a replica", run_exec)
    execute.add_argument("-t", "--tty", action="store_true", help="with this terminal; default: with no input either")
    execute.add_argument("-r", "--replica", default="", metavar="PART", help="from `show`; default: one that is ready")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="with its arguments")
    execute.epilog = "The exit code is that of the command. With -t and no command it is a shell."


def run_show(args: argparse.Namespace) -> int:
    client = render.client()
    item = client.get("deployments", args.name)
    if args.output != "table":
        render.data(item, args.output)
        return 0
    now, status = time.time(), item["status"]
    print(f"{item['name']}  {item['phase']}  generation {item['generation']}  {item['url']}")
    if message := words.message(item, now):
        print("\n".join(render.clean(line) for line in message.splitlines()))
    about = [
        ("rollout", words.rollout(status, now, said=message)),
        ("scale", words.asleep(status, now) or words.scale(status, now)),
        ("waiting", words.held(status)),
        ("requests", _traffic(client, args.name)),
        *(("model", told) for told in status.get("models", ())),
        *(("missing", told) for told in status.get("missing", ())),
    ]
    for what, told in about:
        if told:
            print(f"{what:<9} {render.clean(told)}")
    for line in _last_words(client, item):
        print(f"  | {foreign.line(line)}")
    print()
    header = ("replica", "gen", "state", "in flight", "restarts", "detail")
    render.table(header, [_replica(row, now) for row in status.get("replicas", [])], empty="no replicas run")
    return 0


def run_url(args: argparse.Namespace) -> int:
    print(render.client().get("deployments", args.name)["url"])
    return 0


def run_wait(args: argparse.Namespace) -> int:
    return 0 if wait_ready(render.client(), args.name) else 1


def run_switch(args: argparse.Namespace) -> int:
    item = render.client().act("deployments", args.name, args.verb)
    render.say(f"deployment {item['name']}: {args.verb} asked for")
    return 0


def run_scale(args: argparse.Namespace) -> int:
    client = render.client()
    item = client.scale(args.name, args.replicas)
    told = f"deployment {item['name']}: {words.replicas(args.replicas)} in generation {item['generation']}"
    return _begun(client, item, told, wait=args.wait)


def run_history(args: argparse.Namespace) -> int:
    items = render.client().revisions(args.name)
    if args.n > 0:
        items = items[: args.n]
    if args.output != "table":
        render.data(items, args.output)
        return 0
    header = ("gen", "phase", "cause", "by", "declared", "image", "models", "detail")
    render.table(header, [_revision(row) for row in items], empty="no revisions")
    return 0


def run_diff(args: argparse.Namespace) -> int:
    client = render.client()
    older, newer = args.older, args.newer
    if older is None or newer is None:
        older, newer = _nearest(client.revisions(args.name), args.name, older)
    found = client.revision_diff(args.name, older, newer)
    if args.output != "table":
        render.data(found, args.output)
        return 0
    for line in [*found["made_of"], *found["spec"]]:
        print(render.clean(line))
    if not found["made_of"] and not found["spec"]:
        render.say(f"generations {older} and {newer} have the same spec, image and models")
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    client = render.client()
    item = client.roll_back(args.name, args.to)
    copies = (item["status"].get("rollout") or {}).get("copies")
    told = f"deployment {item['name']}: generation {item['generation']} brings back generation {copies}"
    for row in client.revisions(args.name):
        if row["generation"] == copies and (doubts := words.doubts(row)):
            render.say(f"warning: {render.one_line(doubts)}")
    return _begun(client, item, told, wait=args.wait)


def run_restart(args: argparse.Namespace) -> int:
    client = render.client()
    item = client.restart(args.name)
    told = f"deployment {item['name']}: generation {item['generation']} begins afresh"
    return _begun(client, item, told, wait=args.wait)


def run_exec(args: argparse.Namespace) -> int:
    from appliance.cli.execute import show  # deferred: only this verb needs it
    from appliance.cli.terminal import run_replica

    replica, tty, argv = _command(args.replica, args.tty, args.command)
    if tty:
        return run_replica(args.name, argv, replica=replica)
    if not argv:
        raise UsageError("no command is given", hint=f"`appliance deployment exec {args.name} -- ls /`")
    return show(render.client().execute(args.name, argv, replica=replica))


def wait_ready(client: Client, name: str, *, generation: int | None = None, deadline_s: float = WAIT_S) -> bool:
    """True once that generation serves, else the newest; False if it failed, is switched off, or the deadline passed.

    False too once another one is declared after `generation`. What is known of an earlier one is not told.
    """
    told, deadline = "", time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        item = client.get("deployments", name)
        if generation is not None and item["generation"] > generation:
            newer = f"generation {item['generation']} was declared meanwhile"
            render.say(f"deployment {name}: {newer}, and generation {generation} is not waited for")
            return False
        if item["observed"] == item["generation"]:
            now = item["phase"] + (f": {item['message']}" if item["message"] else "")
            if now != told:
                render.say(f"deployment {name}: {render.one_line(now)}")
                told = now
            if item["phase"] in words.SETTLED:
                return item["phase"] in ("Ready", "Asleep")
        time.sleep(POLL_S)
    again = f"`appliance deployment wait {name}` waits again"
    render.say(f"deployment {name}: not ready after {deadline_s:.0f} s; it goes on by itself, {again}")
    return False


def _begun(client: Client, item: Any, told: str, *, wait: bool) -> int:
    render.say(told)
    if item["source"].startswith("file:"):
        file = render.clean(item["source"].removeprefix("file:"))
        render.say(f"warning: {file} declares this deployment and wins again when that file changes")
    if wait:
        return 0 if wait_ready(client, item["name"], generation=item["generation"]) else 1
    return 0


def _command(replica: str, tty: bool, rest: list[str]) -> tuple[str, bool, list[str]]:
    """All behind the name is the command, options between the two apart; argparse has taken the first `--` or not."""
    while rest[:1] in (["-t"], ["--tty"]) or (rest[:1] in (["-r"], ["--replica"]) and len(rest) > 1):
        if rest[0] in ("-t", "--tty"):
            tty, rest = True, rest[1:]
        else:
            replica, rest = rest[1], rest[2:]
    return replica, tty, rest[1:] if rest[:1] == ["--"] else rest


def _last_words(client: Client, item: Any) -> list[str]:
    """What the newest revision wrote last, where it did not get there."""
    found = item["status"].get("rollout")
    if not found or found["phase"] not in ("Undone", "Failed"):
        return []
    rows = [row for row in client.revisions(item["name"]) if row["generation"] == found["generation"]]
    return [line for row in rows for line in row["words"].splitlines()][-SHOWN_WORDS:]


def _traffic(client: Client, name: str) -> str:
    try:
        return words.traffic(client.traffic(name))
    except ApplianceError as error:
        return f"not known: {error.message}"


def _replica(row: Any, now: float) -> render.Row:
    under_way = "-" if row.get("in_flight") is None else row["in_flight"]
    told = words.replica(row, now)
    return (row["id"], row["generation"], row["state"], under_way, row.get("restarts", 0), told)


def _revision(row: Any) -> render.Row:
    models = ", ".join(row["models"]) or "-"
    message = words.revision(row)
    made = render.clock(row["created"])
    return (row["generation"], row["phase"], words.cause(row), row["source"], made, row["image"], models, message)


def _nearest(revisions: list[Any], name: str, older: int | None) -> tuple[int, int]:
    """The newest revision, and `older` or what served before it, or else was declared before it."""
    newest, *before = revisions
    if older is not None:
        return older, newest["generation"]
    if not before:
        raise NotFound(f"deployment {name!r} has one revision only", hint=f"`appliance deployment show {name}`")
    served = next((row for row in before if row["ready"]), before[0])
    return served["generation"], newest["generation"]
