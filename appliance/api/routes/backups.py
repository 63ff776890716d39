"""Backups: begin, follow, cancel, list. Restoring needs no daemon and is not here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests
from appliance.api.parts import Parts
from appliance.api.stream import event_stream
from appliance.backup.archive import Progress
from appliance.errors import UsageError
from appliance.state.backups import Backup

MOST_KEPT = 1_000_000


def routes(parts: Parts) -> list[Route]:
    async def listing(_: Request) -> Response:
        found = parts.backups.every()
        return JSONResponse({"items": [show(row, parts.backups.progress(row.id)) for row in found]})

    async def begin(request: Request) -> Response:
        """It goes on when the caller has left: follow it to see how it ends."""
        asked = await requests.body(request, wire.BackupRequest)
        keep = asked.get("keep", 0)
        if not 0 <= keep <= MOST_KEPT:
            raise UsageError(f"keep must be a number of points, or 0 for all, not {keep}", where=asked["target"])
        row = await parts.backups.start(asked["target"], verify=asked.get("verify", False), keep=keep)
        return JSONResponse(show(row, parts.backups.progress(row.id)), 202)

    async def one(request: Request) -> Response:
        row = parts.backups.find(request.path_params["id"])
        if requests.flag(request, "follow"):
            return event_stream(_changes(parts, row.id), parts.stopping)
        return JSONResponse(show(row, parts.backups.progress(row.id)))

    async def cancel(request: Request) -> Response:
        """Answers when it has ended; one that has ended before stays as it is."""
        await parts.backups.cancel(request.path_params["id"])
        return Response(status_code=204)

    async def forget(request: Request) -> Response:
        """Nothing at the target itself is touched."""
        asked = await requests.body(request, wire.ForgetRequest)
        target, dry_run = asked["target"], asked.get("dry_run", False)
        if not dry_run and asked.get("confirm", "") != target:
            raise UsageError(
                f"the next backup to {target} would have to send everything again",
                where=target,
                hint=f"confirm with the target: `appliance backups --forget {target} --confirm {target}`",
            )
        known, moments = await (parts.backups.held if dry_run else parts.backups.forget)(target)
        return JSONResponse(wire.Forgotten(target=target, backups=known, moments=moments))

    return [
        Route("/v1/backups", listing, methods=["GET"]),
        Route("/v1/backups", begin, methods=["POST"]),
        Route("/v1/backups/forget", forget, methods=["POST"]),
        Route("/v1/backups/{id}", one, methods=["GET"]),
        Route("/v1/backups/{id}", cancel, methods=["DELETE"]),
    ]


def show(row: Backup, progress: Progress | None) -> wire.Backup:
    document = wire.Backup(
        id=row.id,
        target=row.target,
        phase=row.phase,
        message=row.message,
        bytes=row.bytes,
        created=row.created,
        finished=row.finished,
    )
    if progress:
        document["progress"] = wire.BackupProgress(
            step=progress.step,
            done=progress.done,
            total=progress.total,
            read=progress.read,
            written=progress.written,
        )
    return document


async def _changes(parts: Parts, backup_id: str) -> AsyncIterator[list[Mapping[str, Any]]]:
    number = 0
    async for row, progress in parts.backups.follow(backup_id):
        number += 1
        yield [{"seq": number, **show(row, progress)}]
