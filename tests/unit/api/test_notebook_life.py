"""A notebook's life over HTTP: changed, renamed, deleted and brought back, out into a file and in from one."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from appliance.api.app import behind_token, build_app
from appliance.errors import Unavailable
from appliance.notebooks import carrying
from appliance.state import resources
from tests.unit.api.test_api import TOKEN, House, is_problem
from tests.unit.notebooks.test_controller import House as Notebooks
from tests.unit.notebooks.test_controller import house as notebooks

__all__ = ["notebooks"]
pytestmark = pytest.mark.anyio
BASE = "/v1/notebooks"


class LifeHouse:
    """The API over notebooks whose engine obeys the test."""

    def __init__(self, notebooks: Notebooks, plain: House) -> None:
        self.notebooks = notebooks
        self.parts = dataclasses.replace(
            plain.parts,
            db=notebooks.db,
            settings=notebooks.settings,
            workspaces=notebooks.workspaces,
            notebooks=notebooks.notebooks,
            clock=notebooks.clock,
            hint=lambda kind, uid: notebooks.hints.append(uid),
        )
        app = build_app(self.parts)
        self.door = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x")
        front = httpx2.ASGITransport(behind_token(app, TOKEN))
        self.front = httpx2.AsyncClient(transport=front, base_url="http://x")

    async def begin(self) -> str:
        """The uid of a notebook that runs and has a file."""
        self.notebooks.declare({"kind": "notebook", "name": "nb", "image": "one", "env": {"A": "secret:KEY"}})
        self.notebooks.vault.set("KEY", "hush-hush")
        row = await self.notebooks.run("Running")
        (await self.parts.workspaces.open(row.uid) / "a.txt").write_text("precious")
        return row.uid

    async def post(self, path: str, **body: Any) -> httpx2.Response:
        return await self.door.post(f"{BASE}/{path}", json=body)


@pytest.fixture
async def house(notebooks: Notebooks, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LifeHouse]:
    plain = House(tmp_path_factory.mktemp("plain"), notebooks.settings, notebooks.clock)
    yield LifeHouse(notebooks, plain)
    plain.db.close()


async def test_deleted_listed_and_brought_back(house: LifeHouse) -> None:
    uid = await house.begin()
    answer = await house.door.delete(f"{BASE}/nb")
    assert answer.status_code == 202
    assert answer.json()["until"] == house.notebooks.clock() + 7 * 86_400
    await house.notebooks.drop()
    (row,) = (await house.door.get("/v1/trash")).json()["items"]
    assert (row["name"], row["uid"], row["bytes"], row["going"]) == ("nb", uid, None, False)
    assert "token" not in row
    is_problem(await house.front.get("/v1/trash"), 401, "forbidden")
    lost = is_problem(await house.door.get(f"{BASE}/nb"), 404, "not_found")
    assert lost["hint"] == "`appliance notebook undelete nb` brings it back"
    again = await house.door.post(
        "/v1/apply", json={"text": "kind: notebook\nname: nb\n", "file": "f", "dry_run": True}
    )
    assert "undelete nb --as NEW" in again.json()["items"][0]["warnings"][0]
    back = await house.door.post("/v1/trash/nb/undelete", json={"name": "back"})
    assert (back.status_code, back.json()["name"], back.json()["uid"]) == (200, "back", uid)
    assert "token" not in back.json()["status"]
    is_problem(await house.door.post("/v1/trash/nb/undelete", json={}), 404, "not_found")


async def test_for_ever_only_with_its_name(house: LifeHouse) -> None:
    uid = await house.begin()
    assert "--purge --confirm nb" in is_problem(await house.door.delete(f"{BASE}/nb?purge=1"), 409, "conflict")["hint"]
    assert (await house.door.delete(f"{BASE}/nb?purge=1&confirm=nb")).json() == {"until": None}
    await house.notebooks.drop()
    assert house.notebooks.store.volumes("workspaces") == []
    uid = await house.begin()
    await house.door.delete(f"{BASE}/nb")
    await house.notebooks.drop()
    is_problem(await house.door.delete(f"/v1/trash/{uid}?confirm=nb"), 409, "conflict")
    assert (await house.door.delete(f"/v1/trash/{uid}?confirm={uid}")).status_code == 204
    assert (await house.door.get("/v1/trash")).json() == {"items": []}


async def test_where_nothing_is_kept_the_name_is_asked_for(house: LifeHouse) -> None:
    await house.begin()
    house.parts.settings = dataclasses.replace(house.parts.settings, keep_deleted_days=0)
    is_problem(await house.door.delete(f"{BASE}/nb"), 409, "conflict")
    assert (await house.door.delete(f"{BASE}/nb?confirm=nb")).json() == {"until": None}
    assert house.notebooks.row.purging


async def test_set_restart_and_rename(house: LifeHouse) -> None:
    uid = await house.begin()
    changed = (await house.post("nb/set", image="two", env={"B": "1"}, unset_env=["A"], generation=1)).json()
    assert (changed["session"], changed["notebook"]["spec"]["env"]) == (True, {"B": "1"})
    assert (changed["notebook"]["spec"]["image"], changed["notebook"]["generation"]) == ("two", 2)
    is_problem(await house.post("nb/set", image="three", generation=1), 409, "conflict")
    is_problem(await house.post("nb/set", command="x"), 400, "usage")
    is_problem(await house.post("nb/set", user="root"), 422, "invalid_spec")
    assert (await house.post("nb/restart")).status_code == 202
    renamed = (await house.post("nb/rename", name="new")).json()
    assert (renamed["name"], renamed["uid"]) == ("new", uid)
    is_problem(await house.post("nb/rename", name="x"), 404, "not_found")


async def test_exported_and_imported_it_is_the_same_without_what_is_private(house: LifeHouse) -> None:
    uid = await house.begin()
    answer = await house.door.get(f"{BASE}/nb/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="nb.tar.gz"'
    assert len(house.parts.workspaces.timeline(uid)) == 2, "of a session that runs a snapshot is exported"
    await house.door.get(f"{BASE}/nb/export")
    assert len(house.parts.workspaces.timeline(uid)) == 2, "nothing has changed since"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as found:
        spec = found.extractfile("notebook.yaml").read().decode()  # type: ignore[union-attr]
        assert "secret:KEY" in spec
        everything = spec.encode() + b"".join(found.extractfile(name).read() for name in found if name.isfile())  # type: ignore
    assert b"hush-hush" not in everything
    assert house.notebooks.row.status["token"].encode() not in everything

    is_problem(await house.door.post(f"{BASE}/import", content=answer.content), 409, "conflict")
    made = await house.door.post(f"{BASE}/import?name=copy", content=answer.content)
    assert made.status_code == 201
    assert (made.json()["name"], made.json()["desired"], made.json()["spec"]["image"]) == ("copy", "stopped", "one")
    path = await house.parts.workspaces.open(made.json()["uid"])
    assert (path / "a.txt").read_text() == "precious"
    assert made.json()["uid"] in house.notebooks.hints


async def test_the_files_of_then(house: LifeHouse) -> None:
    uid = await house.begin()
    taken = (await house.post("nb/snapshot")).json()["id"]
    (await house.parts.workspaces.open(uid) / "a.txt").write_text("later")
    then = await house.door.get(f"{BASE}/nb/export?at={taken}")
    await house.door.post(f"{BASE}/import?name=then&start=1", content=then.content)
    made = resources.get(house.parts.db.read, "notebook", "then")
    assert made.desired == "running"
    assert (await house.parts.workspaces.open(made.uid) / "a.txt").read_text() == "precious"
    is_problem(await house.door.get(f"{BASE}/nb/export?at=none"), 404, "not_found")


async def test_never_started_it_has_a_spec_and_no_files(house: LifeHouse) -> None:
    house.notebooks.declare({"kind": "notebook", "name": "nb"})
    content = (await house.door.get(f"{BASE}/nb/export")).content
    assert (await house.door.post(f"{BASE}/import?name=copy", content=content)).status_code == 201


@pytest.mark.parametrize("bad", [b"", b"\x1f\x8b" + b"x" * 50, b"\0" * 1024, b"x" * 5_000_000])
async def test_of_what_is_no_archive_nothing_is_left(house: LifeHouse, bad: bytes) -> None:
    is_problem(await house.door.post(f"{BASE}/import?name=copy", content=bad), 400, "usage")
    await nothing_is_left(house)


async def nothing_is_left(house: LifeHouse) -> None:
    assert house.notebooks.store.volumes("workspaces") == []
    assert resources.every(house.parts.db.read, "notebook") == []


async def test_a_name_that_is_taken_is_refused_before_the_files_are_read(house: LifeHouse) -> None:
    await house.begin()
    content = (await house.door.get(f"{BASE}/nb/export")).content
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for start in range(0, len(content), 16):
            sent += 1
            yield content[start : start + 16]

    is_problem(await house.door.post(f"{BASE}/import?name=nb", content=pieces()), 409, "conflict")
    assert sent <= 1


async def test_a_sender_that_falls_silent_leaves_nothing(house: LifeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "SILENT_S", 0.05)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"\x1f\x8b"
        await asyncio.Event().wait()

    with pytest.raises(Exception, match="nothing came for"):
        await house.notebooks.notebooks.carrying.take(pieces(), asyncio.Event(), "copy")
    await nothing_is_left(house)


async def test_a_daemon_that_stops_does_not_wait_for_a_silent_sender(house: LifeHouse) -> None:
    stopping, silent = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"\x1f\x8b"
        silent.set()
        await asyncio.Event().wait()

    taking = asyncio.create_task(house.notebooks.notebooks.carrying.take(pieces(), stopping, "copy"))
    async with asyncio.timeout(carrying.SILENT_S / 2):
        await silent.wait()
        stopping.set()
        with pytest.raises(Unavailable, match="stopping"):
            await taking
    await nothing_is_left(house)


async def test_a_daemon_that_stops_breaks_both_off(house: LifeHouse) -> None:
    stopping = asyncio.Event()
    stopping.set()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    with pytest.raises(Unavailable, match="stopping"):
        await house.notebooks.notebooks.carrying.take(pieces(), stopping, "copy")
    await nothing_is_left(house)
    await house.begin()
    house.parts.stopping.set()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    path = f"{BASE}/nb/export"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    await build_app(house.parts)(scope, receive, send)
    assert sent[0]["status"] == 200
    assert all(message["more_body"] for message in sent[1:]), "it has no end, so the reader sees that it is cut"


async def test_while_space_is_low_nothing_comes_in_and_files_still_go_out(house: LifeHouse) -> None:
    uid = await house.begin()
    house.notebooks.no_room = "waits: the disk is nearly full"
    before = len(house.parts.workspaces.timeline(uid))
    content = (await house.door.get(f"{BASE}/nb/export")).content
    assert len(house.parts.workspaces.timeline(uid)) == before, "no snapshot is taken for it"
    is_problem(await house.door.post(f"{BASE}/import?name=copy", content=content), 507, "no_space")


async def test_a_spec_of_something_else_is_refused(house: LifeHouse) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as file:
        text = b"kind: dataset\nname: d\n"
        info = tarfile.TarInfo("notebook.yaml")
        info.size = len(text)
        file.addfile(info, io.BytesIO(text))
    is_problem(await house.door.post(f"{BASE}/import", content=made.getvalue()), 400, "usage")
    await nothing_is_left(house)
