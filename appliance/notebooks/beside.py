"""The directory of a notebook beside its workspace: what outlives a session and is no part of the history.

    HOME/notebooks/UID/lab/workspaces   what was open in JupyterLab, so that it is open again at the next start
                      /lab/settings     the user's settings of JupyterLab
                      /home             HOME of a session that is not root's
                      /signals          what happens inside, as files that the daemon looks at and never reads
                      /NAME             notes of the daemon's own, which no session sees

Below `lab`, `home` and `signals` everything is a session's to change, so each is entered by descriptor, never through a
link; what a session has put in the place of a folder of ours stays as it is. Blocking; callers use a worker thread.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from appliance.notebooks.owning import Owner, give
from appliance.settings import Settings
from appliance.storage.trees.pinning import FOLDER
from appliance.storage.trees.removing import remove

LAB = "lab"
HOME = "home"
SIGNALS = "signals"
SAVED = "saved"
"""In `signals`: touched whenever Jupyter has saved a file."""
_BELOW = ("workspaces", "settings")
"""Folders in `lab`."""


class Beside:
    def __init__(self, settings: Settings) -> None:
        self._root = settings.home / "notebooks"

    def path(self, uid: str) -> Path:
        """Where it is, or would be."""
        return self._root / uid

    def open(self, uid: str, owner: Owner = (0, 0)) -> Path:
        """The directory, made where it is not there, what a session may write to owned by (uid, gid) `owner`.

        Only root and the daemon pass through it, the folders that are mounted apart.
        """
        path = self.path(uid)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in (LAB, HOME, SIGNALS):
            with suppress(FileExistsError):
                (path / name).mkdir(mode=0o755)
        lab = os.open(path / LAB, FOLDER)
        try:
            for name in _BELOW:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=lab)
                    give_entry(lab, name, owner)
        finally:
            os.close(lab)
        for name in (LAB, HOME, SIGNALS):
            give(path / name, owner)
        return path

    def note(self, uid: str, name: str) -> str:
        """A note of the daemon's; empty: none was written."""
        try:
            return (self.path(uid) / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def write_note(self, uid: str, name: str, text: str) -> None:
        """Whole or not at all, also where the machine dies."""
        path = self.path(uid) / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        making = path.with_name(f"{name}.making")
        with making.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        making.replace(path)

    def remove(self, uid: str) -> None:
        """Gone already counts as done. Raises StorageError where something is left."""
        remove(self.path(uid))


def give_entry(folder: int, name: str, owner: Owner) -> None:
    if os.geteuid() == 0 or owner != (0, 0):
        os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
