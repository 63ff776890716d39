"""One program that fetches, in a container of its own, from its making to its end.

The container is named after what it fetches, so a daemon that was killed meanwhile finds it again and waits on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appliance.engine.docker import ENDED, Engine
from appliance.engine.endings import ending, last_lines
from appliance.engine.images import Images
from appliance.engine.labels import Owner, owner_of
from appliance.engine.types import Container, ContainerSpec, Mount
from appliance.errors import ApplianceError, Conflict, EngineError
from appliance.fetching import programs
from appliance.fetching.programs import LAST_LINE
from appliance.fetching.sources import TARGET, Fetch
from appliance.storage.threads import in_thread

LOOK_FIRST_S, LOOK_MOST_S = 0.05, 2.0
LONGEST_WORDS = 500
FAILED_HINT = "it is tried again by itself; where the spec is wrong, correct it and apply it"


class Witness(Protocol):
    """Follows what happens. `tell` may be called from a worker thread."""

    def tell(self, words: str) -> None: ...
    def look(self, container: Container) -> None:
        """Whenever the container was looked at."""
        ...

    async def ended(self, container: Container) -> None:
        """Before anything is done about its end."""
        ...

    def secrets(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Errand:
    container: str
    """Name of the container."""
    owner: Owner
    what: str
    """For people, such as `s3 weights`."""
    root: Path
    """A folder of ours; private files lie below it while the program runs."""
    target: Path
    """What is filled."""


async def run(
    engine: Engine, images: Images, errand: Errand, prepare: Callable[[], Awaitable[Fetch]], witness: Witness
) -> Container:
    """Until the program has ended well; its container is there still, to be removed by `clear`.

    `prepare` is asked where there is no container yet. Raises ApplianceError with the program's last words; nothing is
    left then. A cancelled caller leaves the container running.
    """
    container = await find(engine, errand)
    if container and container.state in ENDED and container.exit_code != 0:
        # while nobody looked; `appliance stop` and a reboot end it so
        await witness.ended(container)
        await clear(engine, errand, container)
        container = None
    if container is None:
        container = await _make(engine, images, errand, await prepare(), witness)
    if container.state == "created":
        try:
            await engine.start(container.id)
        except EngineError:
            await clear(engine, errand, container)
            raise
    container = await _wait(engine, errand, container.id, witness)
    await witness.ended(container)
    if container.exit_code != 0 or container.oom_killed:
        words = await last_words(engine, container, witness.secrets())
        if container.oom_killed or not words:
            words = ending(container)
        await clear(engine, errand, container)
        raise EngineError(f"{errand.what}: {words}", hint=FAILED_HINT)
    return container


async def find(engine: Engine, errand: Errand) -> Container | None:
    """Its container. Raises Conflict where one of that name is somebody else's."""
    found = await engine.inspect(errand.container)
    if found is None or found.state == "removing":
        return None
    owner, mine = owner_of(found.labels), errand.owner
    if owner is None or (owner.instance, owner.uid, owner.digest) != (mine.instance, mine.uid, mine.digest):
        raise Conflict(
            f"the engine has a container {errand.container} that fetches nothing for {mine.name}",
            hint=f"look at it with `docker inspect {errand.container}` and remove it",
        )
    return found


async def clear(engine: Engine, errand: Errand, container: Container) -> None:
    """Nothing of the container stays, and no credentials on the disk."""
    await engine.remove(container.id)
    await in_thread(programs.forget, errand.root)


async def last_words(engine: Engine, container: Container, secrets: Sequence[str]) -> str:
    """What the program said at its end, without its mark; empty: nothing."""
    said = last_lines(await engine.logs_tail(container.id, 1), secrets)
    return said.removeprefix(LAST_LINE).strip()[:LONGEST_WORDS]


async def _make(engine: Engine, images: Images, errand: Errand, fetch: Fetch, witness: Witness) -> Container:
    image = await images.ensure(fetch.image, witness.tell)
    mounts = await in_thread(programs.lay_out, errand.root, fetch.files, secret=True, tells=True)
    spec = ContainerSpec(
        name=errand.container,
        image=image,
        labels=errand.owner.to_labels(),
        entrypoint=programs.command_of(fetch.program),
        command=(),
        mounts=(*mounts, Mount(errand.target, TARGET)),
    )
    try:
        return await engine.create(spec)
    except ApplianceError:
        await in_thread(programs.forget, errand.root)
        raise


async def _wait(engine: Engine, errand: Errand, container_id: str, witness: Witness) -> Container:
    pause = LOOK_FIRST_S
    while True:
        found = await engine.inspect(container_id)
        if found is None:
            await in_thread(programs.forget, errand.root)
            raise EngineError(f"{errand.what}: its container disappeared while it ran", hint=FAILED_HINT)
        witness.look(found)
        if found.state in ENDED:
            return found
        witness.tell(await last_words(engine, found, witness.secrets()) or "begins")
        await asyncio.sleep(pause)
        pause = min(LOOK_MOST_S, pause * 1.5)
