"""Which servers are there at all, asked before a new HAProxy counts them as ready: it does, until it has looked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from appliance.router.table import Target

_ANSWER_S = 0.2
"""A port of this machine answers or refuses at once; one that is only silent is busy."""
_AT_ONCE = 64


async def refusing(targets: Iterable[Target]) -> set[tuple[str, int]]:
    """Address and port of those where nobody listens. What cannot be found out counts as there: HAProxy looks too."""
    limit = asyncio.Semaphore(_AT_ONCE)
    places = {(target.address, target.port) for target in targets}

    async def ask(place: tuple[str, int]) -> bool:
        async with limit:
            return await _refuses(*place)

    asked = list(places)
    answers = await asyncio.gather(*(ask(place) for place in asked))
    return {place for place, refused in zip(asked, answers, strict=True) if refused}


async def _refuses(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_S):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    # where nobody listens the kernel may have given the connection that very port: it has met itself
    itself = writer.get_extra_info("sockname") == writer.get_extra_info("peername")
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return bool(itself)
