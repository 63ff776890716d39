"""What a replica is made of. The image, the models and the content of a revision are looked up once and pinned in its
row, so that a replica that is added or made again later runs the very same bytes as its sisters."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, Literal, Protocol

from appliance.datasets.models import Models
from appliance.deployments.facts import Place
from appliance.deployments.replicas import Replicas
from appliance.engine.types import Mount
from appliance.errors import ApplianceError, Conflict, NotFound
from appliance.scheduler.types import Answer
from appliance.spec.models import Deployment
from appliance.state.resources import Resource
from appliance.vault.secrets import Secrets

Pin = Mapping[str, Any]
"""`image`: id of the image; `models`: mount path -> model id; `content`: what was fetched; `access`: who may call."""

USER = "paperspace"
"""Whose password `basicAuthKey` is, as Gradient has it."""


class NoSecret(Conflict):
    """A secret of its environment is not there at present: no reason to make it of anything else."""


class Fetched(Protocol):
    @property
    def state(self) -> Literal["unknown", "busy", "ready", "failed"]: ...
    @property
    def message(self) -> str: ...
    @property
    def retry_at(self) -> float: ...
    @property
    def pin(self) -> Mapping[str, Any]: ...


class Content(Protocol):
    """What a deployment's spec names beside its image and models."""

    def peek(self, deployment: Resource, spec: Deployment) -> Fetched: ...
    async def ensure(self, deployment: Resource, spec: Deployment) -> None: ...
    async def mounts(self, deployment: Resource, content: Mapping[str, Any]) -> list[Mount]: ...
    def anew(self, uid: str) -> None: ...
    async def forget(self, uid: str, keep: Collection[str]) -> None: ...
    async def sweep(self) -> None: ...
    async def close(self) -> None: ...


def asks(spec: Deployment) -> bool:
    """Not everybody may call it."""
    return bool(spec.basic_auth or spec.endpoint.keys)


class Making:
    def __init__(self, *, replicas: Replicas, models: Models, vault: Secrets, content: Content) -> None:
        self._replicas = replicas
        self._models = models
        self._vault = vault
        self._content = content

    def pin(self, spec: Deployment, image: str, content: Mapping[str, Any]) -> Pin | str:
        """What the revision's replicas are made from; or what is missing, with the next step."""
        try:
            for value in spec.env.values():
                self._vault.resolve(value)
            return {
                "image": image,
                "models": {mount.path: self._models.resolve(mount.id).id for mount in spec.models},
                "content": dict(content),
                "access": self.access(spec),
            }
        except ApplianceError as error:
            return words(error)

    def access(self, spec: Deployment) -> Mapping[str, Any] | None:
        """The sums of the headers that are let in, from the secrets as they are now. Raises NotFound, UsageError."""
        if not asks(spec):
            return None
        headers = [f"Bearer {self._vault.resolve_line(key)}" for key in spec.endpoint.keys]
        if spec.basic_auth:
            password = f"{USER}:{self._vault.resolve_line(spec.basic_auth)}"
            headers.append(f"Basic {base64.b64encode(password.encode()).decode()}")
        kind = "basic" if spec.basic_auth else "key"
        return {"kind": kind, "sums": sorted(hashlib.sha256(one.encode()).hexdigest().upper() for one in headers)}

    async def gone(self, deployment: Resource, pin: Pin) -> str:
        """What of a pin is not here any more, its image apart; empty: all is."""
        try:
            await self._mounts(deployment, pin)
        except NotFound as error:
            return words(error)
        return ""

    def anew(self, deployment: Resource) -> None:
        """What its content was is looked up again."""
        self._content.anew(deployment.uid)

    async def make(
        self, deployment: Resource, spec: Deployment, place: Place, pin: Pin, gpus: Answer
    ) -> tuple[str, str]:
        """The mark of its secrets, equal where they are, empty without any; and the id of its container.

        Raises ImageNotFound, and NotFound where a model or other content is gone; NoSecret is neither.
        """
        try:
            env = {name: self._vault.resolve(value) for name, value in spec.env.items()}
        except NotFound as error:
            raise NoSecret(error.message, where=f"deployment {deployment.name}", hint=error.hint) from None
        mounts = await self._mounts(deployment, pin)
        secrets = sorted((name, value) for name, value in env.items() if value != spec.env[name])
        mark = self._vault.fingerprint(json.dumps(secrets))[:16] if secrets else ""
        image = str(pin["image"])
        container = await self._replicas.make(
            deployment, spec, place, image=image, env=env, mounts=mounts, gpus=gpus, secrets=mark
        )
        return mark, container

    async def _mounts(self, deployment: Resource, pin: Pin) -> list[Mount]:
        found = [
            Mount(await self._models.path(self._models.resolve(model)), path, read_only=True)
            for path, model in pin.get("models", {}).items()
        ]
        return found + await self._content.mounts(deployment, pin.get("content") or {})


def words(error: ApplianceError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message
