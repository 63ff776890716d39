"""`appliance notebook ...`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from appliance.cli import diff, history, render
from appliance.client import Client
from appliance.errors import ApplianceError, UsageError

WAIT_S = 900.0
"""The first notebook builds its image, which takes minutes on a slow machine."""


def configure_notebook(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument("name")
        added.set_defaults(run=run)
        return added

    create = verb("create", "declare a notebook and start it", run_create)
    create.add_argument("--image", default="", help="an image with Jupyter in it; default: the built-in one")
    create.add_argument("--gpus", type=int, default=0)
    create.add_argument("--quota", default="", metavar="SIZE", help="most that the files may take, such as 20G")
    create.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    create.add_argument(
        "--dataset", action="append", default=[], metavar="NAME=REF", help="read-only at /datasets/NAME"
    )
    create.add_argument(
        "--from-job",
        default="",
        metavar="RUN/JOB",
        help="with what a failed workflow job read and wrote, and the end of its log; goes with --image only",
    )
    start = verb("start", "start it again", run_start)
    stop = verb("stop", "stop it; its workspace stays", run_stop)
    for added in (create, start, stop):
        added.add_argument("--no-wait", action="store_true", help="do not wait until it is there")
    verb("url", "print the address with its token, for a browser or VS Code", run_url)
    verb("open", "open it in the browser", run_open)
    history.configure(verb)
    diff.configure(verb("diff", "what differs between two moments, down to lines and notebook cells", diff.run))
    delete = verb("delete", "delete it with its workspace and history", run_delete)
    delete.add_argument("--confirm", default="", metavar="NAME")


def run_create(args: argparse.Namespace) -> int:
    document: dict[str, Any] = {"kind": "notebook", "name": args.name}
    if args.image:
        document["image"] = args.image
    if args.gpus:
        document["gpus"] = args.gpus
    if args.quota:
        document["quota"] = args.quota
    if args.env:
        document["env"] = dict(_pair(text, "--env") for text in args.env)
    if args.dataset:
        document["datasets"] = {name: {"ref": ref} for name, ref in (_pair(text, "--dataset") for text in args.dataset)}
    client = render.client()
    if args.from_job:
        return _from_job(client, args)
    for change in client.apply(json.dumps(document), "notebook create"):
        render.say(f"notebook {change['name']}: {change['change']}")
    return 0 if args.no_wait else _settle(client, args.name, "Running")


def _from_job(client: Client, args: argparse.Namespace) -> int:
    run, slash, job = args.from_job.partition("/")
    if not (run and slash and job):
        raise UsageError(f"--from-job takes RUN/JOB, not {args.from_job!r}", hint="such as train.3/fit")
    if args.gpus or args.quota or args.env or args.dataset:
        raise UsageError("--from-job goes with --image only", hint="apply a spec with the rest afterwards")
    made = client.notebook_from_job(run, job, args.name, image=args.image)
    render.say(f"notebook {args.name} holds inputs/, outputs/ and capsule.md of {args.from_job}: {made['reason']}")
    if made["image"] and not args.image:
        render.say(f"it runs on the built-in notebook image; the job ran on {made['image']} (take it with --image)")
    for line in made["missing"]:
        render.say(f"not there: {line}")
    return 0 if args.no_wait else _settle(client, args.name, "Running")


def run_start(args: argparse.Namespace) -> int:
    client = render.client()
    client.act("notebooks", args.name, "start")
    return 0 if args.no_wait else _settle(client, args.name, "Running")


def run_stop(args: argparse.Namespace) -> int:
    client = render.client()
    client.act("notebooks", args.name, "stop")
    return 0 if args.no_wait else _settle(client, args.name, "Stopped")


def run_url(args: argparse.Namespace) -> int:
    print(render.client().access(args.name)["url"])
    return 0


def run_open(args: argparse.Namespace) -> int:
    import webbrowser  # deferred: only this verb needs it

    url = render.client().access(args.name)["url"]
    print(url)
    if not webbrowser.open(url):
        render.say("no browser here: open the address above, over ssh with a forwarded port")
    return 0


def run_delete(args: argparse.Namespace) -> int:
    from appliance.cli import declare  # deferred: the other verbs do without

    args.kind = "notebook"
    return declare.run_delete(args)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{option} takes NAME=VALUE, not {text!r}")
    return name, value


def _settle(client: Client, name: str, wanted: str) -> int:
    """Wait for the phase, telling what goes on. Ctrl-C leaves the notebook alone."""
    told = ""
    deadline = time.monotonic() + WAIT_S
    while True:
        item = client.get("notebooks", name)
        now = f"{item['phase']}: {item['message']}" if item["message"] else item["phase"]
        if now != told:
            render.say(f"notebook {name}: {now}")
            told = now
        if item["observed"] == item["generation"] and item["phase"] in (wanted, "Failed"):
            break
        if time.monotonic() > deadline:
            hint = f"`appliance logs notebook/{name}`"
            raise ApplianceError(f"notebook {name} is not {wanted.lower()} after {WAIT_S:.0f} s", hint=hint)
        time.sleep(0.3)
    if item["phase"] == "Failed":
        return 1
    if wanted == "Running":
        print(client.access(name)["url"])
    return 0
