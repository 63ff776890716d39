"""Content by its digest: `objects/ab/SHA256`, plain bytes, so that `sha256sum` checks them. Standard library only.

An object appears in `objects/` only when its bytes are on the disk: pieces are written to `tmp/`, synced many at a
time, then renamed. So whatever is there under a name is whole, also after a power cut. One writer at a time.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO

from appliance.backup.manifest import Chunk, Damaged

STAGED_BYTES = 256 << 20
STAGED_OBJECTS = 2000
"""Written together between two syncs; what a kill costs at most."""
OBJECTS, MANIFESTS, TEMPORARY = "objects", "manifests", "tmp"


class Objects:
    def __init__(self, target: Path) -> None:
        self.written = 0
        """Bytes that were not there before."""
        self._target = target
        self._staged: set[str] = set()
        self._staged_bytes = 0

    def path(self, digest: str, folder: str = OBJECTS) -> Path:
        return self._target / folder / digest[:2] / digest

    def put(self, data: bytes | bytearray) -> str:
        """The digest of `data`, which is in the store once `flush` has returned."""
        digest = hashlib.sha256(data).hexdigest()
        if digest in self._staged or self._has(digest, len(data)):
            return digest
        descriptor = os.open(self._target / TEMPORARY / digest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _SAFE, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        self._staged.add(digest)
        self._staged_bytes += len(data)
        self.written += len(data)
        if len(self._staged) >= STAGED_OBJECTS or self._staged_bytes >= STAGED_BYTES:
            self.flush()
        return digest

    def flush(self) -> None:
        """Everything that was put is on the disk and in its place."""
        if not self._staged:
            return
        sync(self._target)
        for digest in self._staged:
            place(self._target / TEMPORARY / digest, self.path(digest))
        self._staged.clear()
        self._staged_bytes = 0

    def put_manifest(self, file: BinaryIO, digest: str) -> None:
        """`file`, written to the end under its name in `tmp/`, becomes the manifest `digest`, objects first."""
        self.flush()
        file.flush()
        sync(self._target)
        place(Path(file.name), self.path(digest, MANIFESTS))
        self.written += os.fstat(file.fileno()).st_size

    def new_manifest(self) -> BinaryIO:
        """An empty file in `tmp/`; its `name` is its path."""
        path = self._target / TEMPORARY / f"manifest-{secrets.token_hex(8)}"
        return open(path, "x+b", opener=lambda name, flags: os.open(name, flags | _SAFE, 0o600))

    def open_manifest(self, digest: str) -> BinaryIO:
        try:
            return open(self.path(digest, MANIFESTS), "rb")
        except FileNotFoundError:
            raise Damaged("a list of files is missing", where=str(self.path(digest, MANIFESTS))) from None

    def read(self, chunk: Chunk) -> bytes:
        """Its bytes. Raises Damaged where they are not what was written."""
        path = self.path(chunk.digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise Damaged("a piece of a file is missing", where=str(path)) from None
        if len(data) != chunk.length or hashlib.sha256(data).hexdigest() != chunk.digest:
            raise Damaged("a piece of a file has changed since it was written", where=str(path))
        return data

    def _has(self, digest: str, size: int) -> bool:
        try:
            return self.path(digest).stat().st_size == size
        except FileNotFoundError:
            return False


_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC


def place(temporary: Path, path: Path) -> None:
    try:
        temporary.rename(path)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary.rename(path)


def sync(folder: Path) -> None:
    """Everything on the file system of `folder` is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
