"""What a session is made of: image, command, variables, and the folders that outlive it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.docker import Engine
from appliance.engine.labels import Owner
from appliance.engine.limits import UNLIMITED, Limit, allowed
from appliance.engine.types import Container, ContainerSpec
from appliance.errors import ApplianceError, EngineError
from appliance.notebooks import jupyter, settings_file
from appliance.notebooks.kit.fitting import Fit
from appliance.notebooks.mounts import Mounts, Pinned, account, environment
from appliance.notebooks.sessions import CRASHES, owner
from appliance.scheduler.leasing import LEASE
from appliance.scheduler.types import Answer
from appliance.settings import Settings
from appliance.spec.limits import Limits, limits_of
from appliance.spec.models import Notebook
from appliance.state.resources import Resource
from appliance.storage.threads import in_thread
from appliance.telemetry.push import environment as pushing
from appliance.vault.secrets import Secrets

log = logging.getLogger(__name__)

STACK = 64 << 20
FILES = 1 << 20
LIMITS = (
    Limit("memlock", UNLIMITED, UNLIMITED),
    Limit("stack", STACK, UNLIMITED),
    Limit("nofile", FILES, FILES),
)
"""What PyTorch, NCCL and data loaders with many workers ask for."""

_APART = {
    *("name", "quota", "history", "registry", "workspace", "idle", "shutdown_s"),
    *("owner", "priority", "preemptible"),
}
"""Fields that say nothing about what is inside a session."""
_LATER = {"user", "models", "secrets", "shm"}
"""Fields that came after the first digests, which sessions that run carry: at their defaults they say nothing."""


def digest(spec: Notebook) -> str:
    """Of everything a session is made from that the user can change; another digest asks for another session."""
    made_of = spec.model_dump(mode="json", exclude=_APART | _LATER)
    made_of |= spec.model_dump(mode="json", include=_LATER, exclude_defaults=True)
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def labels_of(lease: Answer) -> dict[str, str]:
    """That tell which lease a container's GPUs are of; none where it has no GPU."""
    return {LEASE: lease.lease} if lease.lease else {}


class Making:
    def __init__(
        self,
        *,
        engine: Engine,
        datasets: Datasets,
        models: Models,
        mounts: Mounts,
        vault: Secrets,
        settings: Settings,
        instance: str,
    ) -> None:
        self._engine = engine
        self._datasets = datasets
        self._models = models
        self._mounts = mounts
        self._vault = vault
        self._settings = settings
        self._instance = instance

    def missing(self, spec: Notebook) -> str:
        """What the spec refers to and is not there, with the next step; empty: nothing is missing."""
        try:
            self.pin(spec)
            for value in spec.env.values():
                self._vault.resolve(value)
            for name in spec.secrets:
                self._vault.reveal(name)
        except ApplianceError as error:
            return f"{error.message}; {error.hint}" if error.hint else error.message
        return ""

    def pin(self, spec: Notebook) -> Pinned:
        """What a session begun at this moment gets. Raises NotFound."""
        found = {name: self._datasets.resolve(mount.ref) for name, mount in spec.datasets.items()}
        return Pinned(
            datasets={name: self._datasets.full_name(version) for name, version in found.items()},
            models={name: self._models.resolve(model).id for name, model in spec.models.items()},
        )

    async def add_settings(self, notebook: Resource, spec: Notebook, pinned: Pinned) -> tuple[Pinned, str]:
        """With what the workspace's own settings file asks for, and what of that there is not, in words.

        Where both name the same folder the spec's is mounted.
        """
        wanted = await in_thread(settings_file.look, await self._mounts.workspace(notebook, spec))
        more = settings_file.pinned(wanted, lambda ref: self._datasets.full_name(self._datasets.resolve(ref)))
        return replace(pinned, datasets={**more, **pinned.datasets}), settings_file.told(wanted.words)

    async def create(
        self,
        notebook: Resource,
        spec: Notebook,
        pinned: Pinned,
        kit: Fit | None,
        lease: Answer,
        *,
        number: int,
        crashes: int,
    ) -> str:
        """Id of the container of session `number`, not started. Done again it finds the one it made.

        `pinned` is written already where it keeps what it names from being removed. `kit` brings Jupyter in, None where
        the image or the user's command has it.
        Raises NotFound where a dataset, a model or a secret is missing, StorageError, EngineError.
        """
        label = Owner(
            instance=self._instance,
            kind="notebook",
            name=notebook.name,
            uid=notebook.uid,
            generation=notebook.generation,
            digest=digest(spec),
        )
        wanted = ContainerSpec(
            name=f"appliance-{self._instance}-notebook-{notebook.name}-{number}",
            image=spec.image,
            labels={**label.to_labels(), CRASHES: str(crashes), **(kit.labels if kit else {}), **labels_of(lease)},
            entrypoint=spec.command or (kit or jupyter).command(notebook.name),
            env={**self.environment(notebook, spec), **self._jupyter(notebook), **(kit.env if kit else {})},
            mounts=[
                *await self._mounts.of_files(notebook, spec, pinned, key=str(number)),
                *await self._mounts.of_session(notebook, spec),
                *(kit.mounts if kit else ()),
            ],
            publish=(jupyter.PORT,),
            workdir=jupyter.ROOT,
            user=spec.user,
            cpus=(most := self.limits(spec)).cpus,
            memory_bytes=most.memory_bytes,
            shm_bytes=most.shm_bytes,
            gpus=lease.cards,
            limits=allowed(LIMITS),
        )
        made = await self._engine.create(wanted)
        if owner(made).uid != notebook.uid or made.labels.get(LEASE, "") != lease.lease:
            # left by a notebook of this name whose row is lost: nothing refers to it any more; or its GPUs are
            # another's by now
            made = await self._replace(made, wanted)
        await self.name_user(made.id, notebook, spec)
        return made.id

    async def name_user(self, container: str, notebook: Resource, spec: Notebook) -> None:
        """In a container that has not been started. Without a name most things work, so its lack ends nothing."""
        if user := account(spec):
            try:
                await self._engine.name_user(container, user)
            except EngineError as error:
                log.warning("notebook %s: its user %s stays without a name: %s", notebook.name, spec.user, error)

    def limits(self, spec: Notebook) -> Limits:
        return limits_of(spec.machine, self._settings, shm=spec.shm)

    def environment(self, notebook: Resource, spec: Notebook) -> dict[str, str]:
        """Of all that runs on the notebook's image and files. The user's variables may replace any."""
        return {
            "APPLIANCE_URL": f"http://host.docker.internal:{self._settings.port}",
            "PAPERSPACE_NOTEBOOK_ID": notebook.uid,
            **pushing.environment("notebook", notebook.uid, self._settings.push_port),
            **environment(spec),
            **{name: self._vault.resolve(value) for name, value in spec.env.items()},
        }

    def _jupyter(self, notebook: Resource) -> Mapping[str, str]:
        """What Jupyter's safety rests on: no variable of the user's replaces it."""
        return {"JUPYTER_TOKEN": notebook.status["token"], "JUPYTER_CONFIG_PATH": jupyter.CONFIG_DIR}

    async def _replace(self, stranger: Container, wanted: ContainerSpec) -> Container:
        await self._engine.remove(stranger.id)
        return await self._engine.create(wanted)
