"""What a session finds in its file system beside its image: files that stay, and what the appliance tells it.

/notebooks             the workspace, owned by the session's user
/storage               everybody's
/datasets/NAME         a dataset version, read-only
/models/NAME           a model, read-only
/run/secrets/NAME      a secret, for the session's user alone; on no disk
/home/notebook         HOME, where the user is not root
/etc/appliance/lab     what was open in JupyterLab, and its settings
/etc/appliance/jupyter Jupyter's settings, read-only
/run/appliance         where Jupyter tells of what happens inside
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.accounts import Account
from appliance.engine.types import Mount
from appliance.errors import StorageError
from appliance.history.workspaces import Workspaces
from appliance.notebooks import beside, jupyter
from appliance.notebooks.beside import Beside
from appliance.notebooks.confided import Confided
from appliance.notebooks.ownership import Ownership
from appliance.notebooks.owning import owner_of, told
from appliance.settings import Settings
from appliance.spec.models import Notebook
from appliance.state.resources import Resource
from appliance.storage.base import Store
from appliance.storage.shared import shared
from appliance.storage.threads import in_thread
from appliance.storage.trees.removing import remove
from appliance.vault.secrets import Secrets

LAB = "/etc/appliance/lab"
HOME = "/home/notebook"
NAME = "notebook"
"""Of a user that is not root."""
SIGNALS = "/run/appliance"
SECRETS = "/run/secrets"


@dataclass(frozen=True, slots=True)
class Pinned:
    """What the references of a spec meant when a session began; nothing of it can be removed while that goes on."""

    datasets: Mapping[str, str] = field(default_factory=dict)
    """Name below /datasets -> `NAME:VERSION`."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Name below /models -> model id."""


class Mounts:
    def __init__(
        self,
        *,
        workspaces: Workspaces,
        datasets: Datasets,
        models: Models,
        store: Store,
        vault: Secrets,
        settings: Settings,
        beside: Beside,
        confided: Confided,
    ) -> None:
        self.ownership = Ownership(workspaces, beside)
        self._datasets = datasets
        self._models = models
        self._store = store
        self._vault = vault
        self._settings = settings
        self._beside = beside
        self._confided = confided

    async def workspace(self, notebook: Resource, spec: Notebook) -> Path:
        """The notebook's files, given to the spec's user where they are another's."""
        return await self.ownership.settle(notebook, spec)

    async def of_files(self, notebook: Resource, spec: Notebook, pinned: Pinned, *, key: str) -> list[Mount]:
        """All that the notebook's code reads and writes, for a session and for whatever else runs on its files.

        `key` tells this use of them from others at the same time: `forget_secrets` takes it at the end. Raises
        NotFound, StorageError.
        """
        mounts = [
            Mount(await self.workspace(notebook, spec), jupyter.ROOT),
            Mount(await in_thread(shared, self._store), "/storage"),
        ]
        for name, ref in pinned.datasets.items():
            path = await self._datasets.path(self._datasets.resolve(ref))
            mounts.append(Mount(path, f"/datasets/{name}", read_only=True))
        for name, model in pinned.models.items():
            path = await self._models.path(self._models.resolve(model))
            mounts.append(Mount(path, f"/models/{name}", read_only=True))
        if spec.secrets:
            values = {name: self._vault.reveal(name) for name in spec.secrets}
            folder = await in_thread(self._confided.write, _folder(notebook, key), values, owner_of(spec.user))
            mounts.append(Mount(folder, SECRETS, read_only=True))
        if home := await self.home(notebook, spec):
            mounts.append(home)
        return mounts

    async def home(self, notebook: Resource, spec: Notebook) -> Mount | None:
        """None: the user is root, whose own is in the image."""
        owner = owner_of(spec.user)
        if owner[0] == 0:
            return None
        with told():
            return Mount(await in_thread(self._beside.open, notebook.uid, owner) / beside.HOME, HOME)

    async def of_session(self, notebook: Resource, spec: Notebook) -> list[Mount]:
        """What only Jupyter itself needs."""
        with told():
            directory = await in_thread(self._beside.open, notebook.uid, owner_of(spec.user))
            config = await in_thread(self._write_config, notebook)
        return [
            Mount(directory / beside.LAB, LAB),
            Mount(directory / beside.SIGNALS, SIGNALS),
            Mount(config, jupyter.CONFIG_DIR, read_only=True),
        ]

    async def tend(self) -> None:
        """/storage is open to every user again, whatever a container that runs as root has made of it."""
        with suppress(StorageError):  # the next session's beginning says so
            await in_thread(shared, self._store)

    async def forget_secrets(self, notebook: Resource, key: str) -> None:
        await in_thread(self._confided.remove, _folder(notebook, key))

    async def forget(self, notebook: Resource) -> None:
        """Remove what was written for the notebook beside its workspace."""
        await in_thread(self._confided.remove_all, _folder(notebook, ""))
        await in_thread(remove, self._config_dir(notebook))
        await in_thread(self._beside.remove, notebook.uid)

    def _config_dir(self, notebook: Resource) -> Path:
        return self._settings.run_dir / "jupyter" / notebook.uid

    def _write_config(self, notebook: Resource) -> Path:
        directory = self._config_dir(notebook)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)  # whoever the session runs as reads it
        for name, text in jupyter.config_files(notebook.name).items():
            file = directory / name
            for folder in reversed(file.relative_to(directory).parents[:-1]):
                (directory / folder).mkdir(exist_ok=True)
                (directory / folder).chmod(0o755)
            file.write_text(text, encoding="utf-8")
            file.chmod(0o644)
        return directory


def _folder(notebook: Resource, key: str) -> str:
    return f"{notebook.uid}-{key}"


def environment(spec: Notebook) -> dict[str, str]:
    """A user without a name in the image is still somebody: with a home, and a name for `getpass` and git."""
    found = {"JUPYTERLAB_WORKSPACES_DIR": f"{LAB}/workspaces", "JUPYTERLAB_SETTINGS_DIR": f"{LAB}/settings"}
    if owner_of(spec.user)[0]:
        runtime = "/tmp/jupyter-runtime"  # in the container, where nobody else is
        found |= {"HOME": HOME, "USER": NAME, "LOGNAME": NAME, "JUPYTER_RUNTIME_DIR": runtime}
    return found


def account(spec: Notebook) -> Account | None:
    """Who an image may have to be told of; None: root, whom all know."""
    uid, gid = owner_of(spec.user)
    return Account(uid, gid, NAME, HOME) if uid else None
