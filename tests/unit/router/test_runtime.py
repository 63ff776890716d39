from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.errors import RouterError
from appliance.router.runtime import Gone, Info, Runtime, parse_info, parse_map, parse_present, parse_servers
from appliance.router.sync import Server

INFO = """Name: HAProxy
Version: 2.6.12-1+deb12u4
Pid: 27653
description: appliance-0123456789abcdef
Stopping: 0
"""
STAT = """# pxname,svname,qcur,scur,status,addr,
daemon,daemon,0,0,no check,unix,
slot-0,x,0,2,no check,127.0.0.1:7901,
slot-0,u,0,0,UP,172.18.0.2:7904,
slot-0,d,0,0,DOWN 1/2,127.0.0.1:7905,
slot-3,y.1,1,0,DRAIN,127.0.0.1:7902,
slot-3,z,,,MAINT (resolution),127.0.0.1:7903,
"""


@asynccontextmanager
async def admin(path: Path, answer: bytes | None) -> AsyncIterator[list[bytes]]:
    """A socket that answers every command the same, or never."""
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()
        await writer.wait_closed()
        over.set()

    over = asyncio.Event()
    async with await asyncio.start_unix_server(handle, str(path)):
        yield asked
        await over.wait()


def test_info_is_read() -> None:
    assert parse_info(INFO) == Info(27653, "2.6.12", "0123456789abcdef")
    assert parse_info(INFO.replace("cdef\n", "cdef/3\n")) == Info(27653, "2.6.12", "0123456789abcdef", 3)
    assert parse_info("Permission denied") is None


def test_servers_of_the_slots_are_read_and_no_others() -> None:
    assert parse_servers(STAT) == [
        Server(0, "x", "127.0.0.1", 7901, "unchecked", 2, 0),
        Server(0, "u", "172.18.0.2", 7904, "ready", 0, 0),
        Server(0, "d", "127.0.0.1", 7905, "down", 0, 0),
        Server(3, "y.1", "127.0.0.1", 7902, "drain", 0, 1),
        Server(3, "z", "127.0.0.1", 7903, "maint", 0, 0),
    ]
    assert parse_servers("") == []


def test_slots_with_requests_are_read() -> None:
    text = "# pxname,svname,scur,\nslot-0,BACKEND,2,\nslot-1,BACKEND,0,\ndaemon,BACKEND,3,\nslot-12,BACKEND,1,\n"
    assert parse_present(text) == {0, 12}
    assert parse_present("") == set()


def test_the_map_is_read() -> None:
    text = "0x5629e86fc830 notebooks/a slot-0\n0x5629e86fc8c0 deployments/x slot-1/strip\n"
    assert parse_map(text) == {"notebooks/a": "slot-0", "deployments/x": "slot-1/strip"}
    assert parse_map("Unknown map identifier. Please use #<id> or <file>.") == {}


@pytest.mark.anyio
async def test_one_command_one_answer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with admin(path, b"fine\n\n") as asked:
        assert await Runtime(path).ask("show info") == "fine"
    assert asked == [b"show info\n"]


@pytest.mark.anyio
async def test_nobody_there_is_gone(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "s")
    with pytest.raises(Gone):
        await runtime.ask("show info")
    assert await runtime.info() is None


@pytest.mark.anyio
async def test_silence_is_not_taken_for_death(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with admin(path, None):
        with pytest.raises(RouterError, match="does not answer") as caught:
            await Runtime(path, timeout_s=0.05).info()
    assert not isinstance(caught.value, Gone)


@pytest.mark.anyio
@pytest.mark.parametrize("command", ["a\nb", "a;b", "a\0b"])
async def test_two_commands_in_one_are_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(RouterError, match="not one command"):
        await Runtime(tmp_path / "s").ask(command)
