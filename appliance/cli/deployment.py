"""`appliance deployment ...`."""

from __future__ import annotations

import argparse
import time

from appliance.cli import render
from appliance.client import Client

WAIT_S = 600.0


def configure_deployment(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text, function in (
        ("show", "its replicas and their state", run_show),
        ("url", "where it answers on the front door", run_url),
        ("wait", "wait until the declared revision serves", run_wait),
        ("start", "run it again", run_switch),
        ("stop", "stop its replicas; it stays declared", run_switch),
        ("scale", "change the number of replicas", run_scale),
    ):
        added = verbs.add_parser(verb, help=text)
        added.add_argument("name")
        if verb == "scale":
            added.add_argument("replicas", type=int)
        added.set_defaults(run=function)


def run_show(args: argparse.Namespace) -> int:
    item = render.client().get("deployments", args.name)
    print(f"{item['name']}  {item['phase']}  generation {item['generation']}  {item['url']}")
    if item["message"]:
        print(render.clean(item["message"]))
    rows = [
        (replica["id"], replica["generation"], replica["state"], replica.get("restarts", 0), replica.get("message", ""))
        for replica in item["status"].get("replicas", [])
    ]
    print()
    render.table(("replica", "gen", "state", "restarts", "detail"), rows, empty="no replicas run")
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
    item = render.client().act("deployments", args.name, "scale", {"replicas": args.replicas})
    render.say(f"deployment {item['name']}: {args.replicas} replicas in generation {item['generation']}")
    return 0


def wait_ready(client: Client, name: str, *, deadline_s: float = WAIT_S) -> bool:
    """True once the newest generation serves; False if it failed, is switched off, or the deadline passed."""
    told, deadline = "", time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        item = client.get("deployments", name)
        now = item["phase"] + (f": {item['message']}" if item["message"] else "")
        if now != told:
            render.say(f"deployment {name}: {now}")
            told = now
        if item["observed"] == item["generation"] and item["phase"] in ("Ready", "Failed", "Degraded", "Disabled"):
            return bool(item["phase"] == "Ready")
        time.sleep(0.3)
    return False
