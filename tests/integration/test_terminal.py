"""A command that is spoken with, on a pty and without one, against a real engine."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from appliance.engine import terminals
from appliance.engine.docker import Engine
from appliance.engine.terminals import Size, Terminal
from appliance.errors import ApplianceError, Conflict
from tests.integration.test_engine import WITHIN_S, running, spec

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

SIZE = Size(columns=123, rows=45)


class Heard:
    """What a terminal has said so far, followed in a task of its own."""

    def __init__(self, terminal: Terminal) -> None:
        self.text = {"stdout": b"", "stderr": b""}
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._follow(terminal))

    async def _follow(self, terminal: Terminal) -> None:
        async for piece in terminal:
            self.text[piece.stream] += piece.data
            self._news.set()
        self._news.set()

    async def until(self, words: bytes) -> None:
        while words not in self.text["stdout"]:
            assert not self._task.done(), self.text
            await self._news.wait()
            self._news.clear()

    async def end(self) -> dict[str, bytes]:
        await self._task
        return self.text


async def test_a_pty_has_its_size_and_follows_it_and_takes_control_characters(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    script = "tty; trap 'stty size' WINCH; trap 'echo interrupted; exit 5' INT; echo up; while :; do sleep 0.05; done"
    async with asyncio.timeout(WITHIN_S):
        opened = engine.terminal(made.id, ["bash", "-c", script], tty=True, size=SIZE, env={"TERM": "xterm"})
        async with opened as terminal:
            heard = Heard(terminal)
            await heard.until(b"up")
            assert b"/dev/pts/" in heard.text["stdout"]
            await terminal.resize(Size(columns=91, rows=17))
            await heard.until(b"17 91\r\n")
            await terminal.write(b"\x03")
            await heard.until(b"interrupted")
            await heard.end()
            assert await terminal.exit_code() == 5


async def test_the_first_size_is_there_for_who_asks_after_a_moment(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    script = 'until [ "$(stty size)" = "45 123" ]; do sleep 0.05; done; echo "$TERM $CI"'
    async with asyncio.timeout(WITHIN_S):
        opened = engine.terminal(made.id, ["sh", "-c", script], tty=True, size=SIZE, env={"TERM": "vt100", "CI": "1"})
        async with opened as terminal:
            assert (await Heard(terminal).end())["stdout"] == b"vt100 1\r\n"
            assert await terminal.exit_code() == 0


async def test_without_a_pty_streams_stay_apart_and_every_byte_is_passed(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    given = bytes(range(256)) * 8000
    async with asyncio.timeout(WITHIN_S):
        opened = engine.terminal(made.id, ["sh", "-c", "cat; echo no >&2; exit 3"], tty=False, size=SIZE, env={})
        async with opened as terminal:
            heard = Heard(terminal)
            for start in range(0, len(given), 1 << 16):
                await terminal.write(given[start : start + (1 << 16)])
            await terminal.end_input()
            assert await heard.end() == {"stdout": given, "stderr": b"no\n"}
            assert await terminal.exit_code() == 3


async def test_a_command_that_writes_on_waits_for_its_reader(engine: Engine, base_image: str) -> None:
    """100 MB that nobody reads take no memory here, and come whole once they are read."""
    made = await running(engine, spec(engine))
    size = 100 << 20
    script = f"head -c {size} /dev/zero"
    async with asyncio.timeout(WITHIN_S):
        opened = engine.terminal(made.id, ["sh", "-c", script], tty=False, size=SIZE, env={})
        async with opened as terminal:
            output = aiter(terminal)
            read = len((await anext(output)).data)
            before = memory()
            await asyncio.sleep(1)  # time in which it could write most of it
            grown = memory() - before
            assert grown < 20 << 20, f"{grown} bytes"
            async for piece in output:
                read += len(piece.data)
            assert read == size
            assert await terminal.exit_code() == 0


@pytest.mark.parametrize("tty", [True, False])
async def test_a_command_that_is_left_is_hung_up_and_what_minds_no_hangup_goes_on(
    engine: Engine, base_image: str, tty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminals, "GRACE_S", 8.0)  # a busy machine takes its time to run the trap
    made = await running(engine, spec(engine))
    script = (
        "trap 'echo told > /tmp/told; sleep 4321' HUP; nohup sleep 4322 >/dev/null 2>&1 & echo $! $$; sleep 4323; :"
    )
    async with asyncio.timeout(WITHIN_S):
        opened = engine.terminal(made.id, ["sh", "-c", script], tty=tty, size=SIZE, env={})
        async with opened as terminal:
            kept, own = (int(word) for word in (await anext(aiter(terminal))).data.split())
            for seconds in ("4322", "4323"):
                while (await engine.exec(made.id, ["pgrep", "-xf", f"sleep {seconds}"]))[0]:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        assert not await _alive(engine, made.id, own), "told, and ended as it would not go"
        assert await _alive(engine, made.id, kept)
        assert await engine.exec(made.id, ["cat", "/tmp/told"]) == (0, b"told\n")


async def test_what_cannot_be_run_is_said(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    async with asyncio.timeout(WITHIN_S):
        async with engine.terminal(made.id, ["no-such-command"], tty=True, size=SIZE, env={}) as terminal:
            assert b"no-such-command" in (await Heard(terminal).end())["stdout"]
            assert await terminal.exit_code() in (126, 127)
        await engine.kill(made.id)
        await engine.wait(made.id)
        for container, wrong in ((made.id, Conflict), ("0" * 64, ApplianceError)):
            with pytest.raises(wrong):
                async with engine.terminal(container, ["true"], tty=True, size=SIZE, env={}):
                    pass


def memory() -> int:
    """Bytes of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def _alive(engine: Engine, container_id: str, pid: int) -> bool:
    code, _ = await engine.exec(container_id, ["sh", "-c", f"grep -q '^State:.[^Z]' /proc/{pid}/status"])
    return code == 0


async def test_a_command_that_is_left_as_it_begins_is_ended_too(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    async with asyncio.timeout(WITHIN_S):
        for tty in (True, False):
            async with engine.terminal(made.id, ["sleep", "4324"], tty=tty, size=SIZE, env={}):
                pass
        while not (await engine.exec(made.id, ["pgrep", "-xf", "sleep 4324"]))[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
