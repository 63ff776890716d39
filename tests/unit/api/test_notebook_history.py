"""The history of a notebook over HTTP, over real files."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from appliance.api import files
from appliance.notebooks.history import History
from appliance.notebooks.notebooks import Notebooks
from appliance.settings import Settings
from appliance.state import resources
from appliance.state.resources import Resource
from tests.conftest import Clock
from tests.unit.api.test_api import NOTEBOOK, House, is_problem

pytestmark = pytest.mark.anyio
BASE = "/v1/notebooks/nb"


class NotebookHouse(House):
    def __init__(self, home: Path, settings: Settings, clock: Clock) -> None:
        super().__init__(home, settings, clock)
        self.ended: list[str] = []
        history = History(
            db=self.db,
            workspaces=self.parts.workspaces,
            settings=settings,
            clock=clock,
            hint=self.hints.append,
            locks=defaultdict(asyncio.Lock),
            end_sessions=self.end_sessions,
        )
        self.parts.notebooks = cast(Notebooks, SimpleNamespace(history=history))

    async def end_sessions(self, notebook: Resource) -> None:
        self.ended.append(notebook.name)

    async def begin(self) -> Path:
        """The files of a notebook."""
        await self.apply(NOTEBOOK)
        return await self.parts.workspaces.open(resources.get(self.db.read, "notebook", "nb").uid)

    async def post(self, verb: str, body: Any = None, **more: Any) -> httpx2.Response:
        return await self.trusted.post(f"{BASE}/{verb}", json=body or {}, **more)

    async def snapshot(self) -> str:
        return str((await self.post("snapshot")).json()["id"])

    async def items(self) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", (await self.trusted.get(f"{BASE}/history")).json()["items"])


@pytest.fixture
def house(tmp_path: Path, settings: Settings, clock: Clock) -> Iterator[NotebookHouse]:
    made = NotebookHouse(tmp_path, settings, clock)
    yield made
    made.db.close()


async def test_the_timeline_says_who_and_how_much_and_what_is_held(house: NotebookHouse) -> None:
    root = await house.begin()
    (root / "a").write_text("x")
    author = {"X-Appliance-Author": "ad%C3%A1%1b[2J" + "x" * 100}
    kept = (await house.post("snapshot", {"message": "good"}, headers=author)).json()["id"]
    held = await house.trusted.put(f"{BASE}/snapshots/{kept}/hold", json={"reason": "the paper"})
    assert held.status_code == 204
    (entry,) = await house.items()
    assert entry["author"].startswith("adá[2Jxx")
    assert len(entry["author"]) == 64
    assert (entry["id"], entry["message"], entry["held"]) == (kept, "good", ["user: the paper"])
    assert entry["bytes"] > 0
    await house.snapshot()
    assert (await house.items())[0]["author"] == "api"
    assert (await house.trusted.delete(f"{BASE}/snapshots/{kept}/hold")).status_code == 204
    is_problem(await house.trusted.delete(f"{BASE}/snapshots/{kept}/hold"), 404, "not_found")
    is_problem(await house.trusted.put(f"{BASE}/snapshots/nope/hold", json={}), 404, "not_found")


async def test_files_are_listed_and_read_at_any_moment(house: NotebookHouse) -> None:
    root = await house.begin()
    (root / "d").mkdir()
    Path(f"{root}/d/caf\udce9").write_bytes(b"one")
    (root / "out").symlink_to("/etc")
    kept = await house.snapshot()
    Path(f"{root}/d/caf\udce9").write_bytes(b"two")

    listed = (await house.trusted.get(f"{BASE}/files")).json()
    assert [(entry["name"], entry["kind"]) for entry in listed["items"]] == [("d", "directory"), ("out", "link")]
    assert listed["items"][1]["target"] == "/etc"
    below = (await house.trusted.get(f"{BASE}/files", params={"path": "d", "at": kept})).json()
    assert [(entry["name"], entry["size"]) for entry in below["items"]] == [(r"caf\xe9", 3)]
    first = (await house.trusted.get(f"{BASE}/files", params={"limit": 1})).json()
    assert (len(first["items"]), first["total"]) == (1, 2)

    for at, content in ((kept, b"one"), ("now", b"two"), ("", b"two")):
        answer = await house.trusted.get(f"{BASE}/file", params={"path": r"d/caf\xe9", "at": at})
        assert answer.content == content
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment;")
    for path in ("out/passwd", "out", "none", "d"):
        is_problem(await house.trusted.get(f"{BASE}/file", params={"path": path}), 404, "not_found")
    is_problem(await house.trusted.get(f"{BASE}/file", params={"path": "../x"}), 400, "usage")
    is_problem(await house.trusted.get(f"{BASE}/file", params={"path": "a", "at": "nope"}), 404, "not_found")
    is_problem(await house.trusted.get("/v1/notebooks/none/files"), 404, "not_found")


async def test_a_large_file_comes_in_pieces_and_is_let_go(house: NotebookHouse) -> None:
    root = await house.begin()
    content = bytes(range(256)) * (3 * files.CHUNK // 256) + b"end"
    (root / "large").write_bytes(content)
    kept = await house.snapshot()
    answer = await house.trusted.get(f"{BASE}/file", params={"path": "large", "at": kept})
    assert answer.content == content
    assert answer.headers["content-length"] == str(len(content))
    house.parts.stopping.set()
    stopped = await house.trusted.get(f"{BASE}/file", params={"path": "large"})
    assert stopped.content == b"", "a download does not hold up the daemon's end"


async def test_one_file_is_restored_in_its_place_or_beside_it(house: NotebookHouse) -> None:
    root = await house.begin()
    (root / "a").write_text("one")
    kept = await house.snapshot()
    (root / "a").write_text("two")
    assert (await house.post("restore", {"snapshot": kept, "path": "a", "to": "b"})).status_code == 200
    before = (await house.post("restore", {"snapshot": kept, "path": "a"})).json()
    assert before["cause"] == "restore"
    assert ((root / "a").read_text(), (root / "b").read_text()) == ("one", "one")
    assert house.ended == []
    is_problem(await house.post("restore", {"snapshot": kept, "path": "a", "to": "b"}), 409, "conflict")
    is_problem(await house.post("restore", {"snapshot": kept, "path": "../a"}), 400, "usage")
    is_problem(await house.post("restore", {"snapshot": kept, "path": "none"}), 404, "not_found")
    is_problem(await house.post("restore", {"snapshot": "none", "path": "a"}), 404, "not_found")
    is_problem(await house.post("restore", {"path": "a"}), 400, "usage")


async def test_a_fork_is_another_notebook(house: NotebookHouse) -> None:
    root = await house.begin()
    (root / "a").write_text("one")
    made = await house.post("fork", {"name": "other"})
    assert (made.status_code, made.json()["name"], made.json()["desired"]) == (201, "other", "stopped")
    assert (await house.trusted.get("/v1/notebooks/other/file?path=a")).text == "one"
    is_problem(await house.post("fork", {"name": "other"}), 409, "conflict")
    is_problem(await house.post("fork", {"name": "../x"}), 400, "usage")
    is_problem(await house.post("fork", {"name": "third", "snapshot": "none"}), 404, "not_found")
    kept = await house.snapshot()
    started = await house.post("fork", {"name": "third", "snapshot": kept, "start": True})
    assert started.json()["desired"] == "running"


async def test_pruning_is_shown_before_it_is_done(house: NotebookHouse, clock: Clock) -> None:
    root = await house.begin()
    for number in range(3):
        (root / "a").write_text(str(number) * 5000)
        await house.snapshot()
    last = (await house.items())[0]["id"]
    clock.now += 40 * 86_400
    told = (await house.post("prune", {"dry_run": True})).json()
    assert [bool(item["why"]) for item in told["items"]] == [True, False, False]
    assert told["items"][0]["snapshot"]["id"] == last
    assert told["items"][0]["why"] == "the newest, hourly, daily, weekly, monthly"
    assert told["bytes"] >= 2 * 5000
    assert (told["exact"], told["dry_run"], len(await house.items())) == (True, True, 3)
    done = (await house.post("prune")).json()
    assert (done["bytes"], done["dry_run"]) == (told["bytes"], False)
    assert [item["id"] for item in await house.items()] == [last]
