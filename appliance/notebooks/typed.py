"""Terminals of the appliance that are open in sessions: whether they are used, and a line into each of them.

A shell that is typed in leaves no other trace: what it begins may be over within a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[str], None]


class Terminals:
    def __init__(self) -> None:
        self._used: dict[str, int] = {}
        """Container -> how often its terminals were used."""
        self._open: dict[str, list[Tell]] = {}

    @contextmanager
    def open(self, container: str, tell: Tell) -> Iterator[None]:
        """`tell` takes a line for whoever sits before it, and neither waits nor fails."""
        self.use(container)
        self._open.setdefault(container, []).append(tell)
        try:
            yield
        finally:
            left = self._open[container]
            left.remove(tell)
            if not left:
                del self._open[container]

    def use(self, container: str) -> None:
        """Something was typed there."""
        self._used[container] = self._used.get(container, 0) + 1

    def mark(self, container: str) -> int:
        """It changes with each use."""
        return self._used.get(container, 0)

    def tell(self, container: str, words: str) -> None:
        for tell in list(self._open.get(container, [])):
            tell(words)

    def keep(self, containers: set[str]) -> None:
        """Forget the use of all others."""
        self._used = {key: used for key, used in self._used.items() if key in containers}
