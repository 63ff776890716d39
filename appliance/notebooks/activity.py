"""What goes on in a session: its kernels, terminals, programs, processors and GPUs, at one look after the other.

Whatever cannot be seen counts as activity, and is said. A look says more with the one before: what has changed since
then was activity, however short it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import anyio
import anyio.to_thread
import httpx2

from appliance.engine import cgroups, inside
from appliance.engine.docker import Engine
from appliance.engine.inside import Inside
from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.foreign import clean
from appliance.notebooks import asking, jupyter
from appliance.notebooks.asking import Silent, Told
from appliance.notebooks.idle import LOOK_EVERY_S, Look
from appliance.state.resources import Resource

ALL_SHARE = 0.2
"""Processors that a session in which nothing goes on may use, all its programs together: Jupyter and open pages."""
ONE_SHARE = 0.05
"""The same for one program that is not Jupyter's server: a kernel at rest takes a hundredth."""
NETWORK_SHARE = 20_000
"""Bytes a second through the network of a session in which nothing goes on, as a mean of a usual time
between two looks: an open page makes 2,100 by itself."""
LOOK_TIMEOUT_S = 20.0
THREADS = 4
"""That look into containers at once; one that never comes back is one less."""

GpuBusy = Callable[[str], bool | None]
"""Uid of a notebook -> whether the GPUs that it has work; None: not known. False where it has none."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What was seen at one moment."""

    at: float
    """Of a clock that is never set, seconds."""
    jupyter: Told | str
    """Or why it does not say."""
    processes: Mapping[int, Inside] | None
    first: int = 0
    """The first process of the container."""
    cpu_s: float | None = None
    """Processor time of the session since it began."""
    saved: float = 0.0
    """When its user saved last; any other mark that changes does."""
    asked: float = 0.0
    """When its user last asked for anything."""
    gpus: bool | None = False
    """They work; None: not known."""
    elsewhere: str = ""
    """What goes on with its files outside the session, in words."""
    typed: int = 0
    """A mark that changes with each use of a terminal of the appliance."""
    network: int | None = None
    """Bytes that have gone in and out since it began; None: not known."""
    age_s: float | None = None
    """Since it began, whatever the clock was set to meanwhile; None: not known."""


def compare(before: Scene | None, now: Scene) -> Look:
    """What keeps the session, the plainest reason first. Pure."""
    if why := next(_reasons(before, now), ""):
        return Look(busy=why)
    if why := next(_unknowns(before, now), ""):
        return Look(busy=why, blind=True)
    return Look(doubt=any(_begun_apart(now)))


def _reasons(before: Scene | None, now: Scene) -> Iterator[str]:
    if isinstance(now.jupyter, Told):
        yield from _computing(now.jupyter)
    yield from _programs(before, now)
    if now.gpus:
        yield "its GPUs work"
    if now.elsewhere:
        yield now.elsewhere
    if before is not None:
        yield from _changes(before, now)
        yield from _processors(before, now)


def _unknowns(before: Scene | None, now: Scene) -> Iterator[str]:
    if isinstance(now.jupyter, str):
        yield f"Jupyter does not say what it does: {now.jupyter}"
    if now.processes is None:
        yield "which programs it runs cannot be seen"
    if now.gpus is None:
        yield "whether its GPUs work cannot be seen"
    if now.cpu_s is None:
        yield "how busy its processors are cannot be seen"
    if before is None or before.cpu_s is None or now.at <= before.at:
        yield "nothing is known of the time before this look"


def _computing(told: Told) -> Iterator[str]:
    busy = [kernel.name for kernel in told.kernels.values() if kernel.busy]
    if len(busy) > 1:
        yield f"{len(busy)} kernels compute, one of them for {busy[0]}"
    elif busy:
        yield f"the kernel of {busy[0]} computes"


def _programs(before: Scene | None, now: Scene) -> Iterator[str]:
    for one in (now.processes or {}).values():
        if one.terminal and not one.at_rest:
            yield f"{_name(one)} runs in a terminal"
    for one in _begun_apart(now):
        if before and before.processes and _same(before.processes, one):
            yield f"{_name(one)} runs, begun from outside"


def _begun_apart(now: Scene) -> Iterator[Inside]:
    """Begun by `docker exec` without a terminal. An image's own health check is one too, for a moment."""
    processes = now.processes or {}
    return (
        one for one in processes.values() if one.parent not in processes and one.pid != now.first and not one.terminal
    )


def _changes(before: Scene, now: Scene) -> Iterator[str]:
    if isinstance(before.jupyter, Told) and isinstance(now.jupyter, Told):
        earlier = before.jupyter
        for key, kernel in now.jupyter.kernels.items():
            if key not in earlier.kernels or earlier.kernels[key].last != kernel.last:
                yield f"the kernel of {kernel.name} was used"
        if now.jupyter.terminals.items() - earlier.terminals.items():
            yield "a terminal was used"
        if now.jupyter.connections > earlier.connections:
            yield "a page was opened"
        if now.jupyter.asked and now.jupyter.asked != earlier.asked:
            yield "its Jupyter was asked for something"
    if now.typed != before.typed:
        yield "a terminal of the appliance was used"
    if now.saved != before.saved:
        yield "a file was saved"
    if now.asked != before.asked:
        yield "its user asked for it"
    if now.network is not None and before.network is not None and now.at > before.at:
        rate = (now.network - before.network) / max(LOOK_EVERY_S, now.at - before.at)
        if rate > NETWORK_SHARE:
            yield f"{rate / 1000:.0f} kB/s go through its network"


def _processors(before: Scene, now: Scene) -> Iterator[str]:
    passed = now.at - before.at
    if now.cpu_s is None or before.cpu_s is None or passed <= 0:
        return
    earlier, present = before.processes or {}, now.processes or {}
    for one in present.values():
        if _same(earlier, one) and one.pid != _server(now):
            share = (one.cpu_s - earlier[one.pid].cpu_s) / passed
            if share > ONE_SHARE:
                yield f"{_name(one)} uses {_processors_in_words(share)}"
    share = (now.cpu_s - before.cpu_s) / passed
    if share > ALL_SHARE:
        yield f"it uses {_processors_in_words(share)}"


def _server(scene: Scene) -> int:
    """The program of the session itself: what the container's first process began first, else that one."""
    children = [one for one in (scene.processes or {}).values() if one.parent == scene.first]
    return min(children, key=lambda one: one.began).pid if children else scene.first


def _same(processes: Mapping[int, Inside], one: Inside) -> bool:
    return one.pid in processes and processes[one.pid].began == one.began


def _name(one: Inside) -> str:
    return f"`{clean(one.name)}`"


def _processors_in_words(share: float) -> str:
    return f"{100 * share:.0f} % of a processor" if share < 1 else f"{share:.1f} processors"


class Activity:
    """Asks everybody who knows. Remembers the look before of each session."""

    def __init__(
        self,
        *,
        engine: Engine,
        http: httpx2.AsyncClient,
        counter: Callable[[], float],
        gpu_busy: GpuBusy,
        elsewhere: Callable[[Resource], str] = lambda notebook: "",
        typed: Callable[[str], int] = lambda container: 0,
    ) -> None:
        """`typed`: container -> a mark that changes with each use of a terminal of the appliance."""
        self._engine = engine
        self._http = http
        self._counter = counter
        self._gpu_busy = gpu_busy
        self._elsewhere = elsewhere
        self._typed = typed
        self._threads: anyio.CapacityLimiter | None = None
        self._scenes: dict[str, Scene] = {}
        """Container -> what was seen last."""

    async def look(self, notebook: Resource, container_id: str, *, gpus: bool, saved: float) -> tuple[Look, Scene]:
        """`gpus`: whether their work counts. Takes some seconds at most; what does not answer counts as busy."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                scene = await self._see(notebook, container_id, gpus=gpus, saved=saved)
        except (ApplianceError, TimeoutError) as error:
            why = error.message if isinstance(error, ApplianceError) else "the engine does not answer"
            scene = Scene(self._counter(), jupyter=why, processes=None)
        found = compare(self._scenes.get(container_id), scene)
        self._scenes[container_id] = scene
        return found, scene

    def keep(self, containers: set[str]) -> None:
        """Forget all others."""
        self._scenes = {key: scene for key, scene in self._scenes.items() if key in containers}

    async def _see(self, notebook: Resource, container_id: str, *, gpus: bool, saved: float) -> Scene:
        found = await self._engine.inspect(container_id)
        pid = found.pid if found else None
        usage = cgroups.read(pid, container_id) if pid else None
        processes = await self._processes(pid, container_id) if pid else None
        first = (processes or {}).get(pid or 0)
        return Scene(
            at=self._counter(),
            jupyter=await self._ask(notebook, found),
            processes=processes or None,
            first=pid or 0,
            cpu_s=usage.cpu_s if usage else None,
            saved=saved,
            asked=notebook.updated,
            gpus=self._gpu_busy(notebook.uid) if gpus else False,
            elsewhere=self._elsewhere(notebook),
            typed=self._typed(container_id),
            network=inside.network(first.pid) if first else None,
            age_s=inside.age_s(first) if first else None,
        )

    async def _processes(self, pid: int, container_id: str) -> Mapping[int, Inside] | None:
        """In a thread: there may be thousands, and to read of one may take as long as that one likes."""
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(THREADS)
        return await anyio.to_thread.run_sync(
            inside.look, pid, container_id, abandon_on_cancel=True, limiter=self._threads
        )

    async def _ask(self, notebook: Resource, container: Container | None) -> Told | str:
        port = container.ports.get(jupyter.PORT) if container else None
        if not port:
            return "its port is not published"
        try:
            return await asking.ask(self._http, port, notebook.name, notebook.status.get("token", ""))
        except Silent as error:
            return str(error)
