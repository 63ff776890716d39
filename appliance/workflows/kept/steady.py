"""Whether the clock may be believed when it says that something is old. Pure.

A machine with an empty battery starts in another year until its time is set, and a clock may be set wrong by hand or
over the network; what is let go meanwhile does not come back. So a clock counts once it has gone on evenly, beside one
that only counts seconds, for some minutes: also after a start, and after a laptop has slept.
"""

from __future__ import annotations

JUMP_S = 3600.0
"""What it may differ from the seconds that have passed between two looks. Summer time does not move unix time."""
SETTLED_S = 300.0


class Steady:
    def __init__(self) -> None:
        self._ahead: float | None = None
        """Seconds between the two clocks at the last look."""
        self._since = 0.0
        """When it went evenly first, by the clock that only counts."""

    def look(self, now: float, passed: float) -> bool:
        """`now` in unix seconds, `passed` seconds of a clock that nobody sets. True: what is old by `now` is old."""
        ahead = now - passed
        if self._ahead is None or abs(ahead - self._ahead) > JUMP_S:
            self._since = passed
        self._ahead = ahead
        return passed - self._since >= SETTLED_S
