"""`appliance notebook ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.cli import carry, diff, history, notebook_create, notebook_life, notebook_run, render, terminal
from appliance.cli.settle import settle

if TYPE_CHECKING:
    from appliance import wire


def configure_notebook(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument("name")
        added.set_defaults(run=run)
        return added

    create = notebook_create.configure(verb)
    start = verb("start", "start it again", run_start)
    stop = verb("stop", "stop it; its workspace stays", run_stop)
    for added in (create, start, stop):
        added.add_argument("--no-wait", action="store_true", help="do not wait until it is there")
    url = verb("url", "print the address with its token, for a browser or VS Code", run_url)
    which = url.add_mutually_exclusive_group()
    which.add_argument("--vscode", action="store_true", help='for VS Code: Select Kernel, "Existing Jupyter Server"')
    which.add_argument("--history", action="store_true", help="of the page of its history")
    verb("open", "open it in the browser", run_open)
    terminal.configure(verb)
    history.configure(verb)
    diff.configure(verb("diff", "what differs between two moments, down to lines and notebook cells", diff.run))
    notebook_life.configure(verb, verbs)
    carry.configure(verb, verbs)
    notebook_run.configure(verb)


def run_start(args: argparse.Namespace) -> int:
    client = render.client()
    client.act("notebooks", args.name, "start")
    return 0 if args.no_wait else settle(client, args.name, "Running")


def run_stop(args: argparse.Namespace) -> int:
    client = render.client()
    client.act("notebooks", args.name, "stop")
    return 0 if args.no_wait else settle(client, args.name, "Stopped")


def run_url(args: argparse.Namespace) -> int:
    client = render.client()
    access = client.access(args.name)
    print(_address(access, args))
    if not args.history and (phase := client.get("notebooks", args.name)["phase"]) != "Running":
        render.say(f"notebook {args.name} is {phase.lower()}; `appliance notebook start {args.name}` starts it")
    return 0


def _address(access: wire.Access, args: argparse.Namespace) -> str:
    """VS Code wants the server's root with the token, not the page of the lab: it reads both off one address."""
    if args.history:
        return access["history_url"]
    return f"{access['base_url']}?token={access['token']}" if args.vscode else access["url"]


def run_open(args: argparse.Namespace) -> int:
    import webbrowser  # deferred: only this verb needs it

    url = render.client().access(args.name)["url"]
    print(url)
    if not webbrowser.open(url):
        render.say("no browser here: open the address above, over ssh with a forwarded port")
    return 0
