"""Looking into an image: by a container of it that can reach nothing and lasts seconds, or file by file.

The image is anybody's, so what runs has no network, no mount, no rights and few resources, and only the end of what it
says is read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docker
import docker.errors

from appliance.engine import failures
from appliance.engine.client import LONG_S, Client
from appliance.errors import EngineError

LOOK_EVERY_S = 0.05
SAID_LINES = 50
SAID_BYTES = 64 * 1024
CHUNK = 256 * 1024


async def ask(
    client: Client, image: str, argv: Sequence[str], *, labels: Mapping[str, str], timeout_s: float
) -> tuple[int, str]:
    """Exit code (127: the image has no such command) and the end of the output of a command, run as root.

    The image's own entrypoint does not run. Raises EngineError where the command does not end in time.
    """
    document = {
        "Image": image,
        "Labels": dict(labels),
        "Entrypoint": list(argv),
        "Cmd": [],
        "User": "0:0",
        "WorkingDir": "/",
        "Env": ["NVIDIA_VISIBLE_DEVICES=void"],
        "HostConfig": {
            "Init": True,
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 256,
            "Memory": 1 << 30,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
        },
    }
    made = await client.call(lambda api: _create(api, document), image=image)
    try:
        await client.call(lambda api: api.start(made))
        state = await _end(client, made, argv, timeout_s)
        said: bytes = await client.call(lambda api: api.logs(made, tail=SAID_LINES))
        return int(state.get("ExitCode") or 0), said[-SAID_BYTES:].decode("utf-8", "replace")
    finally:
        await client.call(lambda api: _remove(api, made))


async def _end(client: Client, container: str, argv: Sequence[str], timeout_s: float) -> Mapping[str, Any]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        state: Mapping[str, Any] = (await client.call(lambda api: api.inspect_container(container)))["State"]
        if state.get("Status") in ("exited", "dead"):
            return state
        await asyncio.sleep(LOOK_EVERY_S)
    raise EngineError(
        f"`{argv[0]}` of the image did not end within {timeout_s:g} s",
        hint="it is tried again; `docker run` of the image shows more",
    )


async def export(client: Client, image: str, write: Callable[[bytes], object], *, labels: Mapping[str, str]) -> None:
    """All files of an image as a tar, handed to `write` in a thread. What that raises ends it, and is raised here."""
    document = {"Image": image, "Labels": dict(labels), "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}

    def work(api: docker.APIClient) -> Exception | None:
        made = _create(api, document)
        try:
            for piece in api.export(made, chunk_size=CHUNK):
                try:
                    write(piece)
                except Exception as error:
                    return error  # it is not the engine's
            return None
        finally:
            _remove(api, made)

    if failure := await client.call(work, deadline_s=LONG_S, image=image):
        raise failure


def _create(api: docker.APIClient, document: Mapping[str, Any]) -> str:
    return str(api.create_container_from_config(dict(document))["Id"])  # type: ignore[no-untyped-call]


def _remove(api: docker.APIClient, container: str) -> None:
    try:
        api.remove_container(container, force=True, v=True)
    except docker.errors.APIError as error:
        if not failures.is_gone(error):
            raise
