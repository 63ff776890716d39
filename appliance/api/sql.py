"""Answers to SQL as they leave: a file without a name, so that an error is never the end of half an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from urllib.parse import quote

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import StreamingResponse

from appliance.errors import NoSpace
from appliance.telemetry.sql.parquet import Parquet
from appliance.telemetry.sql.sinks import Csv, Ending, Json, Sink

PIECE = 1 << 18
ROWS, TRUNCATED, NOTES = "X-Appliance-Rows", "X-Appliance-Truncated", "X-Appliance-Notes"
"""Of an answer: how many rows, `true` where there are more, and percent-encoded words on what is not whole."""


@dataclass(frozen=True, slots=True)
class Form:
    media_type: str
    sink: Callable[[IO[bytes]], Sink]


FORMS = {
    "json": Form("application/json", Json),
    "csv": Form("text/csv; charset=utf-8", Csv),
    "parquet": Form("application/vnd.apache.parquet", Parquet),
}


def nameless(folder: Path) -> IO[bytes]:
    """A file in this folder that goes with who has it open, even where that is killed."""
    try:
        file: IO[bytes] = TemporaryFile(dir=folder)  # noqa: SIM115 -- its reader closes it
    except OSError as error:
        raise NoSpace(
            f"there is no room for the answer: {error.strerror}", where=str(folder), hint="free some disk space"
        ) from error
    return file


def respond(file: IO[bytes], form: Form, ending: Ending) -> StreamingResponse:
    """Closes the file when it has left."""
    headers = {
        "Content-Length": str(file.seek(0, 2)),
        "Cache-Control": "no-store",
        ROWS: str(ending.rows),
        TRUNCATED: str(ending.truncated).lower(),
        NOTES: quote("; ".join(ending.notes)),
    }
    return StreamingResponse(_pieces(file), media_type=form.media_type, headers=headers)


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        file.seek(0)
        while piece := await to_thread.run_sync(file.read, PIECE):
            yield piece


async def unless_left(request: Request, work: asyncio.Task[Ending], stopping: asyncio.Event) -> Ending | None:
    """What comes of `work`; None, and it is cancelled, when the client goes first or the daemon stops."""
    ends = [asyncio.create_task(stopping.wait()), asyncio.create_task(_left(request))]
    try:
        await asyncio.wait({work, *ends}, return_when=asyncio.FIRST_COMPLETED)
        return await work if work.done() else None
    finally:
        for task in (work, *ends):
            task.cancel()
        await asyncio.gather(work, *ends, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
