"""Deployments of the small model server, and what a test asks of them through the front door."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.daemon import RunningDaemon, eventually

SOURCE = Path(__file__).with_name("model_server.py").read_text(encoding="utf-8")
HEALTH: dict[str, Any] = {"readiness": {"path": "/health", "periodSeconds": 1, "timeoutSeconds": 10}}
"""A loaded machine must not take replicas that are well out of the route."""


def served(
    name: str,
    version: str,
    *,
    replicas: int = 2,
    env: Mapping[str, str] | None = None,
    resources: Mapping[str, Any] | None = None,
    **more: object,
) -> dict[str, Any]:
    """A deployment's document; its answers are `version`."""
    values = {"VERSION": version, **(env or {})}
    return {
        "name": name,
        "image": "appliance/base",
        "command": ["python3", "-c", SOURCE],
        "port": 8000,
        "env": [{"name": key, "value": value} for key, value in values.items()],
        "resources": {"instanceType": "C4", "replicas": replicas, **(resources or {})},
        "healthChecks": HEALTH,
        **more,
    }


def apply(daemon: RunningDaemon, document: Mapping[str, Any]) -> None:
    daemon.client.apply(json.dumps(document), f"{document['name']}.json")


def ready(daemon: RunningDaemon, name: str, *, replicas: int, within_s: float = 120) -> Any:
    """Its newest generation serves, and nothing else of it runs any more."""
    daemon.phase("deployments", name, "Ready", within_s=within_s)
    eventually(
        lambda: len(daemon.running_containers(name)) == replicas,
        within_s=within_s,
        what=lambda: f"{replicas} replicas of {name}: {story(daemon, name)}",
    )
    return daemon.client.get("deployments", name)


def fetch(
    daemon: RunningDaemon, path: str, *, method: str = "GET", body: bytes | None = None, authorization: str = ""
) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=180)
    try:
        fields = {"Authorization": authorization} if authorization else {}
        connection.request(method, path, body=body, headers=fields)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def story(daemon: RunningDaemon, name: str) -> str:
    """What became of it, for an assertion."""
    item = daemon.client.get("deployments", name)
    events = daemon.client.items("events", kind="deployment", name=name)
    told = [f"{item['phase']} (generation {item['generation']}, seen {item['observed']}): {item['message']}"]
    return "\n".join([*told, *(f"  {event['reason']}: {event['message']}" for event in events[:20])])
