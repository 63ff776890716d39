"""The volume that all notebooks and jobs see at /storage."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from appliance.errors import StorageError
from appliance.storage.base import Store

SHARED = "storage"
FOR_ALL = 0o1777
"""Whoever a container runs as makes files there, and nobody removes those of others."""


def shared(store: Store) -> Path:
    """Its directory, open to every user, whatever a container that ran as root has made of it.

    Its owner may remove what others have in it, so that is the daemon. Blocking; raises StorageError.
    """
    path = store.create(SHARED)
    found = path.stat()
    owner = os.geteuid(), os.getegid()
    if stat.S_IMODE(found.st_mode) != FOR_ALL or (found.st_uid, found.st_gid) != owner:
        try:
            os.chown(path, *owner)  # it clears bits of the mode
            path.chmod(FOR_ALL)
        except OSError as error:
            hint = "let the user that the appliance runs as own it"
            raise StorageError(
                f"/storage cannot be opened to all: {error.strerror}", where=str(path), hint=hint
            ) from None
    return path
