"""What a notebook's own token opens behind the front door: the history of that notebook, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from appliance.api.app import behind_token, build_app
from appliance.api.auth import AT_ONCE, WAITING, notebook_of, own_token
from appliance.api.routes import notebooks as notebook_routes
from appliance.settings import Settings
from appliance.state import resources
from tests.conftest import Clock
from tests.unit.api.test_api import TOKEN, is_problem
from tests.unit.api.test_notebook_history import BASE, NotebookHouse

pytestmark = pytest.mark.anyio

OWN = "0123456789abcdef0123456789abcdef"
OPENED = [
    ("GET", "history"),
    ("GET", "history/file"),
    ("GET", "diff"),
    ("GET", "diff/file"),
    ("GET", "files"),
    ("GET", "file"),
    ("POST", "snapshot"),
    ("POST", "restore"),
    ("PUT", "snapshots/2561ebfc08/hold"),
    ("DELETE", "snapshots/2561ebfc08/hold"),
]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Front:
    """The front door of a house with two notebooks, each with a token."""

    def __init__(self, house: NotebookHouse) -> None:
        self.house = house
        self.app = build_app(house.parts)
        transport = httpx2.ASGITransport(behind_token(self.app, TOKEN, own_token(house.db)))
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://x")

    async def ask(self, method: str, path: str, authorization: str, body: Any = None) -> httpx2.Response:
        return await self.client.request(method, path, headers={"Authorization": authorization}, json=body)


@pytest.fixture
async def front(tmp_path: Path, settings: Settings, clock: Clock) -> AsyncIterator[Front]:
    house = NotebookHouse(tmp_path, settings, clock)
    await house.apply("kind: notebook\nname: other\n", "b.yaml")
    root = await house.begin()
    (root / "a").write_text("x")
    with house.db.write() as db:
        for name, token in (("nb", OWN), ("other", "f" * 32)):
            found = resources.get(db, "notebook", name)
            db.execute("UPDATE resources SET status = ? WHERE uid = ?", (json.dumps({"token": token}), found.uid))
    yield Front(house)
    house.db.close()


async def test_of_all_that_the_api_has_only_these_are_opened(front: Front) -> None:
    """Whatever else there is, and whatever comes later, asks for the daemon's token."""
    app: Any = front.app
    found = set()
    for route in app._app.routes:  # inside the limit of bodies
        path = route.path.replace("{name}", "nb").replace("{snapshot}", "2561ebfc08").replace("{plural}", "notebooks")
        found |= {(method, path) for method in METHODS if notebook_of(method, path)}
    assert found == {(method, f"{BASE}/{what}") for method, what in OPENED}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/notebooks/nb",
        "/v1/notebooks/nb/",
        "/v1/notebooks/nb/access",
        "/v1/notebooks/nb/terminal",
        "/v1/notebooks/nb/rollback",
        "/v1/notebooks/nb/undo",
        "/v1/notebooks/nb/fork",
        "/v1/notebooks/nb/prune",
        "/v1/notebooks/nb/export",
        "/v1/notebooks/nb/rename",
        "/v1/notebooks/nb/stop",
        "/v1/notebooks/nb/runs",
        "/v1/notebooks/nb/history/",
        "/v1/notebooks/nb/history\n",
        "/v1/notebooks/nb//history",
        "/v1/notebooks/../notebooks/nb/history",
        "/v1/notebooks/nb/../other/history",
        "/v1/notebooks//history",
        "/v1/notebooks/nb/x/history",
        "/V1/notebooks/nb/history",
        "/v1/notebooks/nb/snapshots/a/b/hold",
        "/v1/notebooks/nb/snapshots//hold",
        "/v1/deployments/nb/history",
        "/v1/status",
        "/v1/secrets",
        "/x/v1/notebooks/nb/history",
    ],
)
def test_no_other_path_belongs_to_a_notebook(path: str) -> None:
    assert {notebook_of(method, path) for method in METHODS} == {""}


@pytest.mark.parametrize("scheme", ["token", "Token", "Bearer", "bearer"])
async def test_its_own_history_opens_with_the_token_as_jupyter_writes_it(front: Front, scheme: str) -> None:
    answer = await front.ask("GET", f"{BASE}/files", f"{scheme} {OWN}")
    assert [entry["name"] for entry in answer.json()["items"]] == ["a"]
    assert (await front.ask("POST", f"{BASE}/snapshot", f"{scheme} {OWN}")).status_code == 200


@pytest.mark.parametrize(
    "given",
    ["", "token", "token ", "Bearer", "token " + OWN[:-1], "token " + "f" * 32, "Basic " + OWN, OWN, "token \xff"],
)
async def test_another_token_does_not(front: Front, given: str) -> None:
    headers = [(b"authorization", given.encode("latin-1"))]
    answer = await front.client.request("GET", f"{BASE}/history", headers=headers)
    assert answer.status_code == 401


async def test_it_opens_neither_another_notebook_nor_one_that_is_not_there(front: Front) -> None:
    mine = f"token {OWN}"
    assert (await front.ask("GET", "/v1/notebooks/other/history", mine)).status_code == 401
    assert (await front.ask("GET", "/v1/notebooks/none/history", mine)).status_code == 401
    assert (await front.ask("GET", "/v1/notebooks/none/history", "token ")).status_code == 401
    assert (await front.ask("GET", f"{BASE}/access", mine)).status_code == 401
    assert (await front.ask("DELETE", BASE, mine)).status_code == 401
    assert (await front.ask("GET", "/v1/status", mine)).status_code == 401
    assert (await front.ask("GET", "/v1/notebooks/nb%2F..%2Fother/history", mine)).status_code == 401


async def test_the_daemons_token_is_a_bearer_and_opens_all(front: Front) -> None:
    assert (await front.ask("GET", "/v1/status", f"Bearer {TOKEN}")).status_code == 200
    assert (await front.ask("GET", f"{BASE}/history", f"Bearer {TOKEN}")).status_code == 200
    assert (await front.ask("GET", f"{BASE}/history", f"token {TOKEN}")).status_code == 401


async def test_a_notebook_that_never_had_a_token_or_is_being_deleted_opens_to_none(front: Front) -> None:
    await front.house.apply("kind: notebook\nname: fresh\n", "c.yaml")
    for given in ("token ", "token", "Bearer "):
        assert (await front.ask("GET", "/v1/notebooks/fresh/history", given)).status_code == 401
    with front.house.db.write() as db:
        db.execute("UPDATE resources SET deleting = 1 WHERE name = 'nb'")
    assert (await front.ask("GET", f"{BASE}/history", f"token {OWN}")).status_code == 401


MINE, DAEMONS = f"token {OWN}", f"Bearer {TOKEN}"


def hold_of(snapshot: str) -> str:
    return f"{BASE}/snapshots/{snapshot}/hold"


async def test_what_is_said_with_a_snapshot_is_bounded(front: Front) -> None:
    long = {"message": "x" * (notebook_routes.MOST_MESSAGE + 1)}
    for who in (MINE, DAEMONS):
        is_problem(await front.ask("POST", f"{BASE}/snapshot", who, long), 400, "usage")
    assert (await front.ask("GET", f"{BASE}/history", MINE)).json()["items"] == []


@pytest.mark.parametrize(("pause_s", "most"), [(1, notebook_routes.MOST_A_MINUTE), (61, 30)])
async def test_a_session_keeps_so_many_moments_and_no_more(
    front: Front, clock: Clock, monkeypatch: pytest.MonkeyPatch, pause_s: int, most: int
) -> None:
    monkeypatch.setattr(notebook_routes, "MOST_A_DAY", 30)
    kept = ""
    for number in range(most):
        verb, body = ("restore", {"snapshot": kept, "path": "a"}) if number == 1 else ("snapshot", {"message": ""})
        answer = await front.ask("POST", f"{BASE}/{verb}", MINE, body)
        assert answer.status_code == 200, number
        kept = answer.json()["id"]
        clock.now += pause_s
    is_problem(await front.ask("POST", f"{BASE}/snapshot", MINE, {}), 429, "too_many")
    is_problem(await front.ask("POST", f"{BASE}/restore", MINE, {"snapshot": kept, "path": "a"}), 429, "too_many")
    assert (await front.ask("POST", f"{BASE}/snapshot", DAEMONS, {})).status_code == 200
    clock.now += 86_400
    assert (await front.ask("POST", f"{BASE}/snapshot", MINE, {})).status_code == 200


async def test_a_session_lets_go_only_of_what_it_holds(front: Front) -> None:
    kept = (await front.ask("POST", f"{BASE}/snapshot", DAEMONS, {})).json()["id"]
    assert (await front.ask("PUT", hold_of(kept), DAEMONS, {"reason": "thesis"})).status_code == 204
    refused = await front.ask("DELETE", hold_of(kept), MINE)
    is_problem(refused, 404, "not_found")
    assert f"`appliance notebook release nb {kept}`" in refused.json()["hint"]
    assert (await front.ask("PUT", hold_of(kept), MINE, {"reason": "mine"})).status_code == 204
    items = (await front.ask("GET", f"{BASE}/history", MINE)).json()["items"]
    assert items[0]["held"] == ["user: thesis", "notebook: mine"]
    assert (await front.ask("DELETE", hold_of(kept), MINE)).status_code == 204
    assert (await front.ask("PUT", hold_of(kept), MINE, {})).status_code == 204
    assert (await front.ask("DELETE", hold_of(kept), DAEMONS)).status_code == 204, "the user's goes, and the session's"
    assert (await front.ask("GET", f"{BASE}/history", MINE)).json()["items"][0]["held"] == []
    is_problem(await front.ask("DELETE", hold_of(kept), DAEMONS), 404, "not_found")


async def test_a_session_holds_so_many_and_no_more(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook_routes, "MOST_OWN_HOLDS", 2)
    moments = [(await front.ask("POST", f"{BASE}/snapshot", DAEMONS, {})).json()["id"] for _ in range(3)]
    for snapshot in moments[:2]:
        assert (await front.ask("PUT", hold_of(snapshot), MINE, {})).status_code == 204
    is_problem(await front.ask("PUT", hold_of(moments[2]), MINE, {}), 409, "conflict")
    assert (await front.ask("PUT", hold_of(moments[0]), MINE, {"reason": "why"})).status_code == 204
    assert (await front.ask("PUT", hold_of(moments[2]), DAEMONS, {})).status_code == 204


async def test_a_session_waits_for_its_turn_and_nobody_else_does() -> None:
    gate, entered = asyncio.Event(), asyncio.Semaphore(0)
    inside, most = 0, 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        entered.release()
        await gate.wait()
        inside -= 1
        await PlainTextResponse("")(scope, receive, send)

    transport = httpx2.ASGITransport(behind_token(app, TOKEN, lambda name: OWN))
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:

        async def ask(name: str, who: str) -> int:
            headers = {"Authorization": who}
            return (await client.get(f"/v1/notebooks/{name}/files", headers=headers)).status_code

        async with asyncio.timeout(60):
            mine = [asyncio.create_task(ask("nb", MINE)) for _ in range(AT_ONCE + WAITING)]
            for _ in range(AT_ONCE):
                await entered.acquire()
            assert await ask("nb", MINE) == 429
            others = [asyncio.create_task(ask(*asked)) for asked in (("other", MINE), ("nb", DAEMONS))]
            for _ in others:
                await entered.acquire()
            mine.pop().cancel()  # one that has gone gives its turn back
            gate.set()
            assert set(await asyncio.gather(*others)) == {200}
            assert set(await asyncio.gather(*mine)) == {200}
        assert most == AT_ONCE + 2
        assert await ask("nb", MINE) == 200
