"""Reading requests: bodies checked against the wire's shapes, query values against their types."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from math import inf
from typing import TypeVar
from urllib.parse import unquote

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.errors import TooLarge, UsageError

T = TypeVar("T")

LONGEST_AUTHOR = 64
LARGEST_BODY = 4 << 20
"""Bytes. A spec is at most 1 MiB; escaping in JSON may double it."""
LARGEST_PACK = 48 << 20
"""Bytes of a request that brings a pack of files; it is passed on as it comes."""
TAKEN_IN_PIECES = "/v1/notebooks/import"
"""Its body is as large as the disk has room; nobody holds it in memory."""


_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):", re.ASCII)


class LimitBody:
    """Refuses a body that is too large for what it is, whether its length is announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        got = 0
        path = scope.get("path", "")
        pack = path.endswith("/pack")
        most = LARGEST_PACK if pack else inf if path == TAKEN_IN_PIECES else LARGEST_BODY

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                hint = "send smaller packs" if pack else "a spec has at most 1 MiB"
                raise TooLarge(f"the request is larger than {int(most) >> 20} MiB", hint=hint)
            return message

        await self._app(scope, limited if scope["type"] == "http" else receive, send)


async def body(request: Request, shape: type[T]) -> T:
    """The JSON body as `shape`, a TypedDict of the wire. Raises UsageError that names the field."""
    strict = with_config(ConfigDict(extra="forbid", strict=True))
    try:
        return TypeAdapter(strict(shape)).validate_json(await request.body() or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{place or 'body'}: {first['msg']}", where=request.url.path, hint="see /docs") from None


def number(request: Request, name: str, default: float) -> float:
    """A query value from 0 up."""
    raw = request.query_params.get(name)
    if raw is None:
        return default
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"{name} must be a number from 0 up, not {raw!r}", where=request.url.path)
    return value


def count(request: Request, name: str, default: int, *, most: int = 2**63 - 1) -> int:
    """A whole query value from 0 up; above `most` it counts as `most`."""
    raw = request.query_params.get(name)
    if raw is None:
        return default
    if not (raw.isascii() and raw.isdigit() and len(raw) < 20):
        raise UsageError(f"{name} must be a whole number from 0 up, not {raw!r}", where=request.url.path)
    return min(int(raw), most)


def author(request: Request) -> str:
    """Who asks, as the client says it: shown in the history, trusted for nothing."""
    said = unquote(request.headers.get("x-appliance-author", ""))
    return "".join(character for character in said if character.isprintable()).strip()[:LONGEST_AUTHOR] or "api"


def expected_digest(request: Request) -> str:
    """The sha256 in hex that the body is to have, by its Content-Digest; empty: the client does not say."""
    given = request.headers.get("content-digest", "")
    found = _DIGEST.search(given)
    if given and not found:
        raise UsageError("Content-Digest must be sha-256=:BASE64:", where=request.url.path, hint="see RFC 9530")
    return base64.b64decode(found[1]).hex() if found else ""


async def digest_of(content: bytes) -> str:
    """The Content-Digest of an answer."""
    found = await asyncio.to_thread(hashlib.sha256, content)
    return f"sha-256=:{base64.b64encode(found.digest()).decode()}:"


def flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in ("1", "true", "yes")
