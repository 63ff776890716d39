"""What Images decides: when it builds, when it adopts, and who shares a build. The engine is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine import images as images_module
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.pull import Login
from appliance.engine.recipes import turn as turns
from appliance.engine.recipes.base import BASE
from appliance.engine.recipes.recipe import RECIPE_LABEL, Progress, Recipe
from appliance.errors import ApplianceError, EngineError, NoSuchImage
from tests.unit.engine.fake import FakeEngine, fake_engine

pytestmark = pytest.mark.anyio

INSPECT = f"GET /images/{BASE.ref}/json"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    with fake_engine(tmp_path / "docker.sock") as server:
        server.answers["GET /images/json"] = (200, [])
        yield server


class Builder:
    """Builds when it is told to, and counts."""

    def __init__(self) -> None:
        self.built = 0
        self.go = asyncio.Event()
        self.fails: ApplianceError | None = None

    async def base(self, recipe: Recipe, digest: str, progress: Progress) -> str:
        self.built += 1
        progress(f"{recipe.name}: building")
        await self.go.wait()
        if self.fails:
            raise self.fails
        return f"sha256:{self.built}"


@pytest.fixture
def images(fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.setattr(turns, "lock_path", lambda: tmp_path / "lock")
    engine = Engine(instance="0badcafe", docker_host=fake.host)
    return Images(engine, base_image="python:3", work_dir=tmp_path / "home")


@pytest.fixture
def builder(images: Images, monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder()
    monkeypatch.setattr(images, "_builder", builder)
    return builder


def image(digest: str) -> tuple[int, Any]:
    return 200, {"Id": "sha256:here", "Config": {"Labels": {RECIPE_LABEL: digest}}}


async def begun(builder: Builder, times: int = 1) -> None:
    await until(lambda: builder.built >= times)


async def both_wait(images: Images) -> None:
    """Two callers are at the same build."""
    await until(lambda: images._flights[BASE.ref, frozenset()]._waiting == 2)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - the engine's answers come from another thread
            await asyncio.sleep(0.01)


async def test_an_image_of_this_recipe_is_not_built_again(fake: FakeEngine, images: Images, builder: Builder) -> None:
    fake.answers[INSPECT] = image(images.digest(BASE))
    assert await images.ensure("appliance/base") == "sha256:here"
    assert builder.built == 0


async def test_an_image_of_another_recipe_is_built_again(fake: FakeEngine, images: Images, builder: Builder) -> None:
    fake.answers[INSPECT] = image("old")
    builder.go.set()
    assert await images.ensure("appliance/base") == "sha256:1"


async def test_an_image_that_lost_its_name_gets_it_back(fake: FakeEngine, images: Images, builder: Builder) -> None:
    theirs, ours = {"Id": "sha256:derived", "Created": 9}, {"Id": "sha256:ours", "Created": 5}
    fake.answers["GET /images/json"] = (200, [theirs, ours])
    fake.answers["POST /images/sha256:ours/tag"] = (201, "")
    assert await images.ensure("appliance/base") == "sha256:ours"
    assert builder.built == 0
    assert "POST /images/sha256:ours/tag" in fake.requests


async def test_calls_for_the_same_image_share_one_build(images: Images, builder: Builder) -> None:
    lines: list[str] = []
    first = asyncio.create_task(images.ensure("appliance/base"))
    await begun(builder)
    second = asyncio.create_task(images.ensure("appliance/base:latest", lines.append))
    await both_wait(images)
    builder.go.set()
    assert list(await asyncio.gather(first, second)) == ["sha256:1", "sha256:1"]
    assert builder.built == 1


async def test_a_build_goes_on_while_one_caller_waits(images: Images, builder: Builder) -> None:
    first = asyncio.create_task(images.ensure("appliance/base"))
    await begun(builder)
    second = asyncio.create_task(images.ensure("appliance/base"))
    await both_wait(images)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    builder.go.set()
    assert await second == "sha256:1"
    assert builder.built == 1


async def test_a_build_that_nobody_waits_for_is_given_up(images: Images, builder: Builder) -> None:
    task = asyncio.create_task(images.ensure("appliance/base"))
    await begun(builder)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    builder.go.set()
    assert await images.ensure("appliance/base") == "sha256:2"


async def test_a_failed_build_is_tried_again_by_the_next_call(images: Images, builder: Builder) -> None:
    builder.go.set()
    builder.fails = EngineError("no network")
    with pytest.raises(EngineError, match="no network"):
        await images.ensure("appliance/base")
    builder.fails = None
    assert await images.ensure("appliance/base") == "sha256:2"


async def test_a_listener_that_fails_does_not_stop_a_build(images: Images, builder: Builder) -> None:
    def broken(line: str) -> None:
        raise RuntimeError(line)

    builder.go.set()
    assert await images.ensure("appliance/base", broken) == "sha256:1"


async def test_two_appliances_build_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "POLL_S", 0.01)
    order: list[str] = []

    async def build(name: str) -> None:
        async with turns.turn(name, order.append, tmp_path / "lock"):
            order.append(f"{name} begins")
            await until(lambda: len(order) > 1)
            order.append(f"{name} ends")

    await asyncio.gather(build("one"), build("two"))
    assert order == [
        "one begins",
        "two: waiting for another image build on this machine",
        "one ends",
        "two begins",
        "two ends",
    ]


async def test_without_a_lock_file_builds_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with turns.turn("one", print, tmp_path / "none" / "lock"):
        assert "not taken in turns" in caplog.text


async def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    async with turns.turn("one", print, tmp_path / "lock"):
        assert not (tmp_path / "victim").exists()


async def test_who_has_a_login_does_not_share_the_pull_of_who_has_none(
    fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the one without would have it refused for both, or be given what the other may have."""
    asked: list[Login] = []
    denied = asyncio.Event()

    async def pull(client: object, ref: str, progress: object, *, login: Login) -> None:
        asked.append(login)
        if login.auth is None:
            denied.set()
            raise NoSuchImage("denied")
        await denied.wait()  # who came later than this image would find it here
        fake.answers["GET /images/ghcr.io/x/y:1/json"] = image("")

    def logins(names: Collection[str], ref: str) -> Login:
        return Login(auth={"username": "me"}) if "mine" in names and ref == "ghcr.io/x/y:1" else Login()

    monkeypatch.setattr(images_module, "pull", pull)
    engine = Engine(instance="0badcafe", docker_host=fake.host)
    images = Images(engine, base_image="python:3", work_dir=tmp_path / "home", logins=logins)
    without, has, too = await asyncio.gather(
        images.ensure("ghcr.io/x/y:1"),
        images.ensure("ghcr.io/x/y:1", registries=["mine"]),
        images.ensure("ghcr.io/x/y:1", registries=["mine"]),
        return_exceptions=True,
    )
    assert isinstance(without, NoSuchImage)
    assert has == too == "sha256:here"
    assert len(asked) == 2
