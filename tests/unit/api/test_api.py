"""The API over real state and a real plain-directory store; only the engine, telemetry and notebooks are stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from appliance.api.app import behind_token, build_app
from appliance.api.parts import Parts
from appliance.apply import withdraw
from appliance.backup.backups import Backups
from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.datasets.uploads import Uploads
from appliance.engine.docker import Engine
from appliance.errors import all_errors
from appliance.history.measuring import SpaceReports
from appliance.history.workspaces import Workspaces
from appliance.notebooks.notebooks import Notebooks
from appliance.settings import Settings
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.room import Room
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogLine, LogQuery
from appliance.vault.registries import Registries
from appliance.vault.secrets import Secrets
from appliance.workflows.rooms import Rooms
from tests.conftest import Clock

pytestmark = pytest.mark.anyio

TOKEN = "t0k3n"
NOTEBOOK = "kind: notebook\nname: nb\n"
WORKFLOW = "jobs: {a: {uses: script@v1, with: {image: i, script: 'true'}}}"


class FakeTelemetry:
    async def logs(self, query: LogQuery) -> list[LogLine]:
        self.query = query
        return [LogLine(7, 1.0, "run", "w.1", "a", "c", "stdout", "<script>")]

    async def follow(self, query: LogQuery) -> AsyncIterator[list[LogLine]]:
        yield [LogLine(8, 1.0, "run", "w.1", "a", "c", "stdout", "one")]
        await asyncio.Event().wait()


class House:
    """The parts, the hints they gave, and a client at each door."""

    def __init__(self, home: Path, settings: Settings, clock: Clock) -> None:
        self.db = Database(home / "state.db")
        store = DirectoryStore(home / "volumes", "a test")
        self.datasets = Datasets(self.db, store, clock)
        self.telemetry = FakeTelemetry()
        self.hints: list[str] = []
        secrets = Secrets(self.db, home / "key", clock)
        self.parts = Parts(
            settings=settings,
            instance="0" * 8,
            token=TOKEN,
            db=self.db,
            engine=cast(Engine, None),
            datasets=self.datasets,
            models=Models(self.db, store, clock),
            uploads=Uploads(self.db, store, self.datasets, settings.uploads_dir, clock),
            workspaces=Workspaces(self.db, store, clock),
            telemetry=cast(Telemetry, self.telemetry),
            secrets=secrets,
            registries=Registries(self.db, secrets, clock),
            space=SpaceReports(self.db, store, Room(store, home, low=0, reserve=0), low=0, clock=clock),
            backups=cast(Backups, None),
            notebooks=cast(Notebooks, None),
            rooms=cast(Rooms, None),
            hint=lambda kind, uid: self.hints.append(kind),
            clock=clock,
            started=clock(),
        )
        app = build_app(self.parts)
        self.trusted = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x")
        front = httpx2.ASGITransport(behind_token(app, TOKEN))
        self.front = httpx2.AsyncClient(transport=front, base_url="http://x")

    async def apply(self, text: str, file: str = "a.yaml", **more: Any) -> httpx2.Response:
        return await self.trusted.post("/v1/apply", json={"text": text, "file": file, **more})


@pytest.fixture
def house(tmp_path: Path, settings: Settings, clock: Clock) -> Iterator[House]:
    made = House(tmp_path, settings, clock)
    yield made
    made.db.close()


def is_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    document = cast("dict[str, Any]", response.json())
    assert response.status_code == status, document
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "hint", "where"} <= document.keys()
    assert document["status"] == status
    assert document["code"] == code
    return document


@pytest.mark.parametrize(
    "path", ["/v1/status", "/v1/notebooks", "/v1/secrets", "/openapi.json", "/docs", "/metrics", "/x"]
)
async def test_the_front_door_wants_the_token_for_everything_but_health(house: House, path: str) -> None:
    is_problem(await house.front.get(path), 401, "forbidden")
    wrong = {"Authorization": "Bearer wrong"}
    is_problem(await house.front.get(path, headers=wrong), 401, "forbidden")
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert (await house.front.get(path, headers=right)).status_code != 401
    assert (await house.front.get("/healthz")).text == "ok\n"


@pytest.mark.parametrize(
    "kind",
    ["notebooks", "workflows", "runs", "deployments", "datasets", "models", "secrets", "registries", "specs", "events"],
)
async def test_every_listing_is_an_object_with_items(house: House, kind: str) -> None:
    assert (await house.trusted.get(f"/v1/{kind}")).json() == {"items": []}


async def test_apply_declares_hints_and_tells_what_changed(house: House) -> None:
    assert (await house.apply(NOTEBOOK)).json()["items"][0]["change"] == "created"
    assert (await house.apply(NOTEBOOK)).json()["items"][0]["change"] == "unchanged"
    assert house.hints == ["notebook"]
    assert (await house.trusted.get("/v1/notebooks/nb")).json()["spec"]["name"] == "nb"


async def test_a_dry_run_changes_nothing(house: House) -> None:
    answer = await house.apply(NOTEBOOK, dry_run=True)
    assert answer.json()["items"][0]["change"] == "created"
    assert (await house.trusted.get("/v1/notebooks")).json() == {"items": []}
    assert house.hints == []


@pytest.mark.parametrize(("verb", "desired"), [("start", "running"), ("stop", "stopped")])
async def test_what_is_switched_by_hand_is_no_longer_of_the_file_that_is_gone(
    house: House, verb: str, desired: str
) -> None:
    await house.apply(NOTEBOOK)
    with house.db.write() as db:
        uid = resources.get(db, "notebook", "nb").uid
        resources.set_source(db, uid, "file:nb.yaml")
        withdraw(db, "notebook", "nb", source="file:nb.yaml", now=0.0)
    assert (await house.trusted.post(f"/v1/notebooks/nb/{verb}")).json()["desired"] == desired
    assert resources.get(house.db.read, "notebook", "nb").source == "cli"


async def test_spec_problems_carry_their_places(house: House) -> None:
    problem = is_problem(await house.apply("kind: notebook\nname: nb\nimagee: x\n"), 422, "invalid_spec")
    assert (problem["problems"][0]["line"], problem["problems"][0]["column"]) == (3, 1)
    assert "image" in problem["problems"][0]["hint"]


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"text": 1, "file": "a"}', '{"text": "", "file": "a", "x": 1}'])
async def test_a_body_of_another_shape_is_a_usage_problem(house: House, body: str) -> None:
    answer = await house.trusted.post("/v1/apply", content=body)
    assert answer.json()["code"] in ("usage", "invalid_spec")


async def test_a_body_that_is_too_large_is_refused(house: House) -> None:
    is_problem(await house.trusted.post("/v1/apply", content=b" " * (5 << 20)), 413, "too_large")


async def test_unknown_names_paths_and_methods_are_problems(house: House) -> None:
    is_problem(await house.trusted.get("/v1/notebooks/none"), 404, "not_found")
    is_problem(await house.trusted.get("/v1/nothing"), 404, "not_found")
    is_problem(await house.trusted.put("/v1/status"), 405, "usage")
    is_problem(await house.trusted.get("/v1/runs/w.1"), 404, "not_found")
    is_problem(await house.trusted.get("/v1/logs?limit=x"), 400, "usage")


async def test_a_run_starts_shows_and_is_canceled(house: House) -> None:
    await house.apply(WORKFLOW, "train.yaml")
    started = await house.trusted.post("/v1/workflows/train/runs", json={})
    assert (started.status_code, started.json()["name"]) == (201, "train.1")
    shown = (await house.trusted.get("/v1/runs/train")).json()
    assert [job["name"] for job in shown["jobs"]] == ["a"]
    assert (await house.trusted.post("/v1/runs/train.1/cancel")).json()["phase"] == "Canceling"
    assert house.hints == ["workflow", "run", "run"]
    is_problem(await house.trusted.delete("/v1/workflows/train"), 409, "conflict")


async def test_logins_go_in_and_their_passwords_never_come_out(house: House) -> None:
    login = {"url": "https://ghcr.io", "username": "me", "password": "hunter22"}
    assert (await house.trusted.put("/v1/registries/mine", json=login)).status_code == 204
    listing = await house.trusted.get("/v1/registries")
    assert "hunter22" not in listing.text
    assert listing.json()["items"][0]["username"] == "me"
    is_problem(await house.trusted.put("/v1/registries/mine", json={"url": "ghcr.io"}), 400, "usage")
    assert (await house.trusted.delete("/v1/registries/mine")).status_code == 204
    is_problem(await house.trusted.delete("/v1/registries/mine"), 404, "not_found")


async def test_secrets_go_in_and_never_come_out(house: House) -> None:
    assert (await house.trusted.put("/v1/secrets/KEY", json={"value": "hunter22"})).status_code == 204
    listing = await house.trusted.get("/v1/secrets")
    assert "hunter22" not in listing.text
    assert listing.json()["items"][0]["name"] == "KEY"
    assert (await house.trusted.delete("/v1/secrets/KEY")).status_code == 204
    is_problem(await house.trusted.delete("/v1/secrets/KEY"), 404, "not_found")


async def test_a_notebooks_token_is_shown_by_access_only(house: House) -> None:
    await house.apply(NOTEBOOK)
    is_problem(await house.trusted.get("/v1/notebooks/nb/access"), 409, "conflict")
    with house.db.write() as db:
        notebook = resources.get(db, "notebook", "nb")
        status = {"token": "s3cr3t", "url_path": "/notebooks/nb/"}
        resources.set_status(db, notebook.uid, generation=1, phase="Running", status=status)
    assert "s3cr3t" in (await house.trusted.get("/v1/notebooks/nb/access")).json()["url"]
    assert "s3cr3t" not in (await house.trusted.get("/v1/notebooks/nb")).text
    assert "s3cr3t" not in (await house.trusted.get("/v1/notebooks")).text


async def test_a_file_of_a_dataset_is_read_and_a_link_in_it_is_not(house: House, tmp_path: Path) -> None:
    house.datasets.create("d")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("hello")
    (tmp_path / "in" / "out").symlink_to("/etc")
    await house.datasets.put("d", tmp_path / "in")
    assert (await house.trusted.get("/v1/datasets/d/file?path=a.txt")).text == "hello"
    for path in ("out/passwd", "out", "none"):
        is_problem(await house.trusted.get(f"/v1/datasets/d/file?path={path}"), 404, "not_found")
    is_problem(await house.trusted.get("/v1/datasets/d/file?path=../x"), 400, "usage")
    assert len((await house.trusted.get("/v1/datasets/d/versions")).json()["items"]) == 1


async def test_a_model_is_deleted_by_its_id_and_frees_its_dataset(house: House, tmp_path: Path) -> None:
    house.datasets.create("d")
    (tmp_path / "weights").write_text("w")
    version = await house.datasets.put("d", tmp_path / "weights")
    model = house.parts.models.register("m", "Custom", version)
    assert (await house.trusted.get("/v1/models/m")).json()["dataset"] == "d"
    is_problem(await house.trusted.delete("/v1/datasets/d?confirm=d"), 409, "conflict")
    assert (await house.trusted.get("/v1/datasets/d")).json()["phase"] == "Ready"
    assert model.id in is_problem(await house.trusted.delete("/v1/models/m"), 400, "usage")["hint"]
    assert (await house.trusted.delete(f"/v1/models/{model.id}")).status_code == 204
    assert (await house.trusted.delete("/v1/datasets/d?confirm=d")).status_code == 202


async def test_logs_pass_the_query_on_with_large_cursors(house: House) -> None:
    answer = await house.trusted.get("/v1/logs?kind=run&name=w.1&after=1795379593511066&contains=a%20b&limit=5")
    assert answer.json()["items"][0]["line"] == "<script>"
    assert house.telemetry.query == LogQuery(kind="run", name="w.1", after=1795379593511066, contains="a b", limit=5)


async def test_streams_end_when_the_daemon_stops(house: House) -> None:
    async def read(path: str) -> str:
        return (await house.trusted.get(path)).text

    asyncio.get_running_loop().call_later(0.3, house.parts.stopping.set)
    async with asyncio.timeout(60):
        logs, happened = await asyncio.gather(read("/v1/logs?follow=1"), read("/v1/events?follow=1&after=0"))
    assert 'id: 8\ndata: {"seq":8' in logs
    assert happened.startswith(": open")


async def test_an_event_stream_goes_on_after_the_last_one_seen(house: House) -> None:
    with house.db.write() as db:
        for reason in ("One", "Two"):
            events.record(db, "spec", "x", reason, "m", now=1.0)
    asyncio.get_running_loop().call_later(0.3, house.parts.stopping.set)
    answer = await house.trusted.get("/v1/events?follow=1", headers={"Last-Event-ID": "1"})
    assert '"Two"' in answer.text
    assert '"One"' not in answer.text


async def test_a_waiting_page_names_the_resource_and_escapes_it(house: House) -> None:
    await house.apply(NOTEBOOK)
    page = await house.front.get("/notebooks/nb/lab", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["retry-after"]) == (503, "2")
    assert "refresh" in page.text
    plain = await house.front.get("/notebooks/nb/api")
    is_problem(plain, 503, "not_ready")
    assert (plain.headers["retry-after"], plain.json()["detail"]) == ("2", "notebook nb is pending")
    is_problem(await house.front.get("/notebooks/%3Cscript%3E/lab"), 404, "not_found")


async def test_what_an_open_page_asks_of_a_notebook_that_is_gone_is_not_answered_404(house: House) -> None:
    """JupyterLab would ask for the folder above at once, without an end."""
    answer = await house.front.get("/notebooks/lab/api/contents?content=1")
    is_problem(answer, 410, "gone")
    assert answer.headers["cache-control"] == "no-store"
    is_problem(await house.front.get("/notebooks/lab/lab/api/workspaces/auto-1"), 410, "gone")
    is_problem(await house.front.get("/deployments/web/api/x"), 404, "not_found")


async def test_people_at_an_old_address_are_told_the_new_one(house: House) -> None:
    await house.apply(NOTEBOOK)
    people = {"Accept": "text/html"}
    none = await house.front.get("/notebooks/old%3Cb%3E/lab", headers=people)
    assert (none.status_code, "<b>" in none.text) == (404, False)
    assert "There is no notebook old&lt;b&gt;" in none.text
    with house.db.write() as db:
        db.execute("UPDATE resources SET status = json_set(status, '$.former', json('[\"old\"]'))")
    page = await house.front.get("/notebooks/old/lab/tree/a.ipynb", headers=people)
    assert page.status_code == 410
    assert "notebook old is called nb now" in page.text
    assert '<a href="/notebooks/nb/">' in page.text
    assert "is called nb now" in (await house.front.get("/notebooks/old/api/kernels")).json()["detail"]


async def test_the_page_of_a_stopped_one_says_why_and_how_to_start_it(house: House) -> None:
    await house.apply(NOTEBOOK)
    with house.db.write() as db:
        db.execute("UPDATE resources SET phase = 'Stopped', message = 'nobody used <it>'")
    page = (await house.front.get("/notebooks/nb/", headers={"Accept": "text/html"})).text
    assert "Nobody used &lt;it&gt;." in page
    assert "`appliance notebook start nb`" in page


async def test_status_reads_no_more_than_the_state(house: House) -> None:
    await house.apply(NOTEBOOK)
    await house.apply(WORKFLOW, "train.yaml")
    await house.trusted.post("/v1/workflows/train/runs", json={})
    status = (await house.trusted.get("/v1/status")).json()
    assert status["counts"] == {"runs": {"Pending": 1}, "notebooks": {"Pending": 1}, "workflows": {"Ready": 1}}
    assert [brief["name"] for brief in status["active"]] == ["train.1", "nb"]


async def test_the_description_lists_every_route_and_only_known_shapes(house: House) -> None:
    described = (await house.trusted.get("/openapi.json")).json()
    assert "/v1/notebooks/{name}/rollback" in described["paths"]
    assert "Problem" in described["components"]["schemas"]
    assert all(
        path.startswith(("/v1/", "/healthz", "/metrics", "/openapi.json", "/docs")) for path in described["paths"]
    )
    docs = (await house.trusted.get("/docs")).text
    assert all(path in docs for path in described["paths"])


def test_every_error_code_is_its_own() -> None:
    found = all_errors()
    assert len({cls.code for cls in found.values()}) == len(found)
    assert {"not_found", "conflict", "too_large", "daemon_down"} <= found.keys()
