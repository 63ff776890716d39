"""When something may be destroyed: not while a backup takes its point, and never what it still reads.

A backup copies the state and freezes the volumes that it names; a volume that goes away in between would be named and
not be there. So destroying waits at this gate while the state is copied. From then on the volumes are pinned, each
until it is in the backup: destroying one of them is a Conflict, and is tried again by a sweep.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from appliance.errors import Conflict

WAIT_S = 60.0
"""How long a destruction waits while a backup takes its point."""


class Gate:
    """Of one store, in one process. For its threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._destroying = 0
        self._quiet = False
        self._pinned: dict[str, set[str]] = {}
        """Owner -> what it has pinned."""

    @contextmanager
    def destroying(self, volume: str) -> Iterator[None]:
        """Around every destruction of a volume or of its snapshots. Conflict for a pinned one, and after WAIT_S."""
        with self._changed:
            loud = self._changed.wait_for(lambda: not self._quiet, WAIT_S)
            if not loud or any(volume in pinned for pinned in self._pinned.values()):
                raise Conflict(
                    f"a backup reads volume {volume!r}",
                    hint="it is tried again when the backup has ended; `appliance backups` shows how far it is",
                )
            self._destroying += 1
        try:
            yield
        finally:
            with self._changed:
                self._destroying -= 1
                self._changed.notify_all()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing is destroyed inside the `with`. Waits for what is being destroyed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._quiet)
            self._quiet = True
            self._changed.wait_for(lambda: not self._destroying)
        try:
            yield
        finally:
            with self._changed:
                self._quiet = False
                self._changed.notify_all()

    def pin(self, owner: str, volumes: Iterable[str]) -> None:
        with self._changed:
            self._pinned.setdefault(owner, set()).update(volumes)

    def unpin(self, owner: str, volumes: Iterable[str] | None = None) -> None:
        """None: all that `owner` has pinned. What is not pinned stays so."""
        with self._changed:
            left = self._pinned.pop(owner, set())
            left.difference_update(left if volumes is None else volumes)
            if left:
                self._pinned[owner] = left
