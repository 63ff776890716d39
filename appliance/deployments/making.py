"""What a replica is made of. The image and the models of a revision are looked up once and pinned in its row, so that
that a replica that is added or made again later runs the very same bytes as its sisters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.datasets.models import Models
from appliance.deployments.plan import Place
from appliance.deployments.replicas import Replicas
from appliance.engine.types import Mount
from appliance.errors import ApplianceError
from appliance.spec.models import Deployment
from appliance.state.resources import Resource
from appliance.vault.secrets import Secrets

Pin = Mapping[str, Any]
"""`image`: id of the image; `models`: mount path -> model id."""


def warnings(spec: Deployment) -> list[str]:
    """What the spec asks for and this version does not do."""
    found = [f"{path} is stored but not acted on by this version" for path in spec.unsupported]
    if spec.basic_auth:
        found.append("basicAuthKey is not enforced by this version: whoever reaches the front door may call it")
    return found


class Making:
    def __init__(self, *, replicas: Replicas, models: Models, vault: Secrets) -> None:
        self._replicas = replicas
        self._models = models
        self._vault = vault

    def pin(self, spec: Deployment, image: str) -> Pin | str:
        """What the revision's replicas are made from; or what is missing, with the next step."""
        try:
            for value in spec.env.values():
                self._vault.resolve(value)
            return {
                "image": image,
                "models": {mount.path: self._models.resolve(mount.id).id for mount in spec.models},
            }
        except ApplianceError as error:
            return f"{error.message}; {error.hint}" if error.hint else error.message

    async def make(self, deployment: Resource, spec: Deployment, place: Place, pin: Pin) -> None:
        mounts = [
            Mount(await self._models.path(self._models.resolve(model)), path, read_only=True)
            for path, model in pin["models"].items()
        ]
        env = {name: self._vault.resolve(value) for name, value in spec.env.items()}
        await self._replicas.make(deployment, spec, place, image=pin["image"], env=env, mounts=mounts)
