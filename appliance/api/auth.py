"""Who may speak. The trusted socket is guarded by its file permissions; behind the front door the token is."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.api.problem import respond
from appliance.errors import Forbidden, TooMany
from appliance.spec.names import NAME
from appliance.state import resources
from appliance.state.db import Database

OPEN_PATHS = frozenset({"/healthz"})
OPEN_PREFIXES = ("/notebooks/", "/deployments/", "/history/")
"""Waiting pages, which tell the name and the phase of what is not served now, and the page of a history, which tells
nothing: it is the same for every name, and asks for the rest with a token."""
SIGNED = re.compile(rf"/v1/hooks/(?:repository/)?{NAME.pattern}", re.ASCII)
"""Messages that are signed, each with the secret of its own receiver; to be posted only."""
_OF_ONE = re.compile(
    rf"/v1/notebooks/(?P<name>{NAME.pattern})/(?P<what>history(?:/file)?|diff(?:/file)?|files?|snapshot|restore"
    r"|snapshots/[A-Za-z0-9-]{1,64}/hold)",
    re.ASCII,
)
_METHODS = {"snapshot": frozenset({"POST"}), "restore": frozenset({"POST"}), "hold": frozenset({"PUT", "DELETE"})}
"""Of what is not only read."""

OWN = "appliance.own"
"""In the scope of a request that a notebook's own token has let in: the notebook's name. The rest is the daemon's."""
AT_ONCE, WAITING = 2, 16
"""Requests by one notebook's own token: each may take a thread that all notebooks share."""

OwnToken = Callable[[str], str]
"""The token of the notebook of this name; empty where it has none."""


def own_token(db: Database) -> OwnToken:
    """As the state has them."""

    def find(name: str) -> str:
        notebook = resources.find(db.read, "notebook", name)
        return str(notebook.status.get("token", "")) if notebook and not notebook.deleting else ""

    return find


def nobodys(_: str) -> str:
    return ""


class RequireToken:
    """Pure ASGI. Lets through `Authorization: Bearer TOKEN`, the open paths and signed messages.

    Whoever has the token of a notebook, which opens its Jupyter and with it all of its files, may look at that one's
    history too, keep a moment and bring a file back, within bounds (`routes.notebooks`), a few requests at a time;
    `Authorization: token TOKEN` is how Jupyter's clients write it.
    A websocket needs the daemon's token in the same header of its handshake, and no path is open to it.
    """

    def __init__(self, app: ASGIApp, token: str, own: OwnToken = nobodys) -> None:
        self._app = app
        self._token = token.encode()
        self._own = own
        self._turns: dict[str, _Turns] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = self._own_of(scope) if scope["type"] == "http" else ""
        if own and not self._allowed(scope):
            await self._in_turn(own, scope, receive, send)
            return
        if scope["type"] != "lifespan" and not self._allowed(scope):
            error = Forbidden(
                "the request carries no valid token",
                hint="send `Authorization: Bearer TOKEN`; `appliance config` tells where the token file is",
            )
            await respond(error)(scope, receive, send)  # to a websocket it is the answer to its handshake
            return
        await self._app(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        if scope["type"] == "http" and _open(scope["method"], scope["path"]):
            return True
        scheme, token = _given(scope)
        return scheme == b"bearer" and hmac.compare_digest(token, self._token)

    def _own_of(self, scope: Scope) -> str:
        """The notebook whose own token comes with this request, and is enough for it; empty: none."""
        scheme, token = _given(scope)
        name = notebook_of(scope["method"], scope["path"])
        expected = self._own(name).encode() if name and scheme in (b"bearer", b"token") else b""
        return name if expected and hmac.compare_digest(token, expected) else ""

    async def _in_turn(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        turns = self._turns.setdefault(name, _Turns())
        if turns.asked >= AT_ONCE + WAITING:
            error = TooMany(f"notebook {name!r} asks too much at once", hint="wait for the answers, then repeat")
            await respond(error)(scope, receive, send)
            return
        turns.asked += 1
        try:
            async with turns.free:
                await self._app({**scope, OWN: name}, receive, send)
        finally:
            turns.asked -= 1
            if not turns.asked:
                self._turns.pop(name, None)


class _Turns:
    def __init__(self) -> None:
        self.asked = 0
        self.free = asyncio.Semaphore(AT_ONCE)


def _given(scope: Scope) -> tuple[bytes, bytes]:
    """Scheme and token."""
    scheme, _, token = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
    return scheme.lower(), token.strip()


def notebook_of(method: str, path: str) -> str:
    """The notebook whose own token is enough for this request; empty: only the daemon's is. Pure."""
    found = _OF_ONE.fullmatch(path)
    if found is None or method not in _METHODS.get(found["what"].rpartition("/")[2], {"GET"}):
        return ""
    return found["name"]


def _open(method: str, path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES) or (method == "POST" and bool(SIGNED.fullmatch(path)))
