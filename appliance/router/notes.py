"""What is wrong with the front door at the moment: said once to whoever listens, and in its status until it is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


class Notes:
    """One sentence for each topic. `on_problem` may be set at any time; None: nobody is told."""

    def __init__(self, on_problem: Callable[[str], None] | None) -> None:
        self.on_problem = on_problem
        self._notes: dict[str, str] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._notes.values())

    def note(self, topic: str, text: str) -> None:
        """What the status tells until it is over; empty: it is."""
        if not text:
            self._notes.pop(topic, None)
        elif self._notes.get(topic) != text:
            self._notes[topic] = text
            log.warning("%s", text)

    def say(self, topic: str, problem: str) -> None:
        """The same, and tells it too; not again while it stays."""
        if self._notes.get(topic) == problem:
            return
        self.note(topic, problem)
        if self.on_problem is not None:
            try:
                self.on_problem(problem)
            except Exception:
                log.exception("nobody could be told of it")
