"""A container in which an image is made: run steps, then commit. What is passed in for a step stays out of the image.

The scratch folder is bound at /mnt, which every image has, so no mount point is left behind; variables are given per
step and not to the container, so they are in no configuration. A bench is found again by its name: one that a killed
daemon left is removed by the next build.
"""

from __future__ import annotations

import io
import logging
import tarfile
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import docker

from appliance.engine import failures
from appliance.engine.client import LONG_S, Client
from appliance.engine.recipes.index import redact
from appliance.engine.recipes.recipe import Progress
from appliance.errors import ApplianceError, EngineError

log = logging.getLogger(__name__)

MOUNT = "/mnt"
LIFETIME_S = 3600
"""A bench that nobody removes ends by itself."""
SHOWN_LINES = 15


class Workbench:
    def __init__(self, client: Client, container_id: str) -> None:
        self._client = client
        self._id = container_id

    async def run(
        self, what: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, on_line: Progress | None = None
    ) -> None:
        """Raises EngineError with the last lines where the command does not end with 0. `what` says what it is for."""
        made = await self._client.call(
            lambda api: api.exec_create(self._id, list(argv), user="0", environment=dict(env or {}))
        )
        last: deque[str] = deque(maxlen=SHOWN_LINES)
        stream = await self._client.stream(lambda api: api.exec_start(made["Id"], stream=True))
        try:
            async for line in _lines(stream):
                last.append(line)
                if on_line is not None:
                    on_line(line)
        finally:
            await stream.aclose()
        done = await self._client.call(lambda api: api.exec_inspect(made["Id"]))
        if code := done.get("ExitCode"):
            shown = "\n".join(last)
            if "no space left" in shown.lower():
                raise failures.engine_error(shown, where=what)
            raise EngineError(f"ended with exit code {code}:\n{shown}", where=what, hint=_next_step(shown))

    async def put(self, files: Mapping[str, str], folders: Sequence[str] = ()) -> None:
        """Write text files, and make folders, at absolute paths."""
        data = _tar(files, folders)
        await self._client.call(lambda api: api.put_archive(self._id, "/", data))

    async def commit(self, ref: str, config: Mapping[str, Any]) -> str:
        """The container's present state as an image of that name; its id."""
        repository, _, tag = ref.rpartition(":")
        made = await self._client.call(
            lambda api: api.commit(self._id, repository, tag, conf=dict(config), pause=True), deadline_s=LONG_S
        )
        return str(made["Id"])


@asynccontextmanager
async def open_bench(
    client: Client, *, image: str, name: str, scratch: Path, mounts: Mapping[str, str]
) -> AsyncIterator[Workbench]:
    """A running bench made from `image`. `mounts`: path on this host -> path below /mnt, read-only."""
    await _discard(client, name)
    document = {
        "Image": image,
        "Cmd": ["sleep", str(LIFETIME_S)],
        "User": "0",
        "Hostname": "build",
        "HostConfig": {
            "Init": True,
            "NetworkMode": "host",  # the host's own way to its mirrors: names, proxies, private networks
            "SecurityOpt": ["label=disable"],
            "Mounts": [
                _bind(str(scratch), MOUNT, read_only=False),
                *(_bind(source, target, read_only=True) for source, target in mounts.items()),
            ],
        },
    }

    def make(api: docker.APIClient) -> str:
        made = api.create_container_from_config(document, name=name)  # type: ignore[no-untyped-call]
        api.start(made["Id"])
        return str(made["Id"])

    try:
        container_id = await client.call(make, image=image)
        yield Workbench(client, container_id)
    finally:
        await _discard(client, name)


async def _discard(client: Client, name: str) -> None:
    def work(api: docker.APIClient) -> None:
        try:
            api.remove_container(name, force=True, v=True)
        except docker.errors.APIError as error:
            if not failures.is_gone(error):
                raise

    try:
        await client.call(work)
    except ApplianceError as error:
        log.warning("the build container %s was not removed: %s", name, error)


async def _lines(stream: AsyncIterator[bytes]) -> AsyncIterator[str]:
    rest = ""
    async for piece in stream:
        *whole, rest = (rest + piece.decode("utf-8", "replace")).split("\n")
        for line in whole:
            yield redact(line.rstrip("\r"))
    if rest:
        yield redact(rest)


def _bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _tar(files: Mapping[str, str], folders: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in folders:
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, text in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _next_step(output: str) -> str:
    lowered = output.lower()
    if "certificate" in lowered or "invalid peer" in lowered:
        return "this host's CA bundle does not know the index: name the right one in SSL_CERT_FILE or pip's `cert`"
    if "no solution found" in lowered:
        return "this host's index lacks a package: check `pip config list` and the variables PIP_* and UV_*"
    return "check this host's network and package settings (`pip config list`, proxies); the next start tries again"
