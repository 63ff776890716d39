"""The page of a history: what the daemon gives a browser, and under which policy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from appliance.api import pages
from appliance.settings import Settings
from tests.conftest import Clock
from tests.unit.api.test_api import is_problem
from tests.unit.api.test_notebook_history import BASE, NotebookHouse

pytestmark = pytest.mark.anyio

DIGEST, FILES = pages.read()
SCRIPTS = [name for name in FILES if name.endswith(".js")]


@pytest.fixture
def house(tmp_path: Path, settings: Settings, clock: Clock) -> Iterator[NotebookHouse]:
    made = NotebookHouse(tmp_path, settings, clock)
    yield made
    made.db.close()


def policy(answer: httpx2.Response) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in answer.headers["content-security-policy"].split(";"))
    return {name: value for name, _, value in parts}


async def test_it_is_the_same_for_every_name_and_needs_no_token(house: NotebookHouse) -> None:
    await house.begin()
    found = await house.front.get("/history/nb")
    none = await house.front.get("/history/nobody")
    assert (found.status_code, found.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert found.content == none.content
    assert (await house.front.post("/history/nb")).status_code == 405


async def test_nothing_of_elsewhere_and_no_markup_from_text(house: NotebookHouse) -> None:
    answer = await house.front.get("/history/nb")
    rules = policy(answer)
    assert rules["default-src"] == "'self'"
    assert rules["img-src"] == "'self' data:"
    assert rules["frame-ancestors"] == "'self'"
    assert (rules["object-src"], rules["base-uri"], rules["form-action"]) == ("'none'",) * 3
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


async def test_every_file_that_it_names_is_there_and_kept_for_ever(house: NotebookHouse) -> None:
    page = (await house.front.get("/history/nb")).text
    named = re.findall(r'(?:src|href)="(/[^"]+)"', page)
    assert len(named) == 2
    seen = set()
    while named:
        address = named.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = await house.front.get(address)
        assert answer.status_code == 200, address
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        kind = "text/css" if address.endswith(".css") else "text/javascript"
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        folder = address.rpartition("/")[0]
        named += [f"{folder}/{name}" for name in re.findall(r'from "\./([a-z]+\.js)"', answer.text)]
    assert {address.rpartition("/")[2] for address in seen} == set(FILES) - {"history.html"}


@pytest.mark.parametrize(
    "path",
    [
        f"{DIGEST}/none.js",
        f"{DIGEST}/__init__.py",
        f"{DIGEST}/..%2F__init__.py",
        f"{DIGEST}/%2Fetc%2Fpasswd",
        "0000000000000000/history.js",
    ],
)
async def test_no_other_file_is_given(house: NotebookHouse, path: str) -> None:
    is_problem(await house.front.get(f"/history/-/{path}"), 404, "not_found")


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    page = FILES["history.html"].content.decode()
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == [""]
    assert "<style" not in page
    assert "style=" not in page
    assert re.search(r"\son[a-z]+=", page) is None


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_writes_markup_or_runs_text(name: str) -> None:
    script = FILES[name].content.decode()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "import("):
        assert word not in script, word
    assert re.findall(r"https?://", script) == []


async def test_a_files_own_timeline(house: NotebookHouse) -> None:
    root = await house.begin()
    (root / "other").write_text("x")
    await house.snapshot()
    name = "caf\udce9 <b>.txt"
    path = Path(f"{root}/{name}")
    path.write_text("one")
    added = await house.snapshot()
    (root / "other").write_text("y")
    same = await house.snapshot()
    path.write_text("three")
    query = {"path": r"caf\xe9 <b>.txt"}
    answer = (await house.trusted.get(f"{BASE}/history/file", params=query)).json()
    told = [(item["snapshot"], item["changed"], item["state"] and item["state"]["size"]) for item in answer["items"]]
    assert told[:2] == [(same, False, 3), (added, True, 3)]
    assert told[2][1:] == (False, None)
    assert (answer["now"]["size"], answer["now_changed"], answer["whole"]) == (5, True, True)
    some = (await house.trusted.get(f"{BASE}/history/file", params={**query, "limit": 1})).json()
    assert ([item["changed"] for item in some["items"]], some["whole"]) == ([False], False)
    is_problem(await house.trusted.get(f"{BASE}/history/file", params={"path": "../x"}), 400, "usage")
    is_problem(await house.trusted.get("/v1/notebooks/none/history/file"), 404, "not_found")


async def test_the_address_of_the_page_has_the_token_where_no_server_sees_it(house: NotebookHouse) -> None:
    await house.begin()
    with house.db.write() as db:
        db.execute("""UPDATE resources SET status = '{"token": "0123"}'""")
    answer = (await house.trusted.get(f"{BASE}/access")).json()
    assert answer["history_url"] == f"{house.parts.settings.url}/history/nb#token=0123"
