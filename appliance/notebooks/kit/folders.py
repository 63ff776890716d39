"""The kit's folders on this machine: each is made once, whole or not at all, and never changed afterwards.

    HOME/kit/root-ID       all that Jupyter is made of, from the notebook image with that id
            /packages-KEY  ipykernel for one minor version of Python
            /share-KEY     what tells Jupyter of the image's Python

Whoever runs a session reads them; only the daemon writes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from appliance.errors import StorageError
from appliance.storage.threads import in_thread

MAKING = ".making-"


class Folders:
    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, name: str) -> Path | None:
        """None: it is not there."""
        path = self._root / name
        return path if path.is_dir() else None

    async def make(self, name: str, fill: Callable[[Path], Awaitable[None]]) -> Path:
        """Filled by `fill` where it is not there yet. Raises StorageError, and what `fill` raises."""
        if found := self.path(name):
            return found
        try:
            making = await in_thread(self._begin)
            try:
                await fill(making)
                return await in_thread(self._finish, making, name)
            finally:
                await in_thread(shutil.rmtree, making, ignore_errors=True)
        except OSError as error:
            hint = "make room on its disk, or mend it; it is tried again by itself"
            raise StorageError(f"cannot be made: {error}", where=str(self._root / name), hint=hint) from error

    def tidy(self) -> None:
        """What a killed daemon left half made goes. Nothing may be being made."""
        for name in self.names():
            if name.startswith(MAKING):
                self.remove(name)

    def remove(self, name: str) -> None:
        shutil.rmtree(self._root / name, ignore_errors=True)

    def names(self) -> Collection[str]:
        return [entry.name for entry in self._root.iterdir()] if self._root.is_dir() else ()

    def _begin(self) -> Path:
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o755)
        making = Path(tempfile.mkdtemp(prefix=MAKING, dir=self._root))
        making.chmod(0o755)
        return making

    def _finish(self, making: Path, name: str) -> Path:
        path = self._root / name
        os.sync()  # tens of thousands of files at once: the name must not be on the disk before what it names
        making.rename(path)
        return path


def write(folder: Path, files: dict[str, str]) -> None:
    """Readable by everybody, whatever the daemon's umask is."""
    for name, text in files.items():
        file = folder / name
        for parent in reversed(file.relative_to(folder).parents[:-1]):
            (folder / parent).mkdir(exist_ok=True)
            (folder / parent).chmod(0o755)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)
