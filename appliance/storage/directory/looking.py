"""Who looks at a frozen directory, so that it is not removed under them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import Conflict

BUSY_S = 10.0
"""How long a removal waits for those who look."""


class Looking:
    """In one process; whoever looked in a process that was killed looks no more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._counts: Counter[Path] = Counter()

    @contextmanager
    def at(self, find: Callable[[], Path]) -> Iterator[Path]:
        """What `find` returns stays until the end of the `with`."""
        with self._changed:
            path = find()
            self._counts[path] += 1
        try:
            yield path
        finally:
            with self._changed:
                self._counts[path] -= 1
                if not self._counts[path]:
                    del self._counts[path]
                self._changed.notify_all()

    @contextmanager
    def nobody(self, path: Path) -> Iterator[None]:
        """Inside the `with` nobody looks at `path` or below, and nobody begins to. Raises Conflict after a while."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._looked_at(path), BUSY_S):
                raise Conflict(
                    "somebody is reading these files",
                    where=str(path),
                    hint="repeat the command when the listing, the copy or the backup of them has ended",
                )
            yield

    def _looked_at(self, path: Path) -> bool:
        return any(seen == path or path in seen.parents for seen in self._counts)
