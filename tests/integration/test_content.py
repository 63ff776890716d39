"""What a deployment names beside its image: fetched on the real engine from real servers, as its replicas see it."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance import revisions
from appliance.datasets.datasets import Datasets
from appliance.deployments import volumes
from appliance.deployments.content import Content, Prepared
from appliance.deployments.gathering import Gathering
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import CONTENT, Owner
from appliance.engine.types import ContainerSpec
from appliance.settings import Settings
from appliance.spec.models import Clone, Deployment, Integration, Repositories
from appliance.state import resources
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.base import Store
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.zfs.store import ZfsStore
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogQuery
from appliance.vault.secrets import Secrets
from tests.integration.services import Services, needs_services, services
from tests.support.docker import BASE_IMAGE
from tests.support.git import GitServer, bridge_address
from tests.support.s3 import Bucket, serve_s3

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.images]

LARGE = b"weights" * 1000
LOGIN = "me:s3cret/with:odd@chars%"
DEADLINE_S = 300.0


class Room:
    def __init__(self, engine: Engine, store: Store, settings: Settings, telemetry: Telemetry) -> None:
        self.engine = engine
        self.store = store
        self.settings = settings
        self.telemetry = telemetry
        self.db = Database(settings.state_file)
        self.datasets = Datasets(self.db, store, time.time)
        self.vault = Secrets(self.db, settings.home / "key", time.time)
        self.hinted = asyncio.Event()
        self.content = self.another()
        with self.db.write() as db:
            resources.put(db, "deployment", "web", {"image": "x"}, source="cli", now=time.time())

    def another(self) -> Content:
        gathering = Gathering(
            db=self.db,
            engine=self.engine,
            images=Images(self.engine, base_image=BASE_IMAGE, work_dir=self.settings.home),
            store=self.store,
            datasets=self.datasets,
            telemetry=self.telemetry,
            vault=self.vault,
            instance=self.engine.instance,
        )
        return Content(gathering, time.time, lambda uid: self.hinted.set())

    @property
    def row(self) -> Resource:
        return resources.get(self.db.read, "deployment", "web")

    async def until(self, spec: Deployment, *states: str) -> Prepared:
        """As the reconcile loop does it: it looks again when it is told to."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                self.hinted.clear()
                found = self.content.peek(self.row, spec)
                if found.state in states:
                    return found
                assert found.state != "failed", found.message
                await self.content.ensure(self.row, spec)
                if self.content.peek(self.row, spec).state == "busy" and "busy" not in states:
                    await self.hinted.wait()

    async def inside(self, found: Prepared, script: str) -> str:
        """What a replica with this content says."""
        mounts = await self.content.mounts(self.row, found.pin)
        owner = Owner(self.engine.instance, "deployment", "web", self.row.uid, part="1-0")
        spec = ContainerSpec(
            name=f"appliance-{self.engine.instance}-reader",
            image="appliance/base",
            labels=owner.to_labels(),
            entrypoint=("sh", "-c", script),
            command=(),
            mounts=mounts,
        )
        made = await self.engine.create(spec)
        await self.engine.start(made.id)
        async with asyncio.timeout(DEADLINE_S):
            await self.engine.wait(made.id)
        said = await self.engine.logs_tail(made.id, 100)
        await self.engine.remove(made.id)
        return said

    async def fetching(self) -> list[str]:
        return [container.id for container in await self.engine.list(kind=CONTENT)]


@pytest.fixture(params=["directory", pytest.param("zfs", marks=pytest.mark.zfs)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "volumes", "a test", durable=False)
    return ZfsStore(request.getfixturevalue("zfs_dataset"), tmp_path / "volumes")


@pytest.fixture
async def room(engine: Engine, base_image: str, store: Store, settings: Settings) -> AsyncIterator[Room]:
    settings.home.mkdir(parents=True)
    telemetry = Telemetry(settings.telemetry_file, flush_s=0.2, memory_mb=128)
    await telemetry.start()
    made = Room(engine, store, settings, telemetry)
    try:
        yield made
    finally:
        await made.content.close()
        await telemetry.stop()
        made.db.close()


@pytest.fixture
def bucket(docker_engine: str, s3_image: str) -> Iterator[Bucket]:
    with serve_s3(bridge_address()) as found:
        yield found


def spec(*integrations: Integration, repositories: Repositories | None = None) -> Deployment:
    return Deployment(name="web", image="x", integrations=integrations, repositories=repositories)


def s3(bucket: Bucket, path: str, **more: str) -> Integration:
    place = {"type": "s3", "url": f"s3://{bucket.name}/w/", "endpoint": bucket.endpoint, "region": "us-east-1"}
    keys = {"access_key": bucket.access_key, "secret_key": "secret:S3"}
    return Integration.model_validate({"name": "weights", "path": path, **place, **keys, **more})


async def test_every_kind_as_a_replica_sees_it(
    room: Room, git_server: GitServer, bucket: Bucket, tmp_path: Path
) -> None:
    model = git_server.repository("models/opus", {"config.json": "{}"})
    model.commit_lfs("model.bin", LARGE)
    app = git_server.repository("app", {"app.py": "print()"}, login=LOGIN)
    app.tag("v1")
    app.commit({"app.py": "print('newer')"})
    bucket.put({"w/a": b"one", "w/deep/b": b"two"})
    room.vault.set("S3", bucket.secret)
    room.vault.set("GIT", LOGIN.partition(":")[2])
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "line").write_text("text")
    room.datasets.create("corpus")
    room.datasets.create("repos")
    await room.datasets.put("corpus", tmp_path / "corpus")
    clone = Clone(url=app.url, name="app", ref="v1", username="me", password="secret:GIT")
    spaces = s3(bucket, "/opt/integrations/pics", type="spaces", name="pics", url="", region="")
    wanted = spec(
        Integration(type="git-lfs", name="opus", path="/opt/models", url=model.url),
        s3(bucket, "/opt/integrations/weights"),
        spaces.model_copy(update={"endpoint": f"{bucket.endpoint}/{bucket.name}/w"}),
        Integration(type="volume", name="cache", path="/cache"),
        Integration(type="dataset", name="corpus", path="/corpus", ref="corpus"),
        repositories=Repositories(dataset="repos", path="/opt/repos", clones=(clone,)),
    )
    found = await room.until(wanted, "ready")
    assert await room.fetching() == []
    said = await room.inside(
        found,
        "set -e; cd /opt/integrations; cat weights/a weights/deep/b pics/deep/b /corpus/line\n"
        "echo; cd /opt\n"
        "sha256sum < models/model.bin; sha256sum < models/opus/model.bin; cat repos/app/app.py; echo\n"
        "find models/.git -size +5k; echo kept > /cache/it\n"
        "for place in models integrations/weights repos/app /corpus; do\n"
        "  if touch $place/new 2>/dev/null; then echo written $place; fi; done",
    )
    lines = said.split()
    assert lines[0] == "onetwotwotext"
    assert lines[1] == lines[3] != ""
    assert lines[5:] == ["print()"]
    assert await room.content.holding(room.row.uid) == ["cache"]
    logged = await room.telemetry.logs(LogQuery(kind="deployment", name="web", part="fetch-weights"))
    assert any("2 objects" in line.line for line in logged)
    secrets = (bucket.secret, LOGIN.partition(":")[2])
    said = "\n".join(line.line for line in await room.telemetry.logs(LogQuery(name="web")))
    assert not [one for one in secrets if one in said]
    content = [room.store.path(volume) for volume in room.store.volumes("content")]
    assert all(secret not in text for text in texts(content) for secret in secrets)


async def test_a_hostile_repository_leads_nowhere(room: Room, git_server: GitServer, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("mine")
    hostile = git_server.repository("hostile", {"README": "x"})
    hostile.commit({}, links={"opus": str(victim), "deep/out": "../../../../../etc", "up": "..", "self": "."})
    before = sorted(os.listdir(victim))
    found = await room.until(spec(Integration(type="git-lfs", name="opus", path="/m", url=hostile.url)), "ready")
    root = room.store.path(found.pin["/m"]["volume"])
    assert (root / volumes.DATA / "opus").readlink() == victim
    assert (sorted(os.listdir(victim)), (victim / "precious").read_text()) == (before, "mine")
    said = await room.inside(found, f"cat /m/opus/precious; ls {shlex.quote(str(victim))}")
    assert "mine" not in said  # in a replica it means the replica's own files
    with room.db.write() as db:
        resources.set_deleting(db, room.row.uid, now=time.time())
    await room.content.forget(room.row.uid, ())
    assert room.store.volumes() == []
    assert (victim / "precious").read_text() == "mine"


async def test_a_fetch_outlives_the_daemon(room: Room, git_server: GitServer) -> None:
    model = git_server.repository("model", {"config.json": "{}"})
    model.commit_lfs("model.bin", LARGE)
    wanted = spec(Integration(type="git-lfs", name="model", path="/opt/integrations/model", url=model.url))
    await room.until(wanted, "busy", "ready")
    async with asyncio.timeout(DEADLINE_S):
        while not (first := await room.fetching()):
            assert room.content.peek(room.row, wanted).state == "busy", "it was over before anybody looked"
            await asyncio.sleep(0.01)
    await room.content.close()
    room.content = room.another()
    found = await room.until(wanted, "ready")
    assert (room.store.path(found.pin["/opt/integrations/model"]["volume"]) / volumes.DATA / "model.bin").is_file()
    logged = await room.telemetry.logs(LogQuery(kind="deployment", name="web", part="fetch-model"))
    assert {line.container for line in logged} == set(first)
    assert await room.fetching() == []


async def test_what_cannot_be_fetched_says_why(room: Room, git_server: GitServer, bucket: Bucket) -> None:
    room.vault.set("S3", "wrong" * 4)
    found = await room.until(spec(s3(bucket, "/w")), "failed")
    assert "s3 weights: the secret access key does not belong to this access key" in found.message
    none = Integration(type="git-lfs", name="none", path="/n", url=f"{git_server.url}/none.git")
    room.content = room.another()
    found = await room.until(spec(none), "failed")
    assert f"git-lfs none: there is no repository at {git_server.url}/none.git" in found.message
    assert await room.fetching() == []


@pytest.fixture
async def house(base_image: str) -> AsyncIterator[Services]:
    async with services(APPLIANCE_DEPLOY_DEADLINE_S="60") as found:
        yield found


@pytest.mark.haproxy
@needs_services[-1]
async def test_a_deployment_serves_what_it_names_and_its_sisters_fetch_nothing(
    house: Services, git_server: GitServer
) -> None:
    model = git_server.repository("model", {"index.html": "hello from the model"})
    model.commit_lfs("model.bin", LARGE)
    document = {
        "image": "appliance/base",
        "command": ["python3", "-m", "http.server", "-d", "/opt/models", "8000"],
        "resources": {"machineType": "C4", "replicas": 1, "ports": [8000]},
        "integrations": [{"type": "git-lfs", "name": "opus", "url": model.url, "path": "/opt/models"}],
    }
    house.declare("deployment", "web", document)
    await house.phase("deployment", "web", "Ready")
    assert (await house.http.get("/deployments/web/")).text == "hello from the model"
    assert (await house.http.get("/deployments/web/opus/model.bin")).content == LARGE
    asked = len(git_server.requests)
    document["resources"] = {"machineType": "C4", "replicas": 2, "ports": [8000]}
    house.declare("deployment", "web", document)
    await house.phase("deployment", "web", "Ready")
    house.declare("deployment", "web", {**document, "env": [{"name": "A", "value": "b"}]})
    await house.phase("deployment", "web", "Ready")
    assert len(git_server.requests) == asked
    model.commit({"index.html": "newer"})
    with house.db.write() as db:
        revisions.restart(db, house.get("deployment", "web"), source="cli", now=time.time())
    house.reconciler.hint("deployment", house.get("deployment", "web").uid)
    await house.phase("deployment", "web", "Ready")
    assert (await house.http.get("/deployments/web/")).text == "newer"
    house.delete("deployment", "web")
    await house.gone("deployment", "web")
    assert house.store.volumes("content") == []


def texts(folders: list[Path]) -> Iterator[str]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path.read_bytes().decode("latin-1")
