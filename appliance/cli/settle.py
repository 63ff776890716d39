"""Waiting until a notebook is where it was asked to be."""

from __future__ import annotations

import time

from appliance.cli import render
from appliance.client import Client
from appliance.errors import ApplianceError

WAIT_S = 900.0
"""The first notebook builds its image, which takes minutes on a slow machine."""


def settle(client: Client, name: str, wanted: str) -> int:
    """Wait for the phase, telling what goes on. Ctrl-C leaves the notebook alone."""
    told, warned = "", _warnings(client, name)
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
    for at, text in _warnings(client, name).items():
        if at not in warned:
            render.say(f"warning: {text}")
    if item["phase"] == "Failed":
        return 1
    if wanted == "Running":
        print(client.access(name)["url"])
    return 0


def _warnings(client: Client, name: str) -> dict[int, str]:
    """By the id of their event: what a session went without, for one."""
    found = client.newest_events("notebook", name)
    return {event["id"]: event["message"] for event in found if event["level"] == "warning"}
