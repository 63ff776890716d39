"""How long ago something was, though the clock is set meanwhile: a deadline is not over because somebody has set it.

Times are told and stored as unix times. What is seen for the first time is as old as the clock says; from then on its
age is counted by a clock that nobody sets, and its time is told again by the clock of now.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 4096


class Elapsed:
    """`clock` tells unix seconds and may be set; `counter` counts seconds."""

    def __init__(self, clock: Callable[[], float], counter: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counter = counter
        self._seen: OrderedDict[tuple[str, float], float] = OrderedDict()
        """What, and when it was by the clock of that time -> when it was by the counter."""

    def at(self, what: str, at: float) -> float:
        """The unix time `at`, by the clock of now: moved by the whole seconds that this was set. 0 stays 0: never."""
        if not at:
            return at
        key = (what, at)
        if key not in self._seen:
            self._seen[key] = self._counter() - max(0.0, self._clock() - at)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        moved = self._clock() - (self._counter() - self._seen[key]) - at
        return at + round(moved)
