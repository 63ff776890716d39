"""Which path goes where, and what everybody learns of the other."""

from __future__ import annotations

import pytest

from appliance.errors import UsageError
from appliance.router.router import Router
from appliance.router.table import Route, Target
from tests.integration.router.door import (
    NEEDS,
    A,
    Door,
    X,
    get,
    parse_head,
    route,
    target_of,
    word,
)
from tests.support.ports import free_port

pytestmark = NEEDS


async def test_paths_go_to_their_route_and_all_others_to_the_daemon(door: Door, router: Router) -> None:
    await door.daemon()
    await router.set_route(route(A, await door.backend("a")))
    await router.set_route(route(X, await door.backend("x"), strip=True))
    ours = [A, f"{A}/", f"{A}?q=1", f"{A}/lab/tree/b%2Fc%20d?x=%2F", f"{A}//b", f"{A}/../b"]
    for path in ours:
        answer = await get(door.port, path)
        assert (word(answer), target_of(answer)) == ("a", path)
    others = ["/", "/v1/runs", "/healthz", "/notebooks", "/notebooks/", "/notebooks/ab", "/notebooks/A", "/Notebooks/a"]
    others += [
        "//notebooks/a",
        "/./notebooks/a",
        "/notebooks//a",
        "/notebooks/%61",
        "/notebooks%2Fa",
        "/v1/../notebooks/a",
    ]
    others += ["/deployments/a", "/notebooks/x", "/?/notebooks/a", "/x/notebooks/a"]
    for path in others:
        answer = await get(door.port, path)
        assert (word(answer), target_of(answer)) == ("daemon", path), path


async def test_the_prefix_is_taken_off_where_the_route_says_so(door: Door, router: Router) -> None:
    await router.set_route(route(X, await door.backend("x"), strip=True))
    seen = {
        X: "/",
        f"{X}/": "/",
        f"{X}?q=1": "/?q=1",
        f"{X}/predict?q=/deployments/x": "/predict?q=/deployments/x",
        f"{X}//a/../b%2Fc": "//a/../b%2Fc",
        f"{X}/deployments/x/y": "/deployments/x/y",
    }
    for path, expected in seen.items():
        answer = await get(door.port, path)
        assert target_of(answer) == expected
        assert b"x-forwarded-prefix: /deployments/x\r\n" in answer.body


async def test_a_backend_learns_who_asked_and_cannot_be_lied_to(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    lies = ["X-Forwarded-For: 6.6.6.6", "x-forwarded-PROTO: ftp", "X-Forwarded-Prefix: /lie", "Forwarded: for=6.6.6.6"]
    lies += ["X_Forwarded_For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "X-Forwarded-Server: lie"]
    answer = await get(door.port, f"{A}/", *lies, "Authorization: token t")
    _, headers = parse_head(answer.body.split(b"\n", 1)[1])
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == headers["host"] == "door.test:7070"
    assert headers["x-forwarded-prefix"] == A
    assert headers["authorization"] == "token t"
    assert b"6.6.6.6" not in answer.body
    assert b"lie" not in answer.body


async def test_a_dead_daemon_is_told_to_programs_and_to_browsers(door: Door, router: Router) -> None:
    answer = await get(door.port, "/v1/runs", "Accept: application/json")
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert b'"code": "daemon_down"' in answer.body
    page = await get(door.port, f"{A}/lab", "Accept: text/html,*/*")
    assert (page.status, page.headers["retry-after"]) == (503, "2")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b'http-equiv="refresh"' in page.body
    await door.daemon()
    assert word(await get(door.port, "/v1/runs")) == "daemon"


async def test_a_server_that_is_gone_or_crashes_is_a_clear_problem(door: Door, router: Router) -> None:
    await router.set_route(Route(A, (Target("gone", free_port()),), strip=False))
    answer = await get(door.port, f"{A}/")
    assert (answer.status, b"The server behind this path" in answer.body) == (503, True)
    crashing = await door.backend("x")
    await router.set_route(route(X, crashing))
    answer = await get(door.port, f"{X}/crash", method="POST", body=b"{}")
    assert (answer.status, b"Bad Gateway" in answer.body) == (502, True)
    assert crashing.requests == 1, "a request that was sent is never sent again"


async def test_a_server_cannot_pass_for_the_doors_own_page(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    answer = await get(door.port, f"{A}/forge")
    assert "content-type" not in answer.headers
    assert "x-appliance-page" not in answer.headers


async def test_a_route_without_ready_targets_is_the_daemons(door: Door, router: Router) -> None:
    await door.daemon()
    backend = await door.backend("a")
    await router.set_route(Route(A, (), strip=False))
    assert word(await get(door.port, A)) == "daemon"
    await router.set_route(route(A, backend))
    assert word(await get(door.port, A)) == "a"
    await router.set_route(Route(A, (), strip=False))
    assert word(await get(door.port, A)) == "daemon"
    await router.set_route(route(A, backend))
    await router.drop_route(A)
    await router.drop_route(A)
    assert word(await get(door.port, A)) == "daemon"
    assert (await router.status()).routes == ()


async def test_a_restarted_container_is_followed_to_its_port(door: Door, router: Router) -> None:
    first, second = await door.backend("first"), await door.backend("second")
    for backend in (first, second, first):
        await router.set_route(Route(A, (Target("same", backend.port),), strip=False))
        assert word(await get(door.port, A)) == backend.name


async def test_replicas_share_the_requests(door: Door, router: Router) -> None:
    await router.set_route(route(X, await door.backend("one"), await door.backend("two")))
    answered = [word(await get(door.port, X)) for _ in range(10)]
    assert min(answered.count("one"), answered.count("two")) >= 3


async def test_bad_routes_are_refused_and_change_nothing(door: Door, router: Router) -> None:
    before = (door.directory / "router" / "routes.json").read_text()
    for bad in (Route("/notebooks/a\nx", (), strip=False), Route(A, (Target("a b", 1),), strip=False)):
        with pytest.raises(UsageError):
            await router.set_route(bad)
    assert (door.directory / "router" / "routes.json").read_text() == before
