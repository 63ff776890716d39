"""What the front door says itself, to programs and to browsers. Pure.

A page is a line of a map: HAProxy picks it by status, side and format and sends the rest of the line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape

PAGES_MAP = "pages.map"
MARK = "x-appliance-page"
"""Response header that tells a page of ours until it leaves."""

LIMIT = "{limit}"
"""Stands in a page for what only the route knows; the page is two lines then. HAProxy takes spaces off their ends."""
_REST = "-rest"

_DAEMON = ("daemon_down", "The appliance's daemon does not answer.", "start it with `appliance serve`")
_SERVER = ("unavailable", "The server behind this path does not answer.", "`appliance logs` shows what it said")
_LATE = ("not_ready", "No replica became ready in time.", "`appliance logs` shows what they say")
_FULL = ("too_many_waiting", "Too many requests wait for a replica already.", "ask again in a few seconds")
_MOVED = ("interrupted", "What answers here was changed while this request waited.", "send it again")
_KEY = (
    "unauthorized",
    "This deployment needs a key, and none that it knows was sent.",
    "send it as `Authorization: Bearer KEY`",
)
_BASIC = (
    "unauthorized",
    "This deployment needs a password, and the right one was not sent.",
    "send it by basic authentication, as user paperspace",
)
_LENGTH = ("length_required", "This deployment takes bodies of a declared length only.", "send a Content-Length")
_BODY = ("too_large", f"The request's body is larger than this deployment takes:{LIMIT}.", "send less at once")
_RATE = (
    "too_many_requests",
    f"This client asks more often than this deployment allows:{LIMIT}.",
    "ask again later",
)

_PAGES = {
    (502, "daemon"): _DAEMON,
    (502, "server"): _SERVER,
    (503, "daemon"): _DAEMON,
    (503, "server"): _SERVER,
    (503, "late"): _LATE,
    (503, "full"): _FULL,
    (503, "moved"): _MOVED,
    (504, "daemon"): _DAEMON,
    (504, "server"): _SERVER,
    (401, "key"): _KEY,
    (401, "basic"): _BASIC,
    (411, "length"): _LENGTH,
    (413, "body"): _BODY,
    (429, "rate"): _RATE,
}
_TITLES = {
    401: "Unauthorized",
    411: "Length Required",
    413: "Content Too Large",
    429: "Too Many Requests",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_AGAIN = frozenset({429, 503})
"""Ask again after a while."""


def pages() -> str:
    lines = []
    for (status, side), (code, detail, hint) in _PAGES.items():
        title = _TITLES[status]
        problem = {"type": f"urn:appliance:{code}", "title": title, "status": status, "code": code}
        problem |= {"detail": detail, "hint": hint}
        html = _html(title, detail, hint, reload=status >= 500)
        for form, text in (("", json.dumps(problem)), ("html", html)):
            first, limit, rest = text.partition(LIMIT)
            lines.append(f"{status}-{side}-{form} {first}")
            if limit:
                lines.append(f"{status}-{side}-{form}{_REST} {rest}")
    return "\n".join((*lines, ""))


def errors(side: str) -> Iterator[str]:
    """The pages of a backend for what goes wrong by itself."""
    for status in (502, 503, 504):
        yield f"http-error status {status} {_content(f'{status}-{side}-', status)}"


def refusal(status: int, side: str, *headers: tuple[str, str], limit: str = "") -> str:
    """A rule that answers with a page; a condition may follow. `limit`: a format string without quotes."""
    further = "".join(f" hdr {name} '{value}'" for name, value in headers)
    return f"http-request return status {status} {_content(f'{status}-{side}-', status, limit)}{further}"


def _content(page: str, status: int, limit: str = "") -> str:
    again = " hdr retry-after 2" if status in _AGAIN else ""
    text = f"%[{_lookup(page)}]"
    if limit:
        text += f"{limit}%[{_lookup(page, _REST)}]"
    return (
        f"content-type application/problem+json lf-string '{text}'"
        f" hdr cache-control no-store hdr {MARK} %[var(txn.format)]{again}"
    )


def _lookup(page: str, rest: str = "") -> str:
    """JSON unless `txn.format` names another."""
    return f"str({page}),concat(,txn.format,{rest}),map({PAGES_MAP})"


def _html(title: str, detail: str, hint: str, *, reload: bool) -> str:
    refresh = '<meta http-equiv="refresh" content="2">' if reload else ""
    again = " This page reloads by itself." if reload else ""
    return (
        f'<!doctype html><meta charset="utf-8">{refresh}<title>{escape(title)}</title>'
        '<body style="font:16px system-ui;max-width:36em;margin:4em auto">'
        f"<h1>{escape(detail)}</h1><p>Next: {escape(hint)}.{again}</p>"
    )
