"""Who may speak. The trusted socket is guarded by its file permissions; behind the front door the token is."""

from __future__ import annotations

import hmac
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.api.problem import respond
from appliance.errors import Forbidden
from appliance.spec.names import NAME

OPEN_PATHS = frozenset({"/healthz"})
OPEN_PREFIXES = ("/notebooks/", "/deployments/")
"""Waiting pages, which tell the name and the phase of what is not served now."""
SIGNED = re.compile(rf"/v1/hooks/(?:repository/)?{NAME.pattern}", re.ASCII)
"""Messages that are signed, each with the secret of its own receiver; to be posted only."""


class RequireToken:
    """Pure ASGI. Lets through `Authorization: Bearer TOKEN`, the open paths and signed messages."""

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
        if scope["method"] == "POST" and SIGNED.fullmatch(path):
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        return hmac.compare_digest(scheme.lower() + b" " + token.strip(), self._expected)
