"""An engine in memory, and a bench that drives the controller by its hints until nothing is left to do.

Rows, volumes, datasets and secrets are the real ones below a temporary folder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import Owner, owner_of
from appliance.engine.types import Container, ContainerSpec
from appliance.errors import EngineDown, EngineError, NoSuchImage
from appliance.reconcile import Again
from appliance.scheduler.leasing import Leases, NoGpus
from appliance.settings import Settings
from appliance.state import runs
from appliance.state.db import Connection, Database
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.scratch import Scratch
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogLine, LogQuery, LogSource
from appliance.vault.secrets import Secrets
from appliance.workflows.controller import RunController
from appliance.workflows.kept import keeping
from appliance.workflows.submit import start_run
from tests.conftest import Clock
from tests.unit.scheduler.fakes import FakeLeases

INSTANCE = "0123abcd"

Body = Callable[["Inside"], int | None]
"""What a job does: its exit code, or None to go on running until `FakeEngine.exit`."""


class Killed(BaseException):
    """The daemon is gone at this instant: no handler of its own runs."""


@dataclass(frozen=True)
class Inside:
    """A container's view: its paths as they lie on the host."""

    spec: ContainerSpec

    def path(self, target: str) -> Path:
        mounts = [mount for mount in self.spec.mounts if f"{target}/".startswith(f"{mount.target}/")]
        mount = max(mounts, key=lambda candidate: len(candidate.target))
        return mount.source / target[len(mount.target) :].lstrip("/")

    def read_only(self, target: str) -> bool:
        return next(mount.read_only for mount in self.spec.mounts if mount.target == target)


def _nothing(inside: Inside) -> int:
    return 0


@dataclass
class FakeEngine:
    clock: Clock
    body: Mapping[str, Body] = field(default_factory=dict)
    notice: Callable[[Owner, str], None] = lambda owner, action: None
    """Told of each event, as the daemon is by the engine."""
    containers: dict[str, Container] = field(default_factory=dict)
    specs: dict[str, ContainerSpec] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    """Jobs in the order in which their containers were started."""
    most_running: int = 0
    before: Callable[[str], None] = lambda call: None
    """Called before each call takes effect, and after it as `CALL done`; may raise."""
    images: set[str] = field(default_factory=lambda: {"busybox", "appliance/base"})
    moved: dict[str, str] = field(default_factory=dict)
    """Image name -> the id it means, where that is not the one it meant at first."""
    private: dict[str, str] = field(default_factory=dict)
    """Image name -> the registry whose login it needs."""
    gone: set[str] = field(default_factory=set)
    """Ids of images that are not here any more."""
    start_error: str = ""
    refusal: type[EngineError] = EngineError
    """What a start fails with, where there is an error."""
    stop_code: int = 143
    """What a container ends with that is asked to."""
    unreachable: bool = False

    async def ensure(self, ref: str, progress: Callable[[str], None], *, registries: Collection[str] = ()) -> str:
        progress(f"pulling {ref}")
        self.before("ensure")
        if ref not in self.images or self.private.get(ref, "") not in ("", *registries):
            raise NoSuchImage(f"no image {ref}", hint="check its name")
        return self.moved.get(ref, f"sha256:{ref}")

    async def identity(self, ref: str) -> str:
        found = ref if ref.startswith("sha256:") else self.moved.get(ref, f"sha256:{ref}")
        return "" if found in self.gone else found

    async def create(self, spec: ContainerSpec) -> Container:
        self.before("create")
        found = self._named(spec.name)
        if found is None:
            id_ = f"{len(self.specs):064x}"
            found = Container(
                id=id_,
                name=spec.name,
                image=spec.image,
                image_id=spec.image,
                labels=dict(spec.labels),
                state="created",
                log_path=Path("/nowhere/json.log"),
            )
            self.containers[id_] = found
            self.specs[id_] = spec
            self._tell(found, "create")
        self.before("create done")
        return found

    async def start(self, container_id: str) -> None:
        self.before("start")
        container = self.containers[container_id]
        if container.state == "created":
            if self.start_error:
                raise self.refusal(self.start_error)
            job = _job(container)
            self.starts.append(job)
            self._set("start", container_id, state="running", started=self.clock())
            self.most_running = max(self.most_running, len(self.running()))
            body: Body = self.body.get(job, _nothing)
            code = body(Inside(self.specs[container_id]))
            if code is not None:
                self.exit(job, code)
        self.before("start done")

    async def stop(self, container_id: str, *, grace_s: float) -> None:
        self.before("stop")
        if self.unreachable:
            raise EngineDown("the engine does not answer")
        if container_id in self.containers and self.containers[container_id].state == "running":
            self.exit(_job(self.containers[container_id]), self.stop_code)
        self.before("stop done")

    async def remove(self, container_id: str) -> None:
        self.before("remove")
        if container := self.containers.pop(container_id, None):
            self._tell(container, "destroy")
        self.before("remove done")

    async def inspect(self, container: str) -> Container | None:
        self.before("inspect")
        return self.containers.get(container) or self._named(container)

    async def logs_tail(self, container_id: str, lines: int) -> str:
        return ""

    async def list(self, *, kind: str = "", name: str = "", uid: str = "") -> list[Container]:
        self.before("list")
        owners = [(owner_of(container.labels), container) for container in self.containers.values()]
        return [container for owner, container in owners if owner and (not uid or owner.uid == uid)]

    def running(self) -> Sequence[str]:
        return [_job(container) for container in self.containers.values() if container.state == "running"]

    def exit(self, job: str, code: int, *, oom: bool = False) -> None:
        for id_, container in list(self.containers.items()):
            if _job(container) == job and container.state == "running":
                self._set("die", id_, state="exited", exit_code=code, oom_killed=oom, finished=self.clock())

    def vanish(self, job: str) -> None:
        """Somebody removes its running container."""
        for id_, container in list(self.containers.items()):
            if _job(container) == job and container.state == "running":
                self._tell(self.containers.pop(id_), "destroy")

    def _set(self, action: str, container_id: str, **changes: Any) -> None:
        self.containers[container_id] = replace(self.containers[container_id], **changes)
        self._tell(self.containers[container_id], action)

    def _tell(self, container: Container, action: str) -> None:
        owner = owner_of(container.labels)
        assert owner
        self.notice(owner, action)

    def _named(self, name: str) -> Container | None:
        return next((container for container in self.containers.values() if container.name == name), None)


def _job(container: Container) -> str:
    owner = owner_of(container.labels)
    assert owner
    return owner.part


class FakeTelemetry:
    def __init__(self) -> None:
        self.attached: list[str] = []
        self.drained: list[str] = []
        self.error: Exception | None = None
        self.lines: dict[str, list[LogLine]] = {}
        """What is stored of each job's log."""

    async def logs(self, query: LogQuery) -> list[LogLine]:
        return self.lines.get(query.part, [])[-query.limit :]

    def attach(self, source: LogSource, log_path: Path) -> None:
        self.attached.append(source.part)

    async def drain(self, source: LogSource, log_path: Path, *, timeout_s: float) -> None:
        if self.error:
            raise self.error
        self.drained.append(source.part)


class WatchedStore(DirectoryStore):
    """Tells before and after each change; may be killed at either."""

    before: Callable[[str], None] = staticmethod(lambda call: None)

    def create(self, volume: str, *, owner: tuple[int, int] = (0, 0)) -> Path:
        self.before("create volume")
        path = super().create(volume, owner=owner)
        self.before("create volume done")
        return path

    def snapshot(self, volume: str, snapshot: str) -> None:
        self.before("snapshot")
        super().snapshot(volume, snapshot)
        self.before("snapshot done")

    def clone(self, volume: str, snapshot: str, new: str) -> Path:
        self.before("clone")
        path = super().clone(volume, snapshot, new)
        self.before("clone done")
        return path

    def seal(self, volume: str) -> None:
        self.before("seal")
        super().seal(volume)
        self.before("seal done")

    def destroy(self, volume: str) -> None:
        self.before("destroy")
        super().destroy(volume)
        self.before("destroy done")


class WatchedDatabase(Database):
    """Tells after each commit."""

    before: Callable[[str], None] = staticmethod(lambda call: None)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        outermost = not self.read.in_transaction
        with super().write() as connection:
            yield connection
        if outermost:
            self.before("commit done")


class Bench:
    """One daemon's worth of rooms. `kill` drops the controller with all it remembers, as kill -9 would."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.db = WatchedDatabase(settings.state_file)
        self.db.read.execute("PRAGMA synchronous=OFF")  # a killed daemon loses nothing by this, only a dead machine
        self.store = WatchedStore(settings.volumes_dir, "a test", durable=False)
        self.scratch = Scratch(self.store)
        self.datasets = Datasets(self.db, self.store, clock)
        self.models = Models(self.db, self.store, clock)
        self.vault = Secrets(self.db, settings.home / "key", clock)
        self.engine = FakeEngine(clock)
        self.telemetry = FakeTelemetry()
        self.kills = 0
        self.no_room = ""
        self.leases: Leases = NoGpus()
        """Outlive a kill, as rows do."""
        self.booted = 0.0
        """When the machine began to run; a new controller reads it."""
        self.kill()
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1
        self.queue: deque[str] = deque()
        """Hinted keys, oldest first."""
        self.wakes: dict[str, float] = {}
        """When each key asked to be called again, by the clock."""
        self.again: float | None = None
        self.controller = RunController(
            db=self.db,
            engine=cast(Engine, self.engine),
            images=cast(Images, self.engine),
            store=self.store,
            scratch=self.scratch,
            datasets=self.datasets,
            models=self.models,
            telemetry=cast(Telemetry, self.telemetry),
            vault=self.vault,
            settings=self.settings,
            instance=INSTANCE,
            clock=self.clock,
            hint=self._hint,
            no_room=lambda: self.no_room,
            booted=self.booted,
            leases=self.leases,
        )
        if isinstance(self.leases, FakeLeases):
            self.leases.on_change = self.controller.lease_changed
        self.engine.notice = self.controller.noticed
        self.wake_all()

    def wake_all(self) -> None:
        """As a resync does."""
        self.queue.extend(self.controller.keys())

    def wait(self, seconds: float) -> None:
        """Let time pass; whatever asked to be called meanwhile is."""
        self.clock.now += seconds
        for key in [key for key, at in self.wakes.items() if at <= self.clock.now]:
            del self.wakes[key]
            self.hint(key)

    def watch(self, before: Callable[[str], None]) -> None:
        """Call this at every change outside the controller's own memory."""
        for part in (self.engine, self.store, self.db):
            part.before = before

    def submit(
        self,
        document: Mapping[str, Any],
        inputs: Mapping[str, Any] | None = None,
        *,
        body: Mapping[str, Body] | None = None,
        name: str = "flow",
    ) -> runs.Run:
        if body is not None:
            self.engine.body = {**self.engine.body, **body}
        run = start_run(self.db, None, name, document, inputs or {}, now=self.clock())
        self.hint(run.id)
        return run

    async def settle(self, *, most: int = 2000) -> None:
        """Until no hint is left. A Killed becomes a new controller."""
        await self.settle_some(most)
        if self.queue:
            raise AssertionError(f"does not settle: {list(self.queue)[:5]}")

    async def settle_some(self, turns: int) -> None:
        for _ in range(turns):
            if not self.queue:
                return
            key = self.queue.popleft()
            try:
                again = await self.controller.reconcile(key)
            except Killed:
                self.kill()
                continue
            self.again = again.after if isinstance(again, Again) else None
            if self.again == 0:
                self.hint(key)
            elif self.again is not None:
                self.wakes[key] = min(self.clock() + self.again, self.wakes.get(key, float("inf")))

    def run(self, run: runs.Run) -> runs.Run:
        return runs.get(self.db.read, run.id)

    def jobs(self, run: runs.Run) -> dict[str, runs.Job]:
        return {job.name: job for job in runs.jobs(self.db.read, run.id)}

    def phases(self, run: runs.Run) -> dict[str, str]:
        return {name: job.phase for name, job in self.jobs(run).items()}

    def leftovers(self) -> list[str]:
        """What a finished run must not leave: containers, and volumes but those that somebody still needs."""
        kept = keeping.needed(self.db.read)
        left = [volume for volume in self.store.volumes("runs") if volume not in kept]
        return [container.name for container in self.engine.containers.values()] + left

    def close(self) -> None:
        self.db.close()

    def hint(self, key: str) -> None:
        if key not in self.queue:
            self.queue.append(key)

    def _hint(self, kind: str, key: str) -> None:
        self.hint(key)


def script(*needs: str, **more: Any) -> dict[str, Any]:
    """A job of a workflow document."""
    return {"uses": "script@v1", "with": {"image": "busybox", "script": "true"}, "needs": list(needs), **more}


def flow(**jobs: dict[str, Any]) -> dict[str, Any]:
    return {"jobs": jobs}


def killer(calls: Sequence[int]) -> Callable[[str], None]:
    """Raises Killed at these engine calls, counted from 0."""
    counter: Iterator[int] = iter(range(10**9))
    chosen = set(calls)

    def before(call: str) -> None:
        if next(counter) in chosen:
            raise Killed(call)

    return before
