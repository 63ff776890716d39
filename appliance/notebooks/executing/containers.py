"""The container of an execution: made like a session of its notebook, with the program that executes in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from appliance.engine.docker import ENDED, Engine
from appliance.engine.endings import ending, last_lines
from appliance.engine.labels import EXECUTION, Owner
from appliance.engine.limits import allowed
from appliance.engine.types import Container, ContainerSpec
from appliance.errors import EngineDown, EngineError, GpuRefused
from appliance.fetching import programs
from appliance.headless import program
from appliance.notebooks import jupyter
from appliance.notebooks.kit.kit import Kit
from appliance.notebooks.making import LIMITS, Making, digest, labels_of
from appliance.notebooks.mounts import Mounts, Pinned
from appliance.scheduler.types import Answer
from appliance.spec.models import Notebook
from appliance.state.executions import Execution
from appliance.state.resources import Resource
from appliance.storage.threads import in_thread
from appliance.storage.trees.removing import discard
from appliance.telemetry.draining import Draining
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource

log = logging.getLogger(__name__)

LONGEST_WORDS = 500


@dataclass(frozen=True, slots=True)
class Seen:
    state: Literal["none", "created", "running", "ended"] = "none"
    container: Container | None = None


class Containers:
    """`root` is where the private files of each lie; `secrets` are values that no message may show."""

    def __init__(
        self,
        *,
        engine: Engine,
        making: Making,
        mounts: Mounts,
        kit: Kit,
        telemetry: Telemetry,
        secrets: Callable[[], Sequence[str]],
        root: Path,
        instance: str,
        grace_s: float,
    ) -> None:
        self._engine = engine
        self._making = making
        self._mounts = mounts
        self._kit = kit
        self._telemetry = telemetry
        self._draining = Draining(telemetry)
        self._secrets = secrets
        self._root = root
        self._instance = instance
        self._grace_s = grace_s

    async def look(self, one: Execution) -> Seen:
        """Its container, found by its labels. The log reader follows one that runs."""
        for listed in await self._engine.list(kind=EXECUTION, uid=one.id):
            found = await self._engine.inspect(listed.id)
            if found is None or found.state == "removing":
                continue
            if found.state == "running" and found.log_path:
                self._telemetry.attach(_source(one, found), found.log_path)
            return Seen(_state(found), found)
        return Seen()

    async def make(self, one: Execution, notebook: Resource, spec: Notebook, pinned: Pinned, lease: Answer) -> str:
        """Its id; not started. Done again it finds the one it made. Raises ApplianceError."""
        files = program.files_of(
            f"{jupyter.ROOT}/{one.file}", f"{jupyter.ROOT}/{one.output}", one.parameters, one.kernel
        )
        owner = Owner(
            instance=self._instance,
            kind=EXECUTION,
            name=one.name,
            uid=one.id,
            part=one.part,
            generation=one.generation,
            digest=digest(spec),
        )
        root = self._root / one.id
        await in_thread(partial(root.mkdir, parents=True, exist_ok=True, mode=0o700))
        private = await in_thread(partial(programs.lay_out, root, files, secret=False, tells=False))
        kit = await self._kit.fit(spec.image)
        wanted = ContainerSpec(
            name=f"appliance-{self._instance}-execution-{one.id}",
            image=spec.image,
            labels={**owner.to_labels(), **(kit.labels if kit else {}), **labels_of(lease)},
            entrypoint=programs.command_of(program.PROGRAM, kit.python if kit else ("python3",)),
            command=(),
            env={**self._making.environment(notebook, spec), **(kit.env if kit else {})},
            mounts=[
                *await self._mounts.of_files(notebook, spec, pinned, key=one.part),
                *private,
                *(kit.mounts if kit else ()),
            ],
            workdir=jupyter.ROOT,
            user=spec.user,
            cpus=(most := self._making.limits(spec)).cpus,
            memory_bytes=most.memory_bytes,
            shm_bytes=most.shm_bytes,
            gpus=lease.cards,
            limits=allowed(LIMITS),
        )
        made = await self._engine.create(wanted)
        if made.state == "created":
            await self._making.name_user(made.id, notebook, spec)
        return made.id

    async def start(self, container: Container) -> None:
        """What the engine refuses is the container's end, which says why; not so where it only lacks a GPU.

        Raises GpuRefused.
        """
        try:
            await self._engine.start(container.id)
        except (EngineDown, GpuRefused):
            raise
        except EngineError:
            found = await self._engine.inspect(container.id)
            if found is None or _state(found) != "ended":
                raise

    async def drop(self, container: Container) -> None:
        """One that never ran: it is made again."""
        await self._engine.remove(container.id)

    async def stop(self, container: Container) -> None:
        """It saves what it has. One that does not is killed after the grace."""
        await self._engine.stop(container.id, grace_s=self._grace_s)

    async def read_out(self, one: Execution, container: Container) -> str:
        """How it ended, in words; all its lines are stored then. Raises TelemetryError the first times they cannot."""
        if container.log_path:
            await self._draining.drain(_source(one, container), container.log_path)
        said = last_lines(await self._engine.logs_tail(container.id, 1), self._secrets())
        words = said.removeprefix(programs.LAST_LINE).strip()[:LONGEST_WORDS]
        if container.oom_killed or not words or not said.startswith(programs.LAST_LINE):
            return ending(container)
        return words

    async def clear(self, one: Execution, container: Container | None) -> None:
        """Nothing of it stays but what it wrote into the workspace, and its lines."""
        if container:
            await self._engine.remove(container.id)
        await in_thread(discard, self._root / one.id)

    async def forget_secrets(self, one: Execution, notebook: Resource) -> None:
        await self._mounts.forget_secrets(notebook, one.part)


def _state(container: Container) -> Literal["created", "running", "ended"]:
    if container.state == "created":
        return "ended" if container.error else "created"
    return "ended" if container.state in ENDED else "running"


def _source(one: Execution, container: Container) -> LogSource:
    return LogSource(kind="notebook", name=one.name, part=one.part, container=container.id)
