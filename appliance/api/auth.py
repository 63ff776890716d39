"""Who may speak. The trusted socket is guarded by its file permissions; behind the front door the token is."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.api.problem import respond
from appliance.errors import Forbidden

OPEN_PATHS = frozenset({"/healthz"})
OPEN_PREFIXES = ("/notebooks/", "/deployments/")
"""Waiting pages, which tell the name and the phase of what is not served now."""


class RequireToken:
    """Pure ASGI. Lets through `Authorization: Bearer TOKEN` and the open paths."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._allowed(scope):
            error = Forbidden(
                "the request carries no valid token",
                hint="send `Authorization: Bearer TOKEN`; `appliance config` tells where the token file is",
            )
            await respond(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIXES):
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + token.strip(), self._expected)
