"""A command in a running container, its output read as it comes, against a real engine."""

from __future__ import annotations

import asyncio

import pytest

from appliance.engine.docker import Engine
from appliance.engine.executing import Execution
from appliance.errors import ApplianceError, Conflict
from tests.integration.test_engine import WITHIN_S, running, spec

pytestmark = [pytest.mark.anyio, pytest.mark.docker]


async def output(execution: Execution) -> dict[str, bytes]:
    found = {"stdout": b"", "stderr": b""}
    async for piece in execution:
        found[piece.stream] += piece.data
    return found


async def test_both_streams_come_whole_and_apart_with_the_exit_code(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    script = "head -c 3000000 /dev/zero; echo wrong >&2; exit 7"
    async with asyncio.timeout(WITHIN_S), engine.executing(made.id, ["sh", "-c", script]) as execution:
        assert await output(execution) == {"stdout": bytes(3_000_000), "stderr": b"wrong\n"}
        assert await execution.exit_code() == 7


async def test_it_is_read_while_it_runs_and_ends_with_its_reader(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    script = "echo $$; exec sleep 4321"
    async with asyncio.timeout(WITHIN_S):
        async with engine.executing(made.id, ["sh", "-c", script]) as execution:
            piece = await anext(aiter(execution))
            pid = int(piece.data)
            assert await _alive(engine, made.id, pid)
        while await _alive(engine, made.id, pid):  # noqa: ASYNC110 - the engine tells nobody
            await asyncio.sleep(0.1)


async def test_what_it_has_begun_ends_with_it(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    script = "sleep 4321 & echo $!; (sleep 4322 & echo $!); sleep 4323; echo"
    async with asyncio.timeout(WITHIN_S):
        async with engine.executing(made.id, ["sh", "-c", script]) as execution:
            said = b""
            async for piece in execution:
                said += piece.data
                if said.count(b"\n") == 2:
                    break
            pids = [int(word) for word in said.split()]
            for pid in pids:
                assert await _alive(engine, made.id, pid)
        for pid in pids:
            while await _alive(engine, made.id, pid):  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0.1)


async def test_what_cannot_be_run_is_said(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    async with asyncio.timeout(WITHIN_S), engine.executing(made.id, ["no-such-command"]) as execution:
        assert b"no-such-command" in b"".join((await output(execution)).values())
        assert await execution.exit_code() in (126, 127)
    await engine.kill(made.id)
    async with asyncio.timeout(WITHIN_S):
        await engine.wait(made.id)
    with pytest.raises(Conflict):
        async with engine.executing(made.id, ["true"]):
            pass
    with pytest.raises(ApplianceError, match="No such container"):
        async with engine.executing("0" * 64, ["true"]):
            pass


async def test_a_command_that_is_left_as_it_begins_is_ended_too(engine: Engine, base_image: str) -> None:
    made = await running(engine, spec(engine))
    async with asyncio.timeout(WITHIN_S):
        async with engine.executing(made.id, ["sleep", "4325"]):
            pass
        while not (await engine.exec(made.id, ["pgrep", "-xf", "sleep 4325"]))[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _alive(engine: Engine, container_id: str, pid: int) -> bool:
    code, _ = await engine.exec(container_id, ["test", "-e", f"/proc/{pid}"])
    return code == 0
