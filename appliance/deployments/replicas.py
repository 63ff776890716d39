"""Replicas as the engine knows them: seen, made, started, stopped and cleared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from appliance.deployments.elapsed import Elapsed
from appliance.deployments.facts import Place, Replica, part
from appliance.deployments.prober import Prober
from appliance.deployments.probes import Health, probes_of
from appliance.engine.docker import Engine
from appliance.engine.endings import ending, last_lines
from appliance.engine.interrupted import Outages
from appliance.engine.labels import PREFIX, Owner, owner_of
from appliance.engine.types import Container, ContainerSpec, Mount
from appliance.errors import EngineError, GpuRefused
from appliance.scheduler.leasing import LEASE
from appliance.scheduler.types import Answer
from appliance.settings import Settings
from appliance.spec.limits import limits_of
from appliance.spec.models import Deployment
from appliance.state.resources import Resource
from appliance.telemetry.draining import Draining
from appliance.telemetry.push import environment as pushing
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource

STREAK = PREFIX + "streak"
"""Label: quick endings in a row in the replica's place before it was made."""
EXCUSED = PREFIX + "excused"
"""Label: how many times its place was made again because the appliance, the engine or the machine was stopped."""
SECRETS = PREFIX + "secrets"
"""Label: tells whether its environment has the same secrets in it as another's; empty: it has none."""
PORT = PREFIX + "port"
"""Label: the container port that is served."""
TAIL_LINES = 50


@dataclass(frozen=True, slots=True)
class End:
    """What was learnt when a replica was first seen ended."""

    at: float
    why: str
    tail: str = ""
    interrupted: bool = False
    """Its program did not end by itself."""


class Replicas:
    def __init__(
        self,
        *,
        engine: Engine,
        telemetry: Telemetry,
        prober: Prober,
        outages: Outages,
        elapsed: Elapsed,
        settings: Settings,
        instance: str,
        clock: Callable[[], float],
        secrets: Callable[[], Sequence[str]],
    ) -> None:
        self._engine = engine
        self._telemetry = telemetry
        self._draining = Draining(telemetry)
        self._prober = prober
        self._outages = outages
        self._elapsed = elapsed
        self._settings = settings
        self._instance = instance
        self._clock = clock
        self._secrets = secrets
        self._ends: dict[str, End] = {}
        self._sick: dict[str, str] = {}
        """Container id -> why it was stopped, for its record."""
        self._lost: dict[tuple[str, str], str] = {}
        """By uid and its part of the leases, why the replica there cannot reach its GPUs any more."""

    async def observe(
        self, deployment: Resource, specs: Mapping[str, Deployment], *, but: frozenset[str]
    ) -> tuple[dict[Replica, Container], list[tuple[Replica, End]]]:
        """All replicas that have a container, and those of them whose end is news.

        `specs` by digest: a replica of none of them is not probed. `but`: ids to leave out, of those that are leaving.
        """
        seen: dict[Replica, Container] = {}
        ended: list[tuple[Replica, End]] = []
        for listed in await self._engine.list(kind="deployment", uid=deployment.uid):
            container = None if listed.id in but else await self._engine.inspect(listed.id)
            if container is None or container.state == "removing":
                continue
            told = container.id in self._ends or _shown(deployment, container).get("state") == "ended"
            replica = await self._replica(deployment, specs, container)
            seen[replica] = container
            if replica.state == "ended" and not told:
                ended.append((replica, self._ends[container.id]))
        return seen, ended

    def lose(self, uid: str, part: str, words: str) -> None:
        """The replica that runs there has lost its GPUs: it is to be made again."""
        self._lost[uid, part] = words

    async def make(
        self,
        deployment: Resource,
        spec: Deployment,
        place: Place,
        *,
        image: str,
        env: Mapping[str, str],
        mounts: Sequence[Mount],
        gpus: Answer,
        secrets: str = "",
    ) -> str:
        """Id of a replica's container, not started. Done again it finds the one it made.

        Raises ImageNotFound and others.
        """
        generation = place.revision.generation
        label = Owner(
            instance=self._instance,
            kind="deployment",
            name=deployment.name,
            uid=deployment.uid,
            part=f"{generation}-{place.index}",
            generation=generation,
            digest=place.revision.digest,
        )
        name = f"appliance-{self._instance}-deployment-{deployment.name}"
        probes = [probe for probe in (spec.startup, spec.readiness, spec.liveness) if probe and probe.port]
        wanted = ContainerSpec(
            name=f"{name}-{generation}-{place.index}-{place.restarts}",
            image=image,
            labels={
                **label.to_labels(),
                STREAK: str(place.streak),
                EXCUSED: str(place.excused),
                SECRETS: secrets,
                PORT: str(spec.ports[0]),
                **({LEASE: gpus.lease} if gpus.cards else {}),
            },
            entrypoint=spec.command,
            env={
                "APPLIANCE_URL": f"http://host.docker.internal:{self._settings.port}",
                **pushing.environment("deployment", deployment.uid, self._settings.push_port),
                **env,
            },
            mounts=mounts,
            publish=tuple(dict.fromkeys([*spec.ports, *(probe.port for probe in probes if probe.port)])),
            cpus=(most := limits_of(spec.machine, self._settings)).cpus,
            memory_bytes=most.memory_bytes,
            shm_bytes=most.shm_bytes,
            gpus=gpus.cards,
        )
        made = await self._engine.create(wanted)
        self._lost.pop((deployment.uid, part(place.revision.digest, place.index)), None)
        if _owner(made).uid != deployment.uid:
            # left by a deployment of this name whose row is lost: nothing refers to it any more
            await self._engine.remove(made.id)
            made = await self._engine.create(wanted)
        return made.id

    async def start(self, replica: Replica) -> None:
        """A refusal of the engine is the end of the replica, and says why. Raises GpuRefused."""
        try:
            await self._engine.start(replica.id)
        except GpuRefused:
            raise
        except EngineError as error:
            self._sick[replica.id] = f"it could not be started: {error.message}"
            self._ends.pop(replica.id, None)

    async def stop(self, replica: Replica) -> None:
        """Its container stays as the record of how it ended, and why."""
        self._prober.forget(replica.id)
        if replica.sick:
            self._sick[replica.id] = replica.sick
        await self._engine.stop(replica.id, grace_s=self._settings.stop_grace_s)

    async def clear(self, deployment: Resource, replica: Replica, container: Container) -> None:
        """All it has said is stored before it goes."""
        await self._drain(deployment, container)
        await self._engine.remove(replica.id)
        self._prober.forget(replica.id)
        self._ends.pop(replica.id, None)
        self._sick.pop(replica.id, None)

    async def last_words(self, replicas: Iterable[Replica]) -> str:
        """The end of the log of the replica that ended last, else of one that runs and is not ready; may be empty."""
        ended = [replica for replica in replicas if replica.id in self._ends]
        if ended:
            return self._ends[max(ended, key=lambda replica: replica.ended).id].tail
        unready = next((replica for replica in replicas if replica.state == "running" and not replica.able), None)
        return await self._tail(unready.id) if unready else ""

    async def _replica(self, deployment: Resource, specs: Mapping[str, Deployment], container: Container) -> Replica:
        owner, state = _owner(container), _state(container, refused=container.id in self._sick)
        health = None
        if state == "running":
            health = self._watch(deployment, specs.get(owner.digest), container)
        else:
            self._prober.forget(container.id)
        if state == "ended" and container.id not in self._ends:
            self._ends[container.id] = await self._read_out(deployment, container)
        end = self._excuse(deployment, container) if state == "ended" else None
        index = _number(owner.part.rpartition("-")[2])
        lost = self._lost.get((deployment.uid, part(owner.digest, index)), "") if state == "running" else ""
        return Replica(
            id=container.id,
            generation=owner.generation,
            index=index,
            restarts=_number(container.name.rpartition("-")[2]),
            digest=owner.digest,
            state=state,
            streak=_number(container.labels.get(STREAK, "")),
            excused=_number(container.labels.get(EXCUSED, "")),
            ready=health.ready if health else state == "running" and _was_ready(deployment, container),
            sick=lost or (health.sick if health else ""),
            said=health.said if health else "",
            started=self._elapsed.at(container.id, container.started or 0.0),
            ended=self._elapsed.at(container.id, container.finished or end.at) if end else 0.0,
            ending=end.why if end else "",
            interrupted=end.interrupted if end else False,
        )

    def _watch(self, deployment: Resource, spec: Deployment | None, container: Container) -> Health | None:
        if container.log_path:
            self._telemetry.attach(_source(deployment, container), container.log_path)
        if spec is None:
            return self._prober.health(container.id)
        return self._prober.watch(
            deployment.uid,
            container,
            probes_of(spec),
            spec.ports[0],
            was_ready=_was_ready(deployment, container),
        )

    def _excuse(self, deployment: Resource, container: Container) -> End:
        """Its end; told anew each time, for it may be known later only that the engine was about to stop."""
        end, stopped = self._ends[container.id], _shown(deployment, container).get("stopped")
        if container.id in self._sick or (found := self._outages.of(container, stopped, service=True)) is None:
            return end
        self._ends[container.id] = replace(end, why=found.message, tail="", interrupted=True)
        return self._ends[container.id]

    async def _read_out(self, deployment: Resource, container: Container) -> End:
        await self._drain(deployment, container)
        why = self._sick.get(container.id) or ending(container)
        return End(container.finished or self._clock(), why, await self._tail(container.id))

    async def _tail(self, container_id: str) -> str:
        return last_lines(await self._engine.logs_tail(container_id, TAIL_LINES), self._secrets())

    async def _drain(self, deployment: Resource, container: Container) -> None:
        if container.log_path:
            await self._draining.drain(_source(deployment, container), container.log_path)


def port_of(container: Container) -> int | None:
    """The port on 127.0.0.1 where a running replica is served."""
    return container.ports.get(_number(container.labels.get(PORT, "")))


def _was_ready(deployment: Resource, container: Container) -> bool:
    """As stored: what a daemon that comes back goes by until its probes have spoken."""
    return bool(_shown(deployment, container).get("ready"))


def _shown(deployment: Resource, container: Container) -> Mapping[str, Any]:
    rows: Sequence[Mapping[str, Any]] = deployment.status.get("replicas", ())
    return next((row for row in rows if row["container"] == container.id), {})


def _owner(container: Container) -> Owner:
    found = owner_of(container.labels)
    assert found is not None, f"{container.name} carries no owner"
    return found


def _source(deployment: Resource, container: Container) -> LogSource:
    return LogSource(kind="deployment", name=deployment.name, part=_owner(container).part, container=container.id)


def _state(container: Container, *, refused: bool) -> Literal["created", "running", "ended"]:
    if container.state == "created":
        return "ended" if container.error or refused else "created"
    return "ended" if container.state in ("exited", "dead") else "running"


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
