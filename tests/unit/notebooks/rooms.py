"""The rooms below the controllers, in memory: an engine whose containers obey the test, and who they talk to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.engine.accounts import Account
from appliance.engine.labels import PREFIX
from appliance.engine.types import Container, ContainerSpec
from appliance.errors import EngineError, ImageNotFound, RouterError
from appliance.router.table import Route
from appliance.telemetry.types import LogSource


class FakeEngine:
    """`port` is what every published port becomes; `log` is what every container says."""

    def __init__(self, clock: Callable[[], float], *, port: int = 1) -> None:
        self.clock = clock
        self.port = port
        self.log = ""
        self.exit_codes: dict[str, int] = {}
        """Answers of `exec` by image; 0 where none is given."""
        self.refuse_start = ""
        self.stop_code = 143
        """What ends because it is asked to says so."""
        self.missing_images: set[str] = set()
        self.containers: dict[str, Container] = {}
        self.specs: dict[str, ContainerSpec] = {}
        self.stopped: list[str] = []
        self.named: dict[str, Account] = {}
        self.answers: dict[str, tuple[int, str]] = {}
        """Image -> exit code and output of whatever it is asked."""
        self.asked: list[str] = []
        self._ids = (f"{number:012x}{0:052x}" for number in itertools.count(1))

    async def create(self, spec: ContainerSpec) -> Container:
        for found in self.containers.values():
            if found.name == spec.name:
                return found
        if spec.image in self.missing_images:
            raise ImageNotFound(f"no such image {spec.image}")
        made = Container(next(self._ids), spec.name, spec.image, spec.image, dict(spec.labels), "created")
        self.containers[made.id] = made
        self.specs[made.id] = spec
        return made

    async def name_user(self, container_id: str, account: Account) -> None:
        self.named[container_id] = account

    async def start(self, container_id: str) -> None:
        if self.refuse_start:
            raise EngineError(self.refuse_start)
        ports = dict.fromkeys(self.specs[container_id].publish, self.port)
        self._change(container_id, state="running", started=self.clock(), ports=ports, log_path=Path("/log"))

    async def stop(self, container_id: str, *, grace_s: float) -> None:
        self.stopped.append(container_id)
        found = self.containers.get(container_id)
        if found and found.state == "running":
            self.end(container_id, self.stop_code)

    async def remove(self, container_id: str) -> None:
        self.containers.pop(container_id, None)

    async def inspect(self, container: str) -> Container | None:
        return self.containers.get(container)

    async def list(self, *, kind: str = "", name: str = "", uid: str = "") -> list[Container]:
        wanted = {PREFIX + key: value for key, value in (("kind", kind), ("name", name), ("uid", uid)) if value}
        return [one for one in self.containers.values() if wanted.items() <= one.labels.items()]

    async def exec(
        self, container_id: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = 30
    ) -> tuple[int, bytes]:
        return self.exit_codes.get(self.specs[container_id].image, 0), b""

    async def ask(
        self, image: str, argv: Sequence[str], *, labels: Mapping[str, str], timeout_s: float
    ) -> tuple[int, str]:
        """Every image has its own Jupyter, unless the test says what it answers."""
        self.asked.append(image)
        return self.answers.get(image, (0, 'appliance-found {"jupyter": true, "keeps": true}'))

    async def logs_tail(self, container_id: str, lines: int) -> str:
        return self.log

    def end(self, container_id: str, code: int, *, oom_killed: bool = False) -> None:
        self._change(
            container_id, state="exited", exit_code=code, oom_killed=oom_killed, finished=self.clock(), ports={}
        )

    def _change(self, container_id: str, **values: object) -> None:
        self.containers[container_id] = replace(self.containers[container_id], **values)  # type: ignore[arg-type]


class FakeImages:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.missing: set[str] = set()
        self.private: dict[str, str] = {}
        """Image -> the registry whose login it needs."""
        self.kept: dict[str, str] = {}
        """Names that were given to images, and by whom they are meant."""

    async def identity(self, ref: str) -> str:
        return "" if ref in self.missing else ref

    async def keep(self, image_id: str, name: str) -> None:
        self.kept[name] = image_id

    async def let_go(self, prefix: str, keep: Collection[str]) -> None:
        self.kept = {name: image for name, image in self.kept.items() if not name.startswith(prefix) or name in keep}

    async def ensure(
        self, ref: str, progress: Callable[[str], None] = print, *, registries: Collection[str] = ()
    ) -> str:
        progress(f"pulling {ref}")
        await self.gate.wait()
        if ref in self.missing or self.private.get(ref, "") not in ("", *registries):
            raise ImageNotFound(f"no image {ref}", hint="check the name")
        return ref


class FakeRouter:
    """`history` keeps every table of targets that a route ever had, to tell what requests could have met."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.history: list[tuple[str, tuple[str, ...]]] = []
        self.drained: list[str] = []
        self.deadlines: list[float] = []
        """Of each drain, seconds."""
        self.down = False
        self.in_time = True
        """Whether the requests of who leaves are done by then."""
        self.gate = asyncio.Event()
        self.gate.set()

    async def set_route(self, route: Route) -> None:
        if self.down:
            raise RouterError("the front door has not been started", hint="start it")
        self.routes[route.prefix] = route
        self.history.append((route.prefix, tuple(target.id for target in route.targets)))

    async def drop_route(self, prefix: str) -> None:
        self.routes.pop(prefix, None)

    async def drain(self, prefix: str, target_id: str, *, deadline_s: float) -> bool:
        self.deadlines.append(deadline_s)
        await self.gate.wait()
        self.drained.append(target_id)
        return self.in_time


class FakeTelemetry:
    def __init__(self) -> None:
        self.attached: set[str] = set()
        self.drained: list[str] = []

    def attach(self, source: LogSource, log_path: Path) -> None:
        self.attached.add(source.container)

    async def drain(self, source: LogSource, log_path: Path, *, timeout_s: float = 30) -> None:
        self.attached.discard(source.container)
        self.drained.append(source.container)


class Killed(BaseException):
    """The daemon's process is gone."""


class Mortality:
    """Kills the daemon at the n-th instant: before or after a call that leaves a mark outside."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.dead = False

    def watch(self, room: object, *names: str) -> None:
        for name in names:
            setattr(room, name, self._mortal(getattr(room, name)))

    def revive(self) -> None:
        self.left, self.dead = 10**9, False

    def _instant(self) -> None:
        self.left -= 1
        self.dead = self.dead or self.left < 0
        if self.dead:
            raise Killed

    def _mortal(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def mortal(*arguments: Any, **more: Any) -> Any:
            self._instant()
            result = await call(*arguments, **more)
            self._instant()
            return result

        return mortal
