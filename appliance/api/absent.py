"""What an address on the front door says while nothing serves it: to people as a page, to programs as a problem. Pure.

JupyterLab takes a 404 for a folder that has gone and asks for the one above at once, without an end. A page that is
still open over a notebook that was deleted or renamed is therefore answered 410, after which it waits longer each time.
"""

from __future__ import annotations

import html
from urllib.parse import quote

from starlette.responses import HTMLResponse, JSONResponse, Response

from appliance.api.problem import problem
from appliance.errors import ApplianceError, NotFound
from appliance.state.resources import Resource

WAIT_S = 2
"""Seconds until a waiting page loads itself again."""
_STYLE = "font:16px system-ui;display:grid;place-items:center;height:90vh;color:#444"


class NotReady(ApplianceError):
    """As the front door itself says it of what it holds: router/pages.py."""

    code, status = "not_ready", 503


class Gone(ApplianceError):
    code, status = "gone", 410


def waiting(resource: Resource, *, browser: bool) -> Response:
    """It is declared, and does not serve now."""
    headers = {"Retry-After": str(WAIT_S), "Cache-Control": "no-store"}
    said = f"{resource.kind} {resource.name} is {resource.phase.lower()}"
    if not browser:
        found = NotReady(said, hint=f"`appliance status` says why; ask again in {WAIT_S} s")
        return JSONResponse(problem(found), 503, headers=headers, media_type="application/problem+json")
    if resource.phase == "Stopped":
        why = f"{_sentence(resource.message)}To start it: `appliance {resource.kind} start {resource.name}`."
    else:
        why = f"`appliance get {resource.kind} {resource.name}` says more."
    lines = [why, "This page opens it as soon as it is ready."]
    return _page(resource.name, said, lines, 503, headers, head=f'<meta http-equiv="refresh" content="{WAIT_S}">')


def unknown(kind: str, name: str, path: str, renamed: Resource | None, *, page: bool, browser: bool) -> Response:
    """Nothing of this name is declared. `page`: `path` is what a person opens, and not what a page asks for."""
    headers = {"Cache-Control": "no-store"}
    now = f"{kind} {name} is called {renamed.name} now" if renamed else ""
    hint = f"`appliance get {kind}s` lists what is"
    if not browser:
        error = NotFound if page and not now else Gone
        found = error(now or f"nothing is served at {path}", hint=hint)
        return JSONResponse(problem(found), error.status, headers=headers, media_type="application/problem+json")
    if renamed is None:
        line = f"It was deleted, renamed long ago, or never was. {hint}."
        if kind == "notebook":
            line += f" One that was deleted: `appliance notebook undelete {name}`."
        return _page(name, f"There is no {kind} {name}", [line], 404, headers)
    address = f"/{kind}s/{quote(renamed.name)}/"
    line = f"`appliance {kind} url {renamed.name}` prints the address that lets a new browser in."
    return _page(name, now, [line], 410, headers, link=address)


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:].rstrip('.')}. " if message else ""


def _page(
    title: str, said: str, lines: list[str], status: int, headers: dict[str, str], *, head: str = "", link: str = ""
) -> Response:
    shown = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    if link:
        shown += f'<p><a href="{html.escape(link)}">{html.escape(link)}</a></p>'
    return HTMLResponse(
        f'<!doctype html><meta charset="utf-8">{head}<title>{html.escape(title)}</title>'
        f'<body style="{_STYLE}"><main><h1>{html.escape(said)}</h1>{shown}</main>',
        status,
        headers=headers,
    )
