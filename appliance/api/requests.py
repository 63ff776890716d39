"""Reading requests: bodies checked against the wire's shapes, query values against their types."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.errors import TooLarge, UsageError

T = TypeVar("T")

LARGEST_BODY = 4 << 20
"""Bytes. A spec is at most 1 MiB; escaping in JSON may double it."""


class LimitBody:
    """Refuses a body above LARGEST_BODY, whether its length is announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        got = 0

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > LARGEST_BODY:
                raise TooLarge(f"the request is larger than {LARGEST_BODY >> 20} MiB", hint="a spec has at most 1 MiB")
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


def flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in ("1", "true", "yes")
