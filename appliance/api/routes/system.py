"""The appliance itself: status, health, the API's own description, and pages for what is not there yet."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from appliance import __version__, wire
from appliance.api import absent, gpu_metrics, views
from appliance.api.openapi import describe
from appliance.api.parts import Parts
from appliance.api.routes.resources import PLURALS
from appliance.state import resources, runs, spec_files
from appliance.state.db import Connection

DAY_S = 86_400.0
PLURAL_OF = {kind: plural for plural, kind in PLURALS.items()}
AT_REST = frozenset({"Stopped", "Disabled"})


def routes(parts: Parts) -> list[Route]:
    async def status_(_: Request) -> Response:
        return Response(orjson.dumps(status(parts)), media_type="application/json")

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def metrics(_: Request) -> Response:
        more = gpu_metrics.lines(parts.gpus.snapshot()) if parts.gpus else []
        return PlainTextResponse(_metrics(status(parts), more), media_type="text/plain; version=0.0.4")

    async def openapi(request: Request) -> Response:
        return JSONResponse(describe(request.app.routes))

    async def docs(request: Request) -> Response:
        return HTMLResponse(_docs(describe(request.app.routes)))

    async def waiting(request: Request) -> Response:
        kind, name = request.path_params["kind"].removesuffix("s"), request.path_params["name"]
        browser = "text/html" in request.headers.get("accept", "")
        resource = resources.find(parts.db.read, kind, name)
        if resource is not None:
            return absent.waiting(resource, browser=browser)
        renamed = resources.formerly(parts.db.read, kind, name)
        # what an open JupyterLab asks for by itself; a deployment's paths are its own
        page = kind != "notebook" or not request.path_params.get("rest", "").startswith(("api/", "lab/api/"))
        return absent.unknown(kind, name, request.url.path, renamed, page=page, browser=browser)

    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return [
        Route("/v1/status", status_, methods=["GET"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
        Route("/docs", docs, methods=["GET"]),
        Route("/{kind:kind}/{name}", waiting, methods=every, include_in_schema=False),
        Route("/{kind:kind}/{name}/{rest:path}", waiting, methods=every, include_in_schema=False),
    ]


def status(parts: Parts) -> wire.Status:
    """Reads the state file only; what is outside was looked at by the daemon's own watchers."""
    db, now = parts.db.read, parts.clock()
    declared = resources.every(db)
    unfinished = runs.unfinished(db)
    active = [_brief(parts, row) for row in declared if row.kind in ("notebook", "deployment")]
    failed = [brief for brief in active if brief["phase"] in ("Failed", "Degraded")]
    lost = runs.failed_since(db, now - DAY_S, limit=20)
    failed += [_run_brief(row) for row in lost if not _made_good(db, row)]
    return wire.Status(
        version=__version__,
        instance=parts.instance,
        home=str(parts.settings.home),
        pid=os.getpid(),
        started=parts.started,
        now=now,
        url=parts.settings.url,
        parts=list(parts.health.values()),
        counts=_counts(declared, runs.count_by_phase(db)),
        active=[_run_brief(row) for row in unfinished] + [brief for brief in active if brief["phase"] not in AT_REST],
        failed=failed,
        broken_specs=[views.spec_file(row) for row in spec_files.every(db) if row.problem],
    )


def _made_good(db: Connection, run: runs.Run) -> bool:
    """A resume of it, or of that one, came to a good end."""
    later = [row for row in runs.going_on_from(db, run.id) if row.cause == "resume"]
    return any(row.phase == "Succeeded" or _made_good(db, row) for row in later)


def _counts(declared: list[resources.Resource], run_phases: dict[str, int]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {"runs": run_phases} if run_phases else {}
    for row in declared:
        phases = counts.setdefault(PLURAL_OF[row.kind], {})
        phases[row.phase] = phases.get(row.phase, 0) + 1
    return counts


def _brief(parts: Parts, row: resources.Resource) -> wire.Brief:
    url_path = row.status.get("url_path", "")
    return wire.Brief(
        kind=row.kind,
        name=row.name,
        phase="Deleting" if row.deleting else row.phase,
        message=row.message,
        since=row.updated,
        url=f"{parts.settings.url}{url_path}" if url_path else "",
    )


def _run_brief(row: runs.Run) -> wire.Brief:
    name = f"{row.workflow}.{row.number}"
    since = row.finished or row.started or row.created
    return wire.Brief(kind="run", name=name, phase=row.phase, message=row.message, since=since, url="")


def _metrics(now: wire.Status, more: Sequence[str]) -> str:
    """Prometheus text format. Label values come from fixed sets, so they need no escaping."""
    lines = ["# TYPE appliance_part_ok gauge"]
    lines += [f'appliance_part_ok{{part="{part["name"]}"}} {int(part["ok"])}' for part in now["parts"]]
    lines.append("# TYPE appliance_resources gauge")
    for kind, phases in now["counts"].items():
        lines += [f'appliance_resources{{kind="{kind}",phase="{phase}"}} {n}' for phase, n in phases.items()]
    return "\n".join([*lines, *more]) + "\n"


def _docs(description: dict[str, object]) -> str:
    """The API's paths on one page, without a script from elsewhere."""
    paths = description["paths"]
    assert isinstance(paths, dict), "describe() makes it"
    rows = "".join(
        f"<tr><td><b>{method.upper()}</b><td><code>{html.escape(path)}</code><td>{html.escape(operation['summary'])}"
        for path, operations in paths.items()
        for method, operation in operations.items()
    )
    style = "body{font:15px system-ui;margin:2em auto;max-width:60em}td{padding:.3em 1em;border-top:1px solid #ddd}"
    return (
        f'<!doctype html><meta charset="utf-8"><title>appliance API</title><style>{style}</style><h1>appliance API'
        f"</h1><p>Machine-readable: <a href='openapi.json'>openapi.json</a></p><table>{rows}</table>"
    )
