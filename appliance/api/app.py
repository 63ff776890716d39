"""The application: routes, the error table, and the two doors, one trusted and one behind the token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from appliance.api import problem
from appliance.api.auth import OwnToken, RequireToken, nobodys
from appliance.api.parts import Parts
from appliance.api.requests import LimitBody
from appliance.api.routes import (
    backups,
    datasets,
    deployments,
    diff,
    executions,
    gpus,
    history_page,
    hooks,
    machines,
    metrics,
    models,
    notebook_life,
    notebooks,
    pushes,
    records,
    registries,
    resources,
    runs,
    secrets,
    space,
    sql,
    system,
    terminals,
    trash,
    uploads,
)
from appliance.errors import ApplianceError


class _ServedKind(StringConvertor):
    regex = "notebooks|deployments"


register_url_convertor("kind", _ServedKind())

ROUTES: tuple[Callable[[Parts], Sequence[BaseRoute]], ...] = (
    system.routes,
    notebooks.routes,
    notebook_life.routes,
    executions.routes,
    trash.routes,
    deployments.routes,
    diff.routes,
    history_page.routes,
    runs.routes,
    datasets.routes,
    uploads.routes,
    models.routes,
    secrets.routes,
    registries.routes,
    space.routes,
    gpus.routes,
    machines.routes,
    backups.routes,
    records.routes,
    sql.routes,
    metrics.routes,
    pushes.routes,
    hooks.routes,
    terminals.routes,
    resources.routes,
)


def build_app(parts: Parts) -> ASGIApp:
    """For the trusted socket: whoever may open it may do everything."""
    app = Starlette(
        routes=[route for routes in ROUTES for route in routes(parts)],
        exception_handlers={
            ApplianceError: problem.on_appliance_error,
            HTTPException: problem.on_http_error,
            Exception: problem.on_surprise,
        },
    )
    return LimitBody(app)


def behind_token(app: ASGIApp, token: str, own: OwnToken = nobodys) -> ASGIApp:
    """For the socket that the front door speaks to. `own` gives each notebook's token, for what that alone opens."""
    return RequireToken(app, token, own)
