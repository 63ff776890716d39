"""The engine room's door: containers of one appliance, in plain values."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import Any

import docker
import docker.errors

from appliance.engine import accounts, documents, events, failures, looking
from appliance.engine.accounts import Account
from appliance.engine.client import DEADLINE_S, Client
from appliance.engine.devices import hook_found
from appliance.engine.executing import Execution, executing
from appliance.engine.host_config import create_document
from appliance.engine.labels import GPUS, PREFIX, owner_of
from appliance.engine.processes import kill_inside
from appliance.engine.terminals import Size, Terminal, terminal
from appliance.engine.types import Container, ContainerSpec, EngineEvent, EngineInfo
from appliance.errors import Conflict, EngineDown, EngineError, NotFound

ENDED = ("exited", "dead")
WAIT_FIRST_S, WAIT_MOST_S = 0.05, 1.0
OUTAGE_S = 60.0
REMOVAL_S = 10.0
EXEC_OUTPUT_BYTES = 4 * 1024 * 1024


class Engine:
    """Safe to use from many tasks of one event loop. Connects on the first call, and again after a restart."""

    def __init__(self, *, instance: str, docker_host: str = "", network: str | None = None) -> None:
        self.instance = instance
        self.network = network or f"appliance-{instance}"
        self.client = Client(docker_host)
        """For this room only."""
        self._gateway: str | None = None
        self._connected = 0.0
        self._network_lock = asyncio.Lock()

    async def connect(self) -> EngineInfo:
        """What the engine is. Raises EngineDown with the next step; may be called again at any time."""
        self.client.forget()
        self._gateway = None
        begun = time.time()
        found = await self.look()
        self._connected = begun
        return found

    async def look(self) -> EngineInfo:
        """What the engine is and can do now: the GPUs that CDI names change while it runs."""
        info = await self.client.call(lambda api: api.info())
        version = await self.client.call(lambda api: api.version())
        found = documents.info(info, version)
        if found.gpu_runtime:
            return found
        return replace(found, gpu_runtime=await self.client.call(lambda _: hook_found(self.client.address)))

    async def ensure_network(self) -> str:
        """Make this appliance's bridge where it is missing; returns the host's address on it."""
        async with self._network_lock:
            found = await self._inspect_network()
            if found is None:
                await self.client.call(self._create_network)
                found = await self._inspect_network()
            ranges = ((found or {}).get("IPAM") or {}).get("Config") or ()
            gateway = next((entry["Gateway"] for entry in ranges if ":" not in entry.get("Gateway", ":")), "")
            if not gateway:
                raise EngineError(
                    f"network {self.network} has no IPv4 gateway",
                    where="docker",
                    hint=f"remove it (`docker network rm {self.network}`); it is made again",
                )
            self._gateway = str(gateway).partition("/")[0]
            return self._gateway

    async def create(self, spec: ContainerSpec) -> Container:
        """Make a container, or return this instance's container that already has the name.

        Of one just made the answer tells what was asked for, and neither `image_id` nor `log_path`. One that was never
        started and has other GPUs is made again; one that was started keeps what it has.
        Raises ImageNotFound (call Images.ensure before), Conflict where the name belongs to somebody else.
        """
        gateway = self._gateway or await self.ensure_network()
        info = await self.look() if spec.gpus else None
        document = create_document(spec, network=self.network, gateway=gateway, info=info)
        deadline = time.monotonic() + REMOVAL_S
        while True:
            found = await self._create_or_find(spec, document)
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the former container {spec.name} is still being removed",
                    where="docker",
                    hint="it is tried again; `docker ps -a` shows its state",
                )
            await asyncio.sleep(0.2)

    async def _create_or_find(self, spec: ContainerSpec, document: dict[str, Any]) -> Container | None:
        """None: try again, a container of that name is just going away."""

        def work(api: docker.APIClient) -> dict[str, Any]:
            made: dict[str, Any] = api.create_container_from_config(document, name=spec.name)  # type: ignore[no-untyped-call]
            return made

        try:
            made = await self.client.call(work, image=spec.image)
        except Conflict as conflict:
            found = await self.inspect(spec.name)
            if found is None or found.state == "removing":
                return None
            owner = owner_of(found.labels)
            if owner is None or owner.instance != self.instance:
                raise Conflict(
                    f"the container name {spec.name} belongs to another program or appliance",
                    where="docker",
                    hint=f"look at it with `docker inspect {spec.name}`; remove it if nobody needs it",
                ) from conflict
            if found.state == "created" and found.labels.get(GPUS, "") != ",".join(spec.gpus):
                await self.remove(found.id)  # made for a lease that is over: those cards are another container's now
                return None
            return found
        # what the engine would say of it now; to ask costs more than the creation of a small one
        return Container(
            id=str(made["Id"]),
            name=spec.name,
            image=spec.image,
            image_id="",
            labels=dict(spec.labels),
            state="created",
        )

    async def name_user(self, container_id: str, account: Account) -> None:
        """Make a user known in a container that has not been started; one that its image knows is left alone."""
        await self.client.call(lambda api: accounts.write(api, container_id, account))

    async def start(self, container_id: str) -> None:
        """Start it; one that runs already is fine. Raises EngineError with the engine's words."""
        try:
            await self.client.call(lambda api: api.start(container_id))
        except EngineError as error:
            if f"network {self.network} not found" not in error.message:
                raise
            await self.ensure_network()  # somebody pruned it since the container was made
            await self.client.call(lambda api: api.start(container_id))

    async def stop(self, container_id: str, *, grace_s: float) -> None:
        """Ask it to end and kill it after `grace_s`; stopped or gone is fine."""
        grace = max(0, math.ceil(grace_s))
        await self._unless_gone(lambda api: api.stop(container_id, timeout=grace), DEADLINE_S + grace)

    async def kill(self, container_id: str) -> None:
        """SIGKILL; not running or gone is fine."""
        try:
            await self._unless_gone(lambda api: api.kill(container_id))
        except (Conflict, EngineError) as error:
            if "is not running" not in error.message:
                raise

    async def remove(self, container_id: str) -> None:
        """Kill and remove it with its anonymous volumes; gone is fine."""
        await self._unless_gone(lambda api: api.remove_container(container_id, force=True, v=True))

    async def inspect(self, container: str) -> Container | None:
        """By id or name, of whatever owner; None: there is none."""

        def work(api: docker.APIClient) -> Container | None:
            try:
                return documents.container_from_inspect(api.inspect_container(container))
            except docker.errors.NotFound:
                return None

        return await self.client.call(work)

    async def list(self, *, kind: str = "", name: str = "", uid: str = "") -> list[Container]:
        """This instance's containers in any state. Times, errors and log paths are empty here: see inspect."""
        wanted = {"instance": self.instance, "kind": kind, "name": name, "uid": uid}
        labels = [f"{PREFIX}{key}={value}" for key, value in wanted.items() if value]
        found = await self.client.call(lambda api: api.containers(all=True, filters={"label": labels}))
        return [documents.container_from_summary(document) for document in found]

    async def wait(self, container_id: str) -> Container:
        """Until it has ended, told within a second. Rides out an engine restart; NotFound if it is removed meanwhile.

        Events tell it sooner and cheaper: this is for callers that follow none.
        """
        answered = time.monotonic()
        delay = WAIT_FIRST_S
        while True:
            try:
                found = await self.inspect(container_id)
                answered = time.monotonic()
            except EngineDown:
                if time.monotonic() - answered > OUTAGE_S:
                    raise
            else:
                if found is None:
                    raise NotFound(f"container {container_id[:12]} is gone", hint="it was removed while it ran")
                if found.state in ENDED:
                    return found
            await asyncio.sleep(delay)
            delay = min(WAIT_MOST_S, delay * 1.5)

    async def exec(
        self, container_id: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = 30
    ) -> tuple[int, bytes]:
        """Run a command in a running container; its exit code and output (stdout and stderr, the last 4 MiB).

        After `timeout_s` it raises EngineError and ends the command, where the engine runs on this machine.
        """
        made = await self.client.call(
            lambda api: api.exec_create(container_id, list(argv), environment=dict(env or {}))
        )
        output = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                stream = await self.client.stream(lambda api: api.exec_start(made["Id"], stream=True))
                try:
                    async for piece in stream:
                        output += piece
                        del output[:-EXEC_OUTPUT_BYTES]
                finally:
                    await stream.aclose()
        except TimeoutError:
            running = await self.client.call(lambda api: api.exec_inspect(made["Id"]))
            killed = kill_inside(int(running.get("Pid") or 0), str(running.get("ContainerID") or container_id))
            raise EngineError(
                f"`{argv[0]}` did not end within {timeout_s:g} s",
                where=f"container {container_id[:12]}",
                hint="give it more time" if killed else "it may still run; restart the container to end it",
            ) from None
        done = await self.client.call(lambda api: api.exec_inspect(made["Id"]))
        return int(done.get("ExitCode") or 0), bytes(output)

    def executing(self, container_id: str, argv: Sequence[str]) -> AbstractAsyncContextManager[Execution]:
        """A command whose output is read as it comes; see executing.executing."""
        return executing(self.client, container_id, argv)

    def terminal(
        self, container_id: str, argv: Sequence[str], *, tty: bool, size: Size, env: Mapping[str, str]
    ) -> AbstractAsyncContextManager[Terminal]:
        """A command that is spoken with while it runs; see terminals.terminal."""
        return terminal(self.client, container_id, argv, tty=tty, size=size, env=env)

    async def ask(
        self, image: str, argv: Sequence[str], *, labels: Mapping[str, str], timeout_s: float
    ) -> tuple[int, str]:
        """What a command of an image says in a container that can reach nothing; see looking.ask."""
        return await looking.ask(self.client, image, argv, labels=labels, timeout_s=timeout_s)

    async def export(self, image: str, write: Callable[[bytes], object], *, labels: Mapping[str, str]) -> None:
        """All files of an image as a tar; see looking.export."""
        await looking.export(self.client, image, write, labels=labels)

    def events(self) -> AsyncIterator[EngineEvent]:
        """This instance's container events since `connect` (else from now on), endlessly; see events.follow."""
        return events.follow(self.client, instance=self.instance, since=self._connected or time.time())

    async def logs_tail(self, container_id: str, lines: int) -> str:
        """The last lines a container wrote, stdout and stderr; empty where it is gone."""

        def work(api: docker.APIClient) -> bytes:
            try:
                return api.logs(container_id, tail=lines)
            except docker.errors.NotFound:
                return b""

        return (await self.client.call(work)).decode("utf-8", "replace")

    async def close(self) -> None:
        self.client.forget()

    async def _unless_gone(self, work: Any, deadline_s: float = DEADLINE_S) -> None:
        def tolerant(api: docker.APIClient) -> None:
            try:
                work(api)
            except docker.errors.APIError as error:
                if not failures.is_gone(error):
                    raise

        await self.client.call(tolerant, deadline_s=deadline_s)

    async def _inspect_network(self) -> Mapping[str, Any] | None:
        def work(api: docker.APIClient) -> Mapping[str, Any] | None:
            named = [network for network in api.networks(names=[self.network]) if network["Name"] == self.network]
            named.sort(key=lambda network: str(network["Created"]))
            # The engine lets two make the same name at once, which then means neither: a daemon that was killed
            # meanwhile, and the next one.
            for younger in named[1:]:
                if (younger.get("Labels") or {}).get(PREFIX + "instance") == self.instance:
                    with suppress(docker.errors.NotFound):
                        api.remove_network(younger["Id"])
            if not named:
                return None
            try:
                found: Mapping[str, Any] = api.inspect_network(named[0]["Id"])
                return found
            except docker.errors.NotFound:
                return None

        return await self.client.call(work)

    def _create_network(self, api: docker.APIClient) -> None:
        try:
            api.create_network(
                self.network,
                driver="bridge",
                # Containers reach the host and the internet, not each other: strangers' code runs in them.
                options={"com.docker.network.bridge.enable_icc": "false"},
                labels={PREFIX + "instance": self.instance},
                check_duplicate=True,
            )
        except docker.errors.APIError as error:
            if error.status_code != 409:
                raise
