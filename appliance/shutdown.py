"""The end of everything that outlives the daemon: its containers and the front door. Data stays."""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance import home
from appliance.engine.docker import Engine
from appliance.engine.labels import owner_of
from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.router.router import Router
from appliance.settings import Settings
from appliance.state import rollouts, runs, sessions
from appliance.state.db import Database


async def end_everything(settings: Settings) -> list[str]:
    """Call it while no daemon runs. What was done, in words; what cannot be reached is said and left."""
    told: list[str] = []
    router = Router(
        settings.router_dir,
        haproxy=settings.haproxy,
        host=settings.host,
        port=settings.port,
        api_socket=settings.front_socket,
    )
    try:
        await router.stop()
        told.append("the front door has stopped")
    except ApplianceError as error:
        told.append(f"the front door: {error}")
    engine = Engine(instance=home.instance_id(settings), docker_host=settings.docker_host)
    try:
        await engine.connect()
        db = _open(settings, told)
        try:
            count = await stop_containers(db, engine, grace_s=settings.stop_grace_s, clock=time.time)
        finally:
            if db is not None:
                db.close()
        told.append(f"{count} containers have stopped")
    except ApplianceError as error:
        told.append(f"the containers: {error}")
    finally:
        await engine.close()
    return told


async def stop_containers(db: Database | None, engine: Engine, *, grace_s: float, clock: Callable[[], float]) -> int:
    """How many there are.

    That a job, a replica or a session is stopped stands in its row before: its end is not its program's.
    """
    containers = await engine.list()
    for container in containers:
        marked = container.state == "running" and _mark(db, container, clock())
        try:
            await engine.stop(container.id, grace_s=grace_s)
        except BaseException:
            if marked:
                _mark(db, container, None)
            raise
    return len(containers)


def _mark(db: Database | None, container: Container, at: float | None) -> bool:
    if db is None:
        return False
    owner = owner_of(container.labels)
    with db.write() as connection:
        if owner and owner.kind == "deployment":
            return rollouts.mark_stopped(connection, owner.uid, container.id, at)
        if owner and owner.kind == "notebook":
            return sessions.mark_stopped(connection, owner.uid, container.id, at)
        return runs.mark_stopped(connection, container.name, at)


def _open(settings: Settings, told: list[str]) -> Database | None:
    """None, and said, where the state cannot be written: what runs is stopped nevertheless."""
    try:
        return Database(settings.state_file)
    except ApplianceError as error:
        told.append(f"the jobs under way will be told as killed, not as interrupted: {error}")
        return None
