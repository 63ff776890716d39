"""What a deployment names beside its image: fetched once, beside the loop, found again after a kill, sealed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from appliance import revisions
from appliance.datasets import uses
from appliance.datasets.datasets import Datasets
from appliance.deployments import content as contents
from appliance.deployments import volumes
from appliance.deployments.content import Content, Prepared
from appliance.deployments.gathering import Gathering
from appliance.errors import Conflict, NotFound
from appliance.fetching import errand
from appliance.spec.models import Clone, Deployment, Integration, Repositories
from appliance.state import resources, rollouts, versions
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.vault.secrets import Secrets
from tests.conftest import Clock
from tests.unit.workflows.fakes import FakeEngine, FakeTelemetry, Inside, WatchedStore

pytestmark = pytest.mark.anyio

INSTANCE = "0123abcd"
WEIGHTS = Integration(
    type="s3",
    name="weights",
    path="/opt/models",
    url="s3://the-bucket/w",
    access_key="secret:KEY",
    secret_key="secret:KEY",
)
CODE = Integration(type="git-lfs", name="code", path="/opt/integrations/code", url="https://example.com/code")


class Engine(FakeEngine):
    """What each program said last is `said`."""

    said = "appliance: 3 objects are in /content"

    async def logs_tail(self, container_id: str, lines: int) -> str:
        return self.said


def writes(name: str = "file", text: str = "x", code: int | None = 0) -> Callable[[Inside], int | None]:
    def body(inside: Inside) -> int | None:
        (inside.path("/content") / name).write_text(text)
        return code

    return body


class Room:
    def __init__(self, tmp_path: Path, clock: Clock) -> None:
        self.clock = clock
        self.db = Database(tmp_path / "state.db")
        self.store = WatchedStore(tmp_path / "volumes", "a test", durable=False)
        self.datasets = Datasets(self.db, self.store, clock)
        self.vault = Secrets(self.db, tmp_path / "key", clock)
        self.vault.set("KEY", "hunter2hunter2")
        self.engine = Engine(clock, {"fetch-weights": writes(), "fetch-code": writes(), "fetch-app": writes()})
        self.engine.images = {"appliance/base", "appliance/s3"}
        self.telemetry = FakeTelemetry()
        self.hinted: list[str] = []
        self.content = self.another()
        self.declare({"image": "one"})

    def another(self) -> Content:
        """One that knows only what is stored, as after a kill of the daemon."""
        parts: dict[str, Any] = {"engine": self.engine, "images": self.engine, "telemetry": self.telemetry}
        gathering = Gathering(
            db=self.db,
            store=self.store,
            datasets=self.datasets,
            vault=self.vault,
            instance=INSTANCE,
            **parts,
        )
        return Content(gathering, self.clock, self.hinted.append)

    def declare(self, document: dict[str, Any]) -> None:
        self.clock.now += 1
        with self.db.write() as db:
            resources.put(db, "deployment", "web", {**document, "resources": {}}, source="cli", now=self.clock())

    @property
    def row(self) -> Resource:
        return resources.get(self.db.read, "deployment", "web")

    async def until(self, spec: Deployment, *states: str) -> Prepared:
        async with asyncio.timeout(60):
            while (found := self.content.peek(self.row, spec)).state not in states:
                await self.content.ensure(self.row, spec)
        return found

    async def ready(self, spec: Deployment) -> Prepared:
        return await self.until(spec, "ready")

    def folder(self, found: Prepared, path: str) -> Path:
        return self.store.path(found.pin[path]["volume"]) / volumes.DATA

    @property
    def fetched(self) -> list[str]:
        return self.engine.starts


@pytest.fixture
async def room(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    monkeypatch.setattr(contents, "PATIENCE_S", 0.01)
    monkeypatch.setattr(errand, "LOOK_MOST_S", 0.01)
    made = Room(tmp_path, clock)
    try:
        yield made
    finally:
        await made.content.close()
        made.db.close()


def spec(*integrations: Integration, repositories: Repositories | None = None) -> Deployment:
    return Deployment(name="web", image="one", integrations=integrations, repositories=repositories)


async def test_nothing_named_is_ready_at_once(room: Room) -> None:
    assert room.content.peek(room.row, spec()) == Prepared("ready")
    assert await room.content.mounts(room.row, {}) == []


async def test_a_source_is_fetched_once_and_is_mounted_read_only(room: Room) -> None:
    found = await room.ready(spec(WEIGHTS))
    (mount,) = await room.content.mounts(room.row, found.pin)
    assert (mount.target, mount.read_only) == ("/opt/models", True)
    assert (mount.source / "file").read_text() == "x"
    assert found.pin["/opt/models"]["words"] == "s3 s3://the-bucket/w: 3 objects"
    json.dumps(found.pin)
    room.declare({"image": "two"})
    assert (await room.ready(spec(WEIGHTS))).pin == found.pin
    assert (room.fetched, room.engine.containers) == (["fetch-weights"], {})
    assert room.hinted == [room.row.uid]


async def test_the_content_is_below_its_name_too_where_the_path_ends_otherwise(room: Room) -> None:
    found = await room.ready(spec(WEIGHTS, CODE))
    assert (room.folder(found, "/opt/models") / "weights" / "weights" / "file").read_text() == "x"
    assert sorted(os.listdir(room.folder(found, "/opt/integrations/code"))) == ["file"]


async def test_a_hostile_name_in_the_way_of_that_link_stays_as_it_is(room: Room, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()

    def body(inside: Inside) -> int:
        (inside.path("/content") / "weights").symlink_to(victim)
        return 0

    room.engine.body = {"fetch-weights": body}
    found = await room.ready(spec(WEIGHTS))
    assert (room.folder(found, "/opt/models") / "weights").readlink() == victim
    assert list(victim.iterdir()) == []


async def test_no_link_of_a_failed_clone_is_followed_when_it_is_cleared(room: Room, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("mine")

    def body(inside: Inside) -> int:
        (inside.path("/content") / "out").symlink_to(victim)
        (inside.path("/content") / "folder").mkdir()
        (inside.path("/content") / "folder" / "out").symlink_to(victim)
        return 1

    room.engine.body = {"fetch-code": body}
    await room.until(spec(CODE), "failed")
    room.engine.body = {"fetch-code": writes()}
    room.clock.now += 1000
    found = await room.ready(spec(CODE))
    assert os.listdir(room.folder(found, CODE.path)) == ["file"]
    assert (victim / "precious").read_text() == "mine"


async def test_credentials_are_nowhere_but_in_the_private_files_and_those_go(room: Room) -> None:
    seen: list[str] = []

    def body(inside: Inside) -> int:
        private = inside.path("/run/appliance/request.json")
        seen.append(private.read_text())
        assert private.stat().st_mode & 0o777 == 0o600
        assert inside.read_only("/run/appliance")
        assert "hunter2" not in repr((inside.spec.labels, inside.spec.env, inside.spec.entrypoint, inside.spec.name))
        return 0

    room.engine.body = {"fetch-weights": body}
    found = await room.ready(spec(WEIGHTS))
    assert "hunter2hunter2" in seen[0]
    root = room.store.path(found.pin["/opt/models"]["volume"])
    assert sorted(os.listdir(root)) == [volumes.DATA, volumes.NOTE]


async def test_a_failure_is_told_and_tried_again_after_a_while_or_when_somebody_asks(room: Room) -> None:
    room.engine.body = {"fetch-weights": writes(code=1)}
    room.engine.said = "appliance: there is no bucket the-bucket"
    found = await room.until(spec(WEIGHTS), "failed")
    assert "s3 weights: there is no bucket the-bucket" in found.message
    assert found.retry_at == room.clock() + contents.RETRY_FIRST_S
    assert room.engine.containers == {}
    await room.content.ensure(room.row, spec(WEIGHTS))
    assert room.fetched == ["fetch-weights"]  # not yet
    room.clock.now = found.retry_at
    await room.content.ensure(room.row, spec(WEIGHTS))
    later = await room.until(spec(WEIGHTS), "failed")
    assert later.retry_at == room.clock() + 2 * contents.RETRY_FIRST_S
    room.declare({"image": "two"})
    assert room.content.peek(room.row, spec(WEIGHTS)).state == "unknown"
    room.engine.body = {"fetch-weights": writes()}
    await room.ready(spec(WEIGHTS))
    assert room.fetched == ["fetch-weights"] * 3


async def test_an_unknown_secret_is_a_failure_in_words_and_makes_nothing(room: Room) -> None:
    one = WEIGHTS.model_copy(update={"secret_key": "secret:NONE"})
    found = await room.until(spec(one), "failed")
    assert "no secret named 'NONE'" in found.message
    assert "appliance secret set NONE" in found.message
    assert room.engine.specs == {}


async def test_a_failure_of_one_keeps_what_the_other_has_fetched(room: Room) -> None:
    room.engine.body = {"fetch-weights": writes(), "fetch-code": writes(code=1)}
    await room.until(spec(WEIGHTS, CODE), "failed")
    room.engine.body = {"fetch-code": writes()}
    room.clock.now += 1000
    await room.ready(spec(WEIGHTS, CODE))
    assert sorted(room.fetched) == ["fetch-code", "fetch-code", "fetch-weights"]


async def test_progress_is_told_meanwhile(room: Room) -> None:
    room.engine.body = {"fetch-weights": writes(code=None)}
    room.engine.said = "2 of 3 objects, 5 MB of 7 MB"
    await room.until(spec(WEIGHTS), "busy")
    await eventually(lambda: "2 of 3 objects" in room.content.peek(room.row, spec(WEIGHTS)).message)
    assert room.content.peek(room.row, spec(WEIGHTS)).message.startswith("s3 weights: ")


async def test_a_fetch_goes_on_over_a_kill_of_the_daemon(room: Room) -> None:
    room.engine.body = {"fetch-weights": writes(code=None)}
    await room.until(spec(WEIGHTS), "busy")
    await started(room, "fetch-weights")
    await room.content.close()
    room.content = room.another()
    assert room.content.peek(room.row, spec(WEIGHTS)).state == "unknown"
    await room.content.ensure(room.row, spec(WEIGHTS))
    await room.content.forget(room.row.uid, ())
    room.engine.exit("fetch-weights", 0)
    found = await room.ready(spec(WEIGHTS))
    assert (room.folder(found, "/opt/models") / "file").read_text() == "x"
    assert room.fetched == ["fetch-weights"]


class Kill(BaseException):
    """The daemon is gone at this instant."""


@pytest.mark.parametrize("what", ["bucket", "repositories"])
async def test_a_kill_at_any_instant_converges_and_leaves_nothing(tmp_path: Path, clock: Clock, what: str) -> None:
    """Before and after each change in turn, of the engine and of the store."""
    wanted = spec(WEIGHTS) if what == "bucket" else spec(repositories=APP)
    path, file = ("/opt/models", "file") if what == "bucket" else ("/opt/repos", "app/app.py")
    for number in range(1, 80):
        room = Room(tmp_path / str(number), clock)
        room.engine.body = {"fetch-weights": writes(), "fetch-app": cloned}
        room.datasets.create("repos")
        left = number

        def before(call: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Kill(call)

        room.engine.before = room.store.before = before
        killed = False
        try:
            await room.content._gathering.gather(room.row, wanted, {})
        except Kill:
            killed = True
        room.engine.before = room.store.before = lambda call: None
        room.content = room.another()
        found = await room.ready(wanted)
        (mount,) = await room.content.mounts(room.row, found.pin)
        assert (mount.target, (mount.source / file).is_file()) == (path, True)
        assert room.engine.containers == {}
        assert [one.committed is None for one in room.datasets.versions("repos")] == [False] * (what != "bucket")
        for volume in room.store.volumes("content"):
            assert sorted(os.listdir(room.store.path(volume))) == [volumes.DATA, volumes.NOTE]
        await room.content.close()
        room.db.close()
        if not killed:
            assert number > 10
            return
    pytest.fail("it never came to its end")


async def test_what_was_stopped_while_nobody_looked_begins_again_at_once(room: Room) -> None:
    room.engine.body = {"fetch-weights": writes(code=None)}
    await room.until(spec(WEIGHTS), "busy")
    await started(room, "fetch-weights")
    await room.content.close()
    room.engine.exit("fetch-weights", 143)
    room.engine.body = {"fetch-weights": writes()}
    room.content = room.another()
    assert (await room.until(spec(WEIGHTS), "ready", "failed")).state == "ready"


async def test_a_restart_fetches_afresh_and_what_ran_keeps_what_it_had(room: Room) -> None:
    before = await room.ready(spec(WEIGHTS))
    with room.db.write() as db:
        revisions.restart(db, room.row, source="cli", now=room.clock())
    room.engine.body = {"fetch-weights": writes(text="newer")}
    after = await room.ready(spec(WEIGHTS))
    assert (room.folder(after, "/opt/models") / "file").read_text() == "newer"
    assert (room.folder(before, "/opt/models") / "file").read_text() == "x"
    await room.content.forget(room.row.uid, volumes.volumes_of([after.pin]))
    with pytest.raises(NotFound, match="'weights' of this revision is gone"):
        await room.content.mounts(room.row, before.pin)
    assert await room.content.mounts(room.row, after.pin)


async def test_another_spec_ends_what_is_fetched_for_the_one_before(room: Room) -> None:
    room.engine.body = {"fetch-weights": writes(code=None), "fetch-code": writes()}
    await room.until(spec(WEIGHTS), "busy")
    await started(room, "fetch-weights")
    room.content.peek(room.row, spec(CODE))
    (volume,) = room.store.volumes("content")
    assert (room.store.path(volume) / "files").is_dir()
    await room.ready(spec(CODE))
    assert room.engine.containers == {}
    assert os.listdir(room.store.path(volume)) == [volumes.DATA]


async def test_a_spec_that_names_nothing_any_more_ends_what_is_fetched(room: Room) -> None:
    room.engine.body = {"fetch-weights": writes(code=None)}
    await room.until(spec(WEIGHTS), "busy")
    await started(room, "fetch-weights")
    assert room.content.peek(room.row, spec()).state == "ready"
    await room.content.forget(room.row.uid, ())
    assert (room.engine.containers, room.store.volumes()) == ({}, [])


async def test_a_volume_is_written_to_and_stays_until_the_deployment_goes(room: Room) -> None:
    one = Integration(type="volume", name="cache", path="/cache")
    found = await room.ready(spec(one))
    (mount,) = await room.content.mounts(room.row, found.pin)
    assert (mount.read_only, mount.source.stat().st_mode & 0o777) == (False, 0o777)
    assert await room.content.holding(room.row.uid) == []
    (mount.source / "kept").write_text("mine")
    assert await room.content.holding(room.row.uid) == ["cache"]
    await room.content.forget(room.row.uid, ())
    assert (mount.source / "kept").read_text() == "mine"
    with room.db.write() as db:
        resources.set_deleting(db, room.row.uid, now=room.clock())
    await room.content.forget(room.row.uid, ())
    assert room.store.volumes() == []


async def test_what_a_lost_deployment_has_left_goes_but_what_its_replicas_wrote(room: Room) -> None:
    cache = Integration(type="volume", name="cache", path="/cache")
    empty = Integration(type="volume", name="empty", path="/empty")
    found = await room.ready(spec(WEIGHTS, cache, empty))
    mine = room.row
    (room.store.path(found.pin["/cache"]["volume"]) / "kept").write_text("mine")
    await room.content.sweep()
    assert len(room.store.volumes()) == 3
    room.engine.body = {"fetch-code": writes(code=None)}
    await room.until(spec(CODE), "busy")
    await started(room, "fetch-code")
    await room.content.close()
    with room.db.write() as db:
        resources.remove(db, mine.uid)
    await room.content.sweep()
    assert room.store.volumes() == [found.pin["/cache"]["volume"]]
    assert room.engine.containers == {}


async def test_a_mounted_version_is_in_use(room: Room, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    room.datasets.create("corpus")
    version = await room.datasets.put("corpus", tmp_path / "source")
    found = await room.ready(spec(Integration(type="dataset", name="corpus", path="/data", ref="corpus")))
    assert uses.of_versions(room.db.read) == {}
    with room.db.write() as db:
        revisions.declare(db, room.row, now=room.clock())
        pin = {"image": "x", "models": {}, "content": found.pin}
        rollouts.set_pin(db, room.row.uid, room.row.generation, pin, began=room.clock())
    assert uses.of_versions(room.db.read) == {(version.dataset, version.version): ["deployment web"]}
    with pytest.raises(Conflict, match="in use by deployment web"):
        await room.datasets.remove(version)


async def test_a_dataset_is_the_version_that_it_was(room: Room, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("first")
    room.datasets.create("corpus")
    await room.datasets.put("corpus", source)
    one = Integration(type="dataset", name="corpus", path="/data", ref="corpus")
    found = await room.ready(spec(one))
    (source / "a").write_text("second")
    await room.datasets.put("corpus", source)
    (mount,) = await room.content.mounts(room.row, found.pin)
    assert ((mount.source / "a").read_text(), mount.read_only) == ("first", True)
    (entry,) = found.pin.values()
    assert "dataset" in entry


APP = Repositories(dataset="repos", path="/opt/repos", clones=(Clone(url="https://example.com/app", name="app"),))


def cloned(inside: Inside) -> int:
    (inside.path("/content") / ".git").mkdir()
    (inside.path("/content") / "app.py").write_text("print()")
    return 0


async def test_repositories_are_a_new_version_of_their_dataset(room: Room) -> None:
    room.engine.body = {"fetch-app": cloned}
    assert "no dataset 'repos'" in (await room.until(spec(repositories=APP), "failed")).message
    room.datasets.create("repos")
    room.clock.now += 1000
    found = await room.ready(spec(repositories=APP))
    (mount,) = await room.content.mounts(room.row, found.pin)
    assert (mount.target, mount.read_only) == ("/opt/repos", True)
    assert sorted(os.listdir(mount.source)) == ["app"]
    assert (mount.source / "app" / "app.py").is_file()
    (version,) = room.datasets.versions("repos")
    assert version.committed is not None
    assert "app from https://example.com/app" in version.message
    assert room.store.volumes("content") == []
    room.content = room.another()
    assert (await room.ready(spec(repositories=APP))).pin == found.pin
    assert room.fetched == ["fetch-app"]


async def test_a_dataset_that_is_made_anew_meanwhile_gets_all_repositories(room: Room) -> None:
    both = (*APP.clones, Clone(url="https://example.com/lib", name="lib"))
    wanted = spec(repositories=APP.model_copy(update={"clones": both}))
    old = room.datasets.create("repos")
    room.engine.body = {"fetch-app": cloned, "fetch-lib": writes(code=None)}
    await room.until(wanted, "busy")
    await started(room, "fetch-lib")
    await eventually(lambda: "fetch-app" in room.fetched and len(room.engine.containers) == 1)
    await room.datasets.destroy(old.uid)
    room.datasets.create("repos")
    room.engine.exit("fetch-lib", 0)
    room.engine.body = {"fetch-app": cloned, "fetch-lib": cloned}
    assert "a version that is gone" in (await room.until(wanted, "failed")).message
    room.clock.now += 1000
    found = await room.ready(wanted)
    (mount,) = await room.content.mounts(room.row, found.pin)
    assert sorted(one for one in os.listdir(mount.source) if (mount.source / one / "app.py").is_file()) == [
        "app",
        "lib",
    ]


async def test_an_open_version_goes_with_the_spec_that_asked_for_it(room: Room) -> None:
    room.datasets.create("repos")
    room.engine.body = {"fetch-app": writes(code=None)}
    await room.until(spec(repositories=APP), "busy")
    await started(room, "fetch-app")
    await room.content.forget(room.row.uid, ())
    assert [one.committed for one in room.datasets.versions("repos")] == [None]  # it is being written
    with room.db.write() as db:
        resources.set_deleting(db, room.row.uid, now=room.clock())
    with pytest.raises(Conflict, match="being ended"):  # the engine may be about to make one more container
        await room.content.forget(room.row.uid, ())
    await room.content.forget(room.row.uid, ())
    assert room.datasets.versions("repos") == []
    assert (room.engine.containers, versions.volumes(room.db.read)) == ({}, set())


async def started(room: Room, part: str) -> None:
    await eventually(lambda: part in room.engine.running())


async def eventually(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not look():  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.005)


async def test_what_is_gone_since_is_looked_for_again(room: Room) -> None:
    asked = spec(WEIGHTS)
    found = await room.ready(asked)
    room.store.destroy(found.pin[WEIGHTS.path]["volume"])
    room.content.anew(room.row.uid)
    assert room.content.peek(room.row, asked).state == "unknown"
    found = await room.ready(asked)
    assert (room.folder(found, WEIGHTS.path) / "file").read_text() == "x"


async def test_another_revision_has_the_version_that_is_the_newest_then(room: Room, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("first")
    room.datasets.create("corpus")
    await room.datasets.put("corpus", source)
    asked = spec(Integration(type="dataset", name="corpus", path="/data", ref="corpus"))
    await room.ready(asked)
    (source / "a").write_text("second")
    newer = await room.datasets.put("corpus", source)
    room.declare({"image": "two"})
    (entry,) = (await room.ready(asked)).pin.values()
    assert (entry["dataset"], entry["version"]) == (newer.dataset, newer.version)
