"""Who may speak behind the front door. A websocket shows the token as any other request does."""

from __future__ import annotations

import orjson
import pytest
from starlette.types import Message, Receive, Scope, Send

from appliance.api.app import behind_token

TOKEN = "t0k3n"

pytestmark = pytest.mark.anyio


async def asked(scope: Scope) -> tuple[bool, list[Message]]:
    """Whether the application was reached, and what was sent where it was not."""
    reached = False
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal reached
        reached = True

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await behind_token(app, TOKEN)(scope, receive, send)
    return reached, sent


def websocket(path: str, **headers: str) -> Scope:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "websocket", "path": path, "headers": raw, "extensions": {"websocket.http.response": {}}}


@pytest.mark.parametrize(
    "path",
    ["/v1/notebooks/n/terminal", "/healthz", "/notebooks/n/", "/deployments/d", "/v1/hooks/h"],
)
@pytest.mark.parametrize("given", ["", "Bearer", "Bearer t0k3", "Bearer t0k3nn", "Basic t0k3n", "t0k3n"])
async def test_a_websocket_without_the_token_is_refused_on_every_path(path: str, given: str) -> None:
    headers = {"authorization": given} if given else {}
    reached, sent = await asked(websocket(path, **headers))
    assert not reached
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert sent[0]["status"] == 401
    assert orjson.loads(sent[1]["body"])["code"] == "forbidden"


@pytest.mark.parametrize("given", ["Bearer t0k3n", "bearer t0k3n"])
async def test_a_websocket_with_the_token_is_let_through(given: str) -> None:
    assert await asked(websocket("/v1/notebooks/n/terminal", authorization=given)) == (True, [])


async def test_the_start_of_the_server_asks_nobody() -> None:
    assert await asked({"type": "lifespan"}) == (True, [])


async def test_a_request_for_an_open_path_needs_none() -> None:
    assert await asked({"type": "http", "method": "GET", "path": "/healthz", "headers": []}) == (True, [])
