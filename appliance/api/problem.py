"""Every error leaves as one shape: an RFC 9457 problem with the code that errors.py gives it."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from appliance import wire
from appliance.errors import ApplianceError, SpecError

log = logging.getLogger(__name__)


def problem(error: ApplianceError) -> wire.Problem:
    document = wire.Problem(
        type=f"urn:appliance:{error.code}",
        title=error.code.replace("_", " "),
        status=error.status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        where=error.where,
    )
    if isinstance(error, SpecError):
        document["problems"] = [found.to_json() for found in error.problems]
    return document


def respond(error: ApplianceError) -> Response:
    return JSONResponse(problem(error), error.status, media_type="application/problem+json")


async def on_appliance_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApplianceError), "registered for ApplianceError only"
    return respond(error)


async def on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for HTTPException only"
    found = ApplianceError(error.detail, hint="`/docs` lists the paths and methods")
    found.code = {404: "not_found", 405: "usage"}.get(error.status_code, "failed")
    found.status = error.status_code
    return respond(found)


async def on_surprise(request: Request, error: Exception) -> Response:
    """A defect of ours: told in the daemon's log with its traceback, and to the caller without."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return respond(ApplianceError(f"a defect in the appliance ({type(error).__name__})", hint="see the daemon's log"))
