"""A real engine for tests: an appliance of its own per test that is cleared away, and the built-in images."""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import docker.errors
import pytest

from appliance.engine import kept
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.errors import Conflict, EngineDown, EngineError
from appliance.settings import SETTINGS

CLEAR_S = 120.0
BASE_IMAGE = str(next(setting.default for setting in SETTINGS if setting.name == "base_image"))


@pytest.fixture(scope="session")
def docker_engine() -> str:
    """The engine's version. Skips the test where there is none that this user may use."""

    async def ask() -> str:
        engine = Engine(instance="00000000")
        try:
            return (await engine.connect()).version
        finally:
            await engine.close()

    try:
        return asyncio.run(ask())
    except EngineDown as error:
        pytest.skip(str(error))


@pytest.fixture
async def engine(anyio_backend: str, docker_engine: str) -> AsyncIterator[Engine]:
    """An appliance's engine with a random instance id; its containers and its network are removed afterwards."""
    engine = Engine(instance=secrets.token_hex(4))
    try:
        yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await clear(engine)
            await engine.close()


async def clear(engine: Engine) -> None:
    """Remove everything this instance has on the engine. What the engine is removing already is waited for."""
    async with asyncio.timeout(CLEAR_S):
        while containers := await engine.list():
            for container in containers:
                with suppress(Conflict, EngineError):
                    await engine.remove(container.id)
            await asyncio.sleep(0.05)
        await kept.let_go(engine.client, engine.instance)
        while not await engine.client.call(lambda api: _removed(api, engine.network)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _removed(api: docker.APIClient, network: str) -> bool:
    """False: a container that is gone is still counted in it."""
    try:
        api.remove_network(network)
    except docker.errors.NotFound:
        return True
    except docker.errors.APIError:
        return False
    return True


@pytest.fixture(scope="session")
def base_image(docker_engine: str) -> str:
    """Name of the base image, built where it is missing."""
    return _ensure("appliance/base")


@pytest.fixture(scope="session")
def notebook_image(docker_engine: str) -> str:
    """Name of the notebook image, built where it is missing."""
    return _ensure("appliance/notebook")


@pytest.fixture(scope="session")
def s3_image(docker_engine: str) -> str:
    """Name of the image of s3-download@v1, built where it is missing."""
    return _ensure("appliance/s3")


def _ensure(ref: str) -> str:
    async def build() -> None:
        engine = Engine(instance=secrets.token_hex(4))
        with tempfile.TemporaryDirectory(prefix="appliance-test-") as folder:
            images = Images(engine, base_image=BASE_IMAGE, work_dir=Path(folder))
            await images.ensure(ref, lambda line: print(line, file=sys.stderr, flush=True))
        await engine.close()

    asyncio.run(build())
    return ref
