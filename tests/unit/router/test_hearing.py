"""Who is heard on a socket that anybody may connect to."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.router import hearing
from appliance.router.hearing import TELL_S, Strangers, listening

pytestmark = pytest.mark.anyio


def test_strangers_are_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    strangers = Strangers(Path("/run/knocks.sock"))
    for now in (0.0, 1.0, TELL_S - 1):
        strangers.tell(1000, now)
    assert [record.getMessage() for record in caplog.records] == [
        "account 1000 speaks on /run/knocks.sock and is not heard (1 since last told)"
    ]
    strangers.tell(1001, TELL_S)
    assert caplog.records[-1].getMessage().endswith("(3 since last told)")


async def test_a_stranger_is_neither_heard_nor_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard = asyncio.Semaphore(0)

    async def handle(reader: asyncio.StreamReader) -> None:
        await reader.read()
        heard.release()

    path = tmp_path / "s"
    monkeypatch.setattr(hearing, "_allowed", set)
    async with listening(path, handle), asyncio.timeout(60):
        for _ in range(30):
            reader, writer = await asyncio.open_unix_connection(str(path))
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
    assert heard.locked()
    assert len(caplog.records) == 1
    monkeypatch.setattr(hearing, "_allowed", lambda: {os.geteuid()})
    async with listening(path, handle), asyncio.timeout(60):
        with socket.socket(socket.AF_UNIX) as speaker:
            speaker.connect(str(path))
        await heard.acquire()
