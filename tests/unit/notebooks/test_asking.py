"""Asking Jupyter: whatever it answers, it is either understood or silence that is said."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from appliance.notebooks import asking
from appliance.notebooks.asking import Silent, Told

pytestmark = pytest.mark.anyio
Answer = Callable[[httpx2.Request], httpx2.Response]


async def ask(answer: Answer) -> Told:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        return await asking.ask(client, 1234, "nb", "s3cret")


async def test_it_asks_with_the_token_and_leaves_no_trace_of_activity() -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(404 if "terminals" in request.url.path else 200, content=body(b"[]"))

    assert await ask(answer) == Told({}, {}), "a server may have its terminals switched off"
    assert {request.url.path for request in asked} == {
        *(f"/notebooks/nb/api/{kind}" for kind in ("kernels", "sessions", "terminals")),
        "/notebooks/nb/appliance/state",
    }
    for request in asked:
        assert request.headers["Authorization"] == "token s3cret"
        assert request.url.params["no_track_activity"] == "1"
        assert "s3cret" not in str(request.url)


@pytest.mark.parametrize(
    ("status", "said", "mark"),
    [
        (200, b"", ""),
        (404, b'{"last_activity": "t7"}', "t7"),
        (500, b'{"last_activity": "t7"}', "t7"),
    ],
)
async def test_where_saves_cannot_be_seen_whatever_was_asked_of_it_counts(status: int, said: bytes, mark: str) -> None:
    """As of sessions that began before their saves were signalled, and of a Jupyter that does not load the hook."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/appliance/state"):
            return httpx2.Response(status, content=body(b"{}"))
        return httpx2.Response(200, content=body(said if request.url.path.endswith("/api/status") else b"[]"))

    assert (await ask(answer)).asked == mark


@pytest.mark.parametrize("said", [b"[]", b'{"started": "t"}', b'{"last_activity": "' + b"x" * (2 << 20) + b'"}'])
async def test_where_neither_is_said_it_is_silent(said: bytes) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/appliance/state"):
            return httpx2.Response(404)
        return httpx2.Response(200, content=body(said if request.url.path.endswith("/api/status") else b"[]"))

    with pytest.raises(Silent):
        await ask(answer)


async def body(content: bytes) -> AsyncIterator[bytes]:
    yield content


def found(content: bytes, **headers: str) -> Answer:
    return lambda request: httpx2.Response(200, headers=headers, content=body(content))


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"[" * 65536


def late(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadTimeout("slow")


def closed(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _: httpx2.Response(403), "status 403"),
        (lambda _: httpx2.Response(404), "status 404"),
        (lambda _: httpx2.Response(302, headers={"Location": "http://elsewhere/"}), "status 302"),
        (found(b"<html>"), "not JSON"),
        (found(b"[" * 100_000), "not JSON"),
        (found(b"\xff\xfe"), "not JSON"),
        (found(b'{"a": 1}'), "no list"),
        (lambda _: httpx2.Response(200, content=endless()), "no end"),
        (found(gzip.compress(b"[]"), **{"Content-Encoding": "gzip"}), "not JSON"),
        (late, "no answer within 5 s"),
        (closed, "does not answer"),
    ],
)
async def test_what_is_no_answer_is_said(answer: Answer, words: str) -> None:
    with pytest.raises(Silent, match=words):
        await ask(answer)
