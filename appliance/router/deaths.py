"""HAProxys that end by themselves: noticed at once, and the next is started later the more of them there were."""

from __future__ import annotations

import asyncio

from appliance.router import process

_STEADY_S = 30.0
"""One that has served for so long was well."""
_NONE_LOOK_S = 0.2


def backoff(deaths: int) -> float:
    """Seconds before the next start after so many deaths in a row: none after the first, 30 at most."""
    return 0.0 if deaths <= 1 else min(30.0, 0.5 * 2.0 ** min(deaths - 2, 10))


class Deaths:
    def __init__(self) -> None:
        self._row = 0

    async def died(self, pid: int, timeout_s: float) -> bool:
        """Whether this process ended within that time; False after a moment where there is none: `pid` is 0."""
        if pid:
            return await process.ended(pid, timeout_s=timeout_s)
        await asyncio.sleep(_NONE_LOOK_S)
        return False

    async def wait(self, *, since: float) -> None:
        """After a death. `since`: loop time of its start."""
        steady = asyncio.get_running_loop().time() - since > _STEADY_S
        self._row = 1 if steady else self._row + 1
        await asyncio.sleep(backoff(self._row))
