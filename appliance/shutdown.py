"""The end of everything that outlives the daemon: its containers and the front door. Data stays."""

from __future__ import annotations

from appliance import home
from appliance.engine.docker import Engine
from appliance.errors import ApplianceError
from appliance.router.router import Router
from appliance.settings import Settings


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
        containers = await engine.list()
        for container in containers:
            await engine.stop(container.id, grace_s=settings.stop_grace_s)
        told.append(f"{len(containers)} containers have stopped")
    except ApplianceError as error:
        told.append(f"the containers: {error}")
    finally:
        await engine.close()
    return told
