"""Sessions as the engine knows them: seen, started, stopped and cleared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from appliance.engine.docker import Engine
from appliance.engine.endings import ending, last_lines
from appliance.engine.interrupted import Outages
from appliance.engine.labels import PREFIX, Owner, owner_of
from appliance.engine.types import Container
from appliance.errors import EngineError, GpuRefused
from appliance.notebooks import jupyter
from appliance.notebooks.plan import Session
from appliance.scheduler.leasing import LEASE
from appliance.state.resources import Resource
from appliance.telemetry.draining import Draining
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource

CRASHES = PREFIX + "crashes"
"""Label: quick endings in a row before this session."""
TAIL_LINES = 50


@dataclass(frozen=True, slots=True)
class _End:
    """What was learnt when a session was first seen ended."""

    at: float
    why: str
    tail: str = ""
    closed: bool = False
    interrupted: bool = False


class Sessions:
    def __init__(
        self,
        *,
        engine: Engine,
        telemetry: Telemetry,
        outages: Outages,
        grace_s: float,
        clock: Callable[[], float],
        secrets: Callable[[], Sequence[str]],
    ) -> None:
        self._engine = engine
        self._telemetry = telemetry
        self._draining = Draining(telemetry)
        self._outages = outages
        self._grace_s = grace_s
        self._clock = clock
        self._secrets = secrets
        self._ends: dict[str, _End] = {}

    async def observe(self, notebook: Resource) -> dict[Session, Container]:
        """All sessions that have a container. The log reader follows one that runs and reads out one that ended."""
        seen: dict[Session, Container] = {}
        for listed in await self._engine.list(kind="notebook", uid=notebook.uid):
            container = await self._engine.inspect(listed.id)
            if container and container.state != "removing":
                seen[await self._session(notebook, container)] = container
        return seen

    async def start(self, session: Session) -> None:
        """A refusal of the engine is the end of the session, and says why. Raises GpuRefused, which is none."""
        try:
            await self._engine.start(session.id)
        except GpuRefused:
            raise
        except EngineError as error:
            self._ends[session.id] = _End(self._clock(), f"it could not be started: {error.message}")

    async def stop(self, session: Session) -> None:
        await self._engine.stop(session.id, grace_s=self._grace_s)

    async def clear(self, notebook: Resource, container: Container) -> None:
        """All it has said is stored before it goes."""
        await self._drain(notebook, container)
        await self._engine.remove(container.id)
        self._ends.pop(container.id, None)

    def last_words(self, session: Session) -> str:
        """The end of an ended session's log; may be empty."""
        return self._ends[session.id].tail if session.id in self._ends else ""

    async def _session(self, notebook: Resource, container: Container) -> Session:
        state = _state(container)
        ready = notebook.status.get("ready") == container.id
        if state == "running" and container.log_path:
            self._telemetry.attach(_source(notebook, container), container.log_path)
        if state == "ended" and container.id not in self._ends:
            self._ends[container.id] = await self._read_out(notebook, container, ready=ready)
        end = self._excuse(notebook, container)
        return Session(
            id=container.id,
            number=_number(number_of(container)),
            digest=owner(container).digest,
            state="ended" if end else state,
            crashes=_number(container.labels.get(CRASHES, "")),
            ready=ready,
            started=container.started or 0.0,
            ended=(container.finished or end.at) if end else 0.0,
            ending=end.why if end else "",
            closed=end.closed if end else False,
            interrupted=end.interrupted if end else False,
            lease=container.labels.get(LEASE, ""),
        )

    def _excuse(self, notebook: Resource, container: Container) -> _End | None:
        """Its end; told anew each time, for it may be known later only that the engine was about to stop."""
        end = self._ends.get(container.id)
        if end is None or end.closed:
            return end
        stopped = notebook.status.get("stopped") if notebook.status.get("container") == container.id else None
        if found := self._outages.of(container, stopped, service=True):
            end = self._ends[container.id] = replace(end, why=found.message, tail="", interrupted=True)
        return end

    async def _read_out(self, notebook: Resource, container: Container, *, ready: bool) -> _End:
        await self._drain(notebook, container)
        tail = await self._engine.logs_tail(container.id, TAIL_LINES)
        advice = jupyter.advice(container.exit_code, tail)
        return _End(
            at=self._clock(),
            why=ending(container) + (f"; {advice}" if advice else ""),
            tail=last_lines(tail, [*self._secrets(), notebook.status.get("token", "")]),
            closed=ready and jupyter.closed_by_user(container.exit_code, tail),
        )

    async def _drain(self, notebook: Resource, container: Container) -> None:
        if container.log_path:
            await self._draining.drain(_source(notebook, container), container.log_path)


def number_of(container: Container) -> str:
    return container.name.rpartition("-")[2]


def owner(container: Container) -> Owner:
    found = owner_of(container.labels)
    assert found is not None, f"{container.name} carries no owner"
    return found


def _source(notebook: Resource, container: Container) -> LogSource:
    return LogSource(kind="notebook", name=notebook.name, part="", container=container.id)


def _state(container: Container) -> Literal["created", "running", "ended"]:
    if container.state == "created":
        return "ended" if container.error else "created"
    return "ended" if container.state in ("exited", "dead") else "running"


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
