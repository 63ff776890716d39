"""A command in a replica, as lines of JSON: its output as it comes, at last its exit code."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson

from appliance import wire
from appliance.engine.docker import Engine
from appliance.engine.executing import Execution
from appliance.errors import Conflict, NotFound, UsageError
from appliance.state.resources import Resource

ARGUMENT_MOST = 100 << 10
"""Bytes of one argument; the kernel takes fewer than 128 KiB."""
ARGUMENTS_MOST = 1 << 20


def container_of(deployment: Resource, replica: str) -> str:
    """Id of the container of `replica`; where that is empty of the first one that is ready, else of one that runs.

    Raises NotFound, Conflict.
    """
    rows = deployment.status.get("replicas", ())
    name = deployment.name
    if replica:
        found = [row for row in rows if row["id"] == replica]
        if not found:
            there = ", ".join(row["id"] for row in rows) or "none"
            raise NotFound(f"deployment {name!r} has no replica {replica!r}", hint=f"there are: {there}")
        last = found[-1]  # of one place the newest
        if last["state"] == "ended":
            hint = f"`appliance logs deployment/{name}/{replica}` tells why"
            raise Conflict(f"replica {replica} of deployment {name!r} does not run", hint=hint)
        return str(last["container"])
    alive = (row for row in rows if row["state"] != "ended")
    running = sorted(alive, key=lambda row: (not row["ready"], row["state"] == "leaving"))
    if not running:
        raise Conflict(f"no replica of deployment {name!r} runs", hint=f"`appliance deployment show {name}` tells why")
    return str(running[0]["container"])


def check(argv: Sequence[str], where: str) -> None:
    """Raises UsageError for what the kernel would not start: the engine may never come back from trying."""
    sizes = [len(one.encode(errors="replace")) for one in argv]
    longest, total = max(sizes), sum(sizes)
    if longest > ARGUMENT_MOST or total > ARGUMENTS_MOST:
        raise UsageError(
            f"the command is too long: {total} bytes, of which one argument has {longest}",
            where=where,
            hint=f"an argument has at most {ARGUMENT_MOST} bytes, all together {ARGUMENTS_MOST}; put more into a file",
        )


@asynccontextmanager
async def running(engine: Engine, container: str, argv: Sequence[str]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Lines: an ExecOutput each, at last an ExecEnd. The command ends with its reader."""
    async with engine.executing(container, argv) as execution:
        yield _lines(execution)


async def _lines(execution: Execution) -> AsyncIterator[bytes]:
    async for piece in execution:
        data = base64.b64encode(piece.data).decode()
        yield orjson.dumps(wire.ExecOutput(stream=piece.stream, data=data)) + b"\n"
    yield orjson.dumps(wire.ExecEnd(exit_code=await execution.exit_code())) + b"\n"
