"""Images here and in their registries: the engine's pull, told in a line now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import docker
import docker.errors
from docker.auth import resolve_repository_name
from docker.utils import parse_repository_tag

from appliance.engine import documents, failures
from appliance.engine.client import Client
from appliance.engine.types import ImageInfo
from appliance.errors import ApplianceError, EngineDown, EngineError, ImageNotFound, NoSuchImage

STALL_S = 300.0
LINE_EVERY_S = 1.0
NO_LOGIN = (
    "check the name; for an image that needs a login: `appliance registry add NAME`, and NAME as `containerRegistry` "
    "of the deployment or in `container-registries` of the workflow; else `docker login` and `docker pull`"
)
_ABSENT = ("not found", "manifest unknown", "does not exist", "name unknown", "no such image")
_DENIED = ("denied", "unauthorized", "authentication required", "no basic auth")
_UNREACHABLE = (
    "no such host",
    "dial tcp",
    "timeout",
    "connection refused",
    "network is unreachable",
    "tls",
    "x509",
    "eof",
)
_REFUSED = ("invalid reference format",)


@dataclass(frozen=True, slots=True)
class Login:
    """What a registry is told of who asks; empty: nothing."""

    auth: Mapping[str, str] | None = field(default=None, repr=False)
    """`username`, `password`, `serveraddress`."""
    refused: str = ""
    """The next step where the registry wants another login."""


def server_of(ref: str) -> str:
    """Where an image is: server and repository, such as `docker.io/library/nginx` or `host:5000/team/app`. What is no
    image's name is nowhere: an empty text."""
    repository, _ = parse_repository_tag(ref)
    try:
        server, name = resolve_repository_name(repository)
    except docker.errors.InvalidRepository:
        return ""
    return f"{server.lower()}/{name if '/' in name or server != 'docker.io' else f'library/{name}'}"


async def inspect_image(client: Client, ref: str) -> ImageInfo | None:
    """None: it is not on this machine."""

    def work(api: docker.APIClient) -> ImageInfo | None:
        try:
            return documents.image(api.inspect_image(ref))  # type: ignore[no-untyped-call]
        except docker.errors.NotFound:
            return None

    return await client.call(work)


async def pull(
    client: Client,
    ref: str,
    progress: Callable[[str], None],
    *,
    login: Login | None = None,
    patience_s: float = STALL_S,
) -> None:
    """Raises ImageNotFound with the next step. `patience_s` bounds the wait for the registry's first word."""
    repository, tag = parse_repository_tag(ref)
    login = login or Login()
    auth = dict(login.auth) if login.auth else None
    tally = Tally(ref)
    told = 0.0
    try:
        async with asyncio.timeout(patience_s) as limit:
            stream = await client.stream(
                lambda api: api.pull(repository, tag or "latest", stream=True, decode=True, auth_config=auth)
            )
            try:
                async for document in stream:
                    limit.reschedule(asyncio.get_running_loop().time() + STALL_S)
                    if "error" in document:
                        raise unavailable(ref, str(document["error"]), login.refused)
                    tally.add(document)
                    if time.monotonic() - told >= LINE_EVERY_S:
                        told = time.monotonic()
                        progress(tally.line())
            finally:
                await stream.aclose()
    except TimeoutError:
        raise unavailable(ref, "timeout: its registry does not answer") from None
    except (ImageNotFound, EngineDown):
        raise
    except ApplianceError as error:
        raise unavailable(ref, error.message, login.refused) from error


def unavailable(ref: str, message: str, refused: str = "") -> EngineError:
    """Why an image cannot be had, in the engine's words, with the step that fits them. `refused` is the step where the
    registry wants a login; empty: none was named."""
    lowered = message.lower()
    if "no space left" in lowered:
        return failures.engine_error(message, where=ref)
    if any(word in lowered for word in _DENIED):
        hint = refused or NO_LOGIN
    elif any(word in lowered for word in _ABSENT):
        hint = "check the image's name and tag"
    elif any(word in lowered for word in _UNREACHABLE):
        hint = "its registry cannot be reached from here: check the network, or bring the image with `docker load`"
    else:
        hint = f"`docker pull {ref}` shows what its registry says"
    answered = not any(word in lowered for word in _UNREACHABLE)
    lasting = answered and any(word in lowered for word in (*_DENIED, *_ABSENT, *_REFUSED))
    return (NoSuchImage if lasting else ImageNotFound)(message, where=ref, hint=hint)


@dataclass(slots=True)
class Tally:
    """How far a pull is, summed over its layers."""

    ref: str
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Layer -> bytes here, bytes in all; (1, 1) for a finished one of unknown size."""
    done: set[str] = field(default_factory=set)

    def add(self, document: Mapping[str, Any]) -> None:
        layer, status = str(document.get("id") or ""), str(document.get("status") or "")
        if not layer or status.startswith("Pulling from"):
            return
        detail = document.get("progressDetail") or {}
        here, size = self.layers.get(layer, (0, 0))
        if status == "Downloading":
            here, size = int(detail.get("current") or here), int(detail.get("total") or size)
        if status in ("Download complete", "Pull complete", "Already exists"):
            here = size
        if status in ("Pull complete", "Already exists"):
            self.done.add(layer)
        self.layers[layer] = (here, size)

    def line(self) -> str:
        if not self.layers:
            return f"{self.ref}: asking its registry"
        here, size = (sum(values) / 1e6 for values in zip(*self.layers.values(), strict=True))
        amount = f", {here:.0f} of {size:.0f} MB" if size else ""
        return f"{self.ref}: pulling, {len(self.done)} of {len(self.layers)} layers{amount}"
