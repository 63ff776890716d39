"""Who may ask, how often, how much, and how long the answer may take."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from appliance.router.router import Router
from appliance.router.table import Access, Limits, Route, Target
from tests.integration.router.door import DEADLINE_S, NEEDS, A, Answer, Client, Door, X, get, parse_head, route, word

pytestmark = NEEDS
Y = "/deployments/y"


def header(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def access(kind: str, *headers: str) -> Access:
    return Access("basic" if kind == "basic" else "key", frozenset(sum_of(one) for one in headers))


def sum_of(value: str) -> str:
    return sha256(value.encode()).hexdigest().upper()


def code(answer: Answer) -> str:
    return answer.body.decode().split('"code": "')[1].split('"')[0]


async def test_only_the_password_is_let_in_and_the_server_does_not_see_it(door: Door, router: Router) -> None:
    right, wrong = header("paperspace", "s3cret"), header("paperspace", "s3cre")
    backend = await door.backend("x")
    await router.set_route(replace(route(X, backend), access=access("basic", right)))
    await router.set_route(route(Y, backend))
    for lines in ([], [f"Authorization: {wrong}"], ["Authorization: "], [f"Authorization: {right}x"]):
        answer = await get(door.port, f"{X}/p", *lines)
        assert (answer.status, code(answer)) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Basic realm="appliance"'
    assert backend.requests == 0
    answer = await get(door.port, f"{X}/p", f"Authorization: {right}")
    assert word(answer) == "x"
    assert b"authorization" not in answer.body.lower()
    answer = await get(door.port, f"{Y}/p", f"Authorization: {wrong}")
    assert b"authorization" in answer.body.lower(), "where nothing is checked it is the server's"


@pytest.mark.parametrize(("kind", "scheme"), [("key", "Bearer"), ("basic", "Basic"), ("basic", "Bearer")])
async def test_a_scheme_is_known_in_any_letters(door: Door, router: Router, kind: str, scheme: str) -> None:
    """And after it come one space or more; RFC 9110, 11.4."""
    allowed = access(kind, f"{scheme} One two=")
    await router.set_route(replace(route(X, await door.backend("x")), access=allowed))
    for sent in (f"{scheme} One two=", f"{scheme.lower()} One two=", f"{scheme.upper()}   One two="):
        assert (await get(door.port, X, f"Authorization: {sent}")).status == 200, sent
    other = "Basic" if scheme == "Bearer" else "Bearer"
    wrong = [f"{other} One two=", f"{scheme} one two=", f"{scheme} One", f"{scheme}One two=", "One two=", scheme]
    for sent in (*wrong, f"{scheme} {scheme} One two="):
        assert (await get(door.port, X, f"Authorization: {sent}")).status == 401, sent


async def test_a_refusal_says_what_to_do(door: Door, router: Router) -> None:
    plain = route(X, await door.backend("x"))
    await router.set_route(replace(plain, access=access("key", "Bearer one")))
    assert "Authorization: Bearer" in (await problem(door))["hint"]
    await router.set_route(replace(plain, access=access("basic", "Basic one")))
    assert "paperspace" in (await problem(door))["hint"]
    await router.set_route(replace(plain, limits=Limits(body=1234)))
    found = await problem(door, "Content-Length: 1235", "Expect: 100-continue", method="POST")
    assert (found["type"], found["status"]) == ("urn:appliance:too_large", 413)
    assert found["detail"].endswith(" takes: 1234 bytes.")
    await router.set_route(replace(plain, limits=Limits(requests=2, window_s=3600)))
    for _ in range(2):
        assert (await get(door.port, X)).status == 200
    assert (await problem(door))["detail"].endswith(" allows: 2 in 3600 s.")
    page = await get(door.port, X, "Accept: text/html")
    assert page.headers["content-type"].startswith("text/html")
    assert b"allows: 2 in 3600 s.</h1>" in page.body


async def problem(door: Door, *headers: str, method: str = "GET") -> dict[str, Any]:
    answer = await get(door.port, X, *headers, method=method)
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(answer.body)
    assert found["status"] == answer.status
    return found


async def test_a_second_header_opens_nothing(door: Door, router: Router) -> None:
    right = "Bearer key-1"
    await router.set_route(replace(route(X, await door.backend("x")), access=access("key", right)))
    answer = await get(door.port, f"{X}/p", f"Authorization: {right}", "Authorization: Bearer other")
    assert answer.status == 401


async def test_keys_change_without_a_gap(door: Door, router: Router) -> None:
    old, new = "Bearer one", "Bearer two"
    plain = route(X, await door.backend("x"))
    statuses = []
    for allowed in ([old], [old, new], [new], []):
        await router.set_route(replace(plain, access=access("key", *allowed)))
        statuses.append([(await get(door.port, X, f"Authorization: {one}")).status for one in (old, new)])
    assert statuses == [[200, 401], [200, 200], [401, 200], [401, 401]]
    await router.set_route(plain)
    assert (await get(door.port, X)).status == 200


async def test_a_key_of_one_deployment_is_no_key_of_another(door: Door, router: Router) -> None:
    backend = await door.backend("x")
    for prefix, key in ((X, "Bearer x"), (Y, "Bearer y")):
        await router.set_route(replace(route(prefix, backend), access=access("key", key)))
    assert (await get(door.port, X, "Authorization: Bearer y")).status == 401
    assert (await get(door.port, Y, "Authorization: Bearer y")).status == 200


async def test_a_large_body_is_refused_before_it_is_sent(door: Door, router: Router) -> None:
    backend = await door.backend("x")
    await router.set_route(replace(route(X, backend), limits=Limits(body=1000)))
    assert (await get(door.port, X, method="POST", body=b"b" * 1000)).status == 200
    answer = await get(door.port, X, "Content-Length: 1001", "Expect: 100-continue", method="POST")
    assert (answer.status, code(answer)) == (413, "too_large")
    answer = await get(door.port, X, "Transfer-Encoding: chunked", method="POST")
    assert (answer.status, code(answer)) == (411, "length_required")
    assert (await get(door.port, X)).status == 200
    assert backend.requests == 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="no program that speaks HTTP/2")
async def test_over_http2_a_request_without_a_body_needs_no_length(door: Door, router: Router) -> None:
    backend = await door.backend("x")
    await router.set_route(replace(route(X, backend), limits=Limits(body=1000)))

    async def curl(*arguments: str, body: bytes = b"") -> str:
        argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "--http2-prior-knowledge"]
        pipe = asyncio.subprocess.PIPE
        url = f"http://127.0.0.1:{door.port}{X}/count"
        child = await asyncio.create_subprocess_exec(*argv, *arguments, url, stdin=pipe, stdout=pipe)
        async with asyncio.timeout(DEADLINE_S):
            return (await child.communicate(body))[0].decode()

    for method in ("GET", "DELETE", "POST"):
        assert await curl("-X", method) == "2 200"
    assert await curl("--data-binary", "abc") == "2 200"
    served = backend.requests
    for method in ("GET", "DELETE", "PUT"):
        refused = await curl("-T", "-", "-X", method, body=b"b" * 100)
        assert refused in ("2 411", "0 000"), "a body of unknown length, which may be cut off before it has heard why"
    assert backend.requests == served


@pytest.mark.parametrize("window", [10.0, 60.0])
async def test_a_client_that_asks_too_often_is_told_and_others_are_not(
    door: Door, router: Router, window: float
) -> None:
    keys = ["Bearer a", "Bearer b"]
    limited = replace(route(X, await door.backend("x")), limits=Limits(requests=5, window_s=window))
    await router.set_route(replace(limited, access=access("key", *keys)))
    await router.set_route(route(Y, await door.backend("y")))
    for key in keys:
        answers = [await get(door.port, X, f"Authorization: {key}") for _ in range(8)]
        assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
        assert code(answers[-1]) == "too_many_requests"
        assert answers[-1].headers["retry-after"] == "2"
    assert [(await get(door.port, Y)).status for _ in range(8)] == [200] * 8


async def test_a_silent_server_is_given_up_after_the_routes_own_time(door: Door, router: Router) -> None:
    backend = await door.backend("x")
    await router.set_route(replace(route(X, backend), limits=Limits(timeout_s=0.3)))
    began = asyncio.get_running_loop().time()
    answer = await get(door.port, f"{X}/slow")
    assert answer.status == 504
    assert asyncio.get_running_loop().time() - began >= 0.3


async def test_every_request_has_an_id_and_a_callers_own_is_kept(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    client = Client(door.port)
    seen = set()
    for _ in range(3):
        answer = await client.ask(f"{A}/")
        _, headers = parse_head(answer.body.split(b"\n", 1)[1])
        assert answer.headers["x-request-id"] == headers["x-request-id"]
        seen.add(answer.headers["x-request-id"])
    await client.close()
    assert len(seen) == 3
    assert (await get(door.port, f"{A}/", "X-Request-ID: my-1")).headers["x-request-id"] == "my-1"
    for bad in ("a b", "x" * 129, 'a"b', "a;b"):
        assert (await get(door.port, f"{A}/", f"X-Request-ID: {bad}")).headers["x-request-id"] != bad


async def test_a_get_goes_to_another_server_where_one_says_nothing_and_a_post_does_not(
    door: Door, router: Router
) -> None:
    silent, good = await door.backend("silent"), await door.backend("good")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        silent.requests += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        targets = (Target("silent", server.sockets[0].getsockname()[1]), Target("good", good.port))
        await router.set_route(Route(X, targets, strip=False))
        assert [(await get(door.port, X)).status for _ in range(6)] == [200] * 6
        assert silent.requests > 0
        before = silent.requests + good.requests
        statuses = [(await get(door.port, X, method="POST", body=b"{}")).status for _ in range(6)]
        assert statuses.count(502) == silent.requests + good.requests - before - statuses.count(200)
        assert set(statuses) == {200, 502}
