"""What a session is made of: image, command, variables, and the folders that outlive it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from appliance.datasets.datasets import Datasets
from appliance.engine.docker import Engine
from appliance.engine.labels import Owner
from appliance.engine.types import Container, ContainerSpec, Mount
from appliance.errors import ApplianceError
from appliance.history.workspaces import Workspaces
from appliance.notebooks import jupyter
from appliance.notebooks.sessions import CRASHES, owner
from appliance.settings import Settings
from appliance.spec.models import Notebook
from appliance.state.resources import Resource
from appliance.storage.base import Store
from appliance.storage.threads import in_thread
from appliance.vault.secrets import Secrets

NO_GPU = "it asks for a GPU, and this appliance does not lease GPUs yet; `gpus: 0` runs it without one"


_APART = {"name", "quota", "history"}
"""Fields that say nothing about what is inside a session."""


def digest(spec: Notebook) -> str:
    """Of everything a session is made from that the user can change; another digest asks for another session."""
    made_of = spec.model_dump(mode="json", exclude=_APART)
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


class Making:
    def __init__(
        self,
        *,
        engine: Engine,
        workspaces: Workspaces,
        datasets: Datasets,
        store: Store,
        vault: Secrets,
        settings: Settings,
        instance: str,
    ) -> None:
        self._engine = engine
        self._workspaces = workspaces
        self._datasets = datasets
        self._store = store
        self._vault = vault
        self._settings = settings
        self._instance = instance

    def missing(self, spec: Notebook) -> str:
        """What the spec refers to and is not there, with the next step; empty: nothing is missing."""
        if spec.gpus:
            return NO_GPU
        try:
            for dataset in spec.datasets.values():
                self._datasets.resolve(dataset.ref)
            for value in spec.env.values():
                self._vault.resolve(value)
        except ApplianceError as error:
            return f"{error.message}; {error.hint}" if error.hint else error.message
        return ""

    def versions(self, spec: Notebook) -> dict[str, str]:
        """Name below /datasets -> `NAME:VERSION` that a session begun at this moment gets. Raises NotFound."""
        found = {name: self._datasets.resolve(mount.ref) for name, mount in spec.datasets.items()}
        return {name: self._datasets.full_name(version) for name, version in found.items()}

    async def create(
        self, notebook: Resource, spec: Notebook, mounted: Mapping[str, str], *, number: int, crashes: int
    ) -> None:
        """The container of session `number`, not started. Done again it finds the one it made.

        `mounted` is what `versions` said, once it is written where it keeps these versions from being removed.
        Raises NotFound where a dataset or a secret is missing, StorageError, EngineError.
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
            labels={**label.to_labels(), CRASHES: str(crashes)},
            entrypoint=spec.command or jupyter.command(notebook.name),
            env=self._environment(notebook, spec),
            mounts=await self._mounts(notebook, spec, mounted),
            publish=(jupyter.PORT,),
            workdir=jupyter.ROOT,
            user="0:0",
            shm_bytes=self._settings.shm_mb * 2**20,
        )
        made = await self._engine.create(wanted)
        if owner(made).uid != notebook.uid:
            # left by a notebook of this name whose row is lost: nothing refers to it any more
            await self._replace(made, wanted)

    async def forget(self, notebook: Resource) -> None:
        """Remove what was written for the notebook beside its workspace."""
        await in_thread(shutil.rmtree, self._config_dir(notebook), ignore_errors=True)

    async def _replace(self, stranger: Container, wanted: ContainerSpec) -> None:
        await self._engine.remove(stranger.id)
        await self._engine.create(wanted)

    def _environment(self, notebook: Resource, spec: Notebook) -> Mapping[str, str]:
        """The user's variables may replace all but the ones that Jupyter's safety rests on."""
        return {
            "APPLIANCE_URL": f"http://host.docker.internal:{self._settings.port}",
            "PAPERSPACE_NOTEBOOK_ID": notebook.uid,
            "PAPERSPACE_METRIC_WORKLOAD_ID": notebook.uid,
            **{name: self._vault.resolve(value) for name, value in spec.env.items()},
            "JUPYTER_TOKEN": notebook.status["token"],
            **({"JUPYTER_CONFIG_PATH": jupyter.CONFIG_DIR} if spec.command else {}),
        }

    async def _mounts(self, notebook: Resource, spec: Notebook, mounted: Mapping[str, str]) -> list[Mount]:
        """Gradient's layout: own files at /notebooks, everybody's at /storage, datasets read-only below /datasets."""
        mounts = [
            Mount(await self._workspaces.open(notebook.uid), jupyter.ROOT),
            Mount(await in_thread(self._store.create, "storage"), "/storage"),
        ]
        for name, ref in mounted.items():
            path = await self._datasets.path(self._datasets.resolve(ref))
            mounts.append(Mount(path, f"/datasets/{name}", read_only=True))
        if spec.command:
            directory = await in_thread(self._write_config, notebook)
            mounts.append(Mount(directory, jupyter.CONFIG_DIR, read_only=True))
        return mounts

    def _config_dir(self, notebook: Resource) -> Path:
        return self._settings.run_dir / "jupyter" / notebook.uid

    def _write_config(self, notebook: Resource) -> Path:
        """Jupyter's settings as files, for a command of the user's that does not carry them as flags."""
        directory = self._config_dir(notebook)
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in jupyter.config_files(notebook.name).items():
            (directory / name).write_text(text, encoding="utf-8")
        return directory
