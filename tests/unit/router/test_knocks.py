from __future__ import annotations

import asyncio

import pytest

from appliance.router import knocks

pytestmark = pytest.mark.anyio


async def hear(data: bytes) -> list[str]:
    heard: list[str] = []

    def take(prefix: str) -> None:
        heard.append(prefix)
        if len(heard) == 1:
            raise RuntimeError("the one who hears may fail")

    reader = asyncio.StreamReader(limit=100)
    reader.feed_data(data)
    reader.feed_eof()
    async with asyncio.timeout(20):
        await knocks.listen(reader, {"/deployments/x", "/deployments/y"}.__contains__, take)
    return heard


async def test_routes_are_named_and_nobody_elses_words_are_taken() -> None:
    data = b"deployments/x\n\xff\xfe\n../etc\ndeployments/z\n\ndeployments/y\ndeployments/x"
    assert await hear(data) == ["/deployments/x", "/deployments/y"]


async def test_a_line_without_an_end_is_given_up() -> None:
    with pytest.raises(ValueError, match="limit"):
        await hear(b"x" * 1000)


async def test_somebody_who_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knocks, "QUIET_S", 0.01)
    async with asyncio.timeout(20):
        await knocks.listen(asyncio.StreamReader(), lambda prefix: True, lambda prefix: None)
