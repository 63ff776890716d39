"""Terminals in notebooks and in replicas of deployments."""

from __future__ import annotations

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from appliance.api import commands, terminals
from appliance.api.parts import Parts
from appliance.errors import Conflict
from appliance.state import resources


def routes(parts: Parts) -> list[BaseRoute]:
    opened = terminals.Open()

    def session(websocket: WebSocket) -> str:
        notebook = resources.get(parts.db.read, "notebook", websocket.path_params["name"])
        container = notebook.status.get("container", "")
        if not container or not notebook.status.get("started"):
            hint = f"`appliance notebook start {notebook.name}`"
            raise Conflict(f"notebook {notebook.name!r} does not run", hint=hint)
        return str(container)

    def replica(websocket: WebSocket) -> str:
        deployment = resources.get(parts.db.read, "deployment", websocket.path_params["name"])
        return commands.container_of(deployment, websocket.query_params.get("replica", ""))

    return [
        WebSocketRoute("/v1/notebooks/{name}/terminal", terminals.serve(parts, opened, session)),
        WebSocketRoute("/v1/deployments/{name}/terminal", terminals.serve(parts, opened, replica)),
    ]
