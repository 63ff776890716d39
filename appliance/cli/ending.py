"""Asking before a session ends in which a cell runs."""

from __future__ import annotations

import argparse
import sys

from appliance.cli import render
from appliance.cli.front_door import Jupyter
from appliance.client import Client
from appliance.errors import ApplianceError, Conflict

ASK_S = 3.0
"""A Jupyter that does not answer so long holds nothing up."""


def add_yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="end a running session without asking")


def agree(client: Client, name: str, *, yes: bool) -> None:
    """Returns where no cell runs, or its end is agreed to. Raises Conflict."""
    if yes or client.get("notebooks", name)["phase"] != "Running":
        return
    busy = _busy(client, name)
    if not busy:
        return
    said = f"a cell runs in {', '.join(render.clean(path) for path in busy[:3])}" + (" and others" * (len(busy) > 3))
    if sys.stdin.isatty():
        render.say(f"{said}; it ends with the session, and what its variables hold is lost")
        if input("Type `yes` to go on: ").strip() == "yes":
            return
    raise Conflict(f"{said}; nothing was changed", where=name, hint="wait for it, or end it with --yes")


def _busy(client: Client, name: str) -> list[str]:
    access = client.access(name)
    try:
        return Jupyter(access["base_url"], access["token"], timeout_s=ASK_S).busy()
    except (ApplianceError, ValueError, AttributeError, TypeError):
        return []  # another kind of server, or one that hangs: it is asked for nothing more
