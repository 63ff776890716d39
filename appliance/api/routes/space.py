"""Where the space is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests
from appliance.api.parts import Parts
from appliance.history.measuring import Answer, Report
from appliance.history.space import Holder, Owner
from appliance.storage.room import Place

MOST_WAIT_S = 5.0
"""An answer that is waited for holds up the end of the daemon."""


def routes(parts: Parts) -> list[Route]:
    async def space(request: Request) -> Response:
        """What holds the space. Counting goes on behind it: `wait` seconds for it, `fresh=1` begins it anew."""
        wait_s = min(MOST_WAIT_S, requests.number(request, "wait", 0.0))
        answer = await parts.space.ask(fresh=requests.flag(request, "fresh"), wait_s=wait_s)
        return JSONResponse(show(answer))

    return [Route("/v1/space", space, methods=["GET"])]


def show(answer: Answer) -> wire.Space:
    outlook, pace, progress = answer.outlook, answer.growth, answer.progress
    report = answer.report or Report(0.0, 0.0, (), (), ())
    return wire.Space(
        places=[_place(place, low=place in outlook.low) for place in outlook.places],
        reserved=outlook.reserved,
        reserve=outlook.reserve,
        low_mark=answer.low,
        waiting=answer.why,
        growth=wire.SpaceGrowth(
            per_day=pace.per_day,
            days=pace.days,
            why=pace.why,
            low_in_days=answer.forecast.low_in_days,
            full_in_days=answer.forecast.full_in_days,
        ),
        owners=[_owner(owner) for owner in report.owners],
        holders=[_holder(holder) for holder in report.holders],
        problems=list(report.problems),
        measured=report.measured if answer.report else None,
        took_s=report.took_s,
        measuring=wire.SpaceProgress(done=progress.done, total=progress.total) if progress else None,
    )


def _place(place: Place, *, low: bool) -> wire.DiskPlace:
    return wire.DiskPlace(name=place.name, where=place.where, total=place.total, free=place.free, low=low)


def _owner(owner: Owner) -> wire.SpaceOwner:
    return wire.SpaceOwner(
        kind=owner.kind,
        name=owner.name,
        live=owner.live,
        history=owner.history,
        unique=owner.unique,
        disk=owner.disk,
    )


def _holder(holder: Holder) -> wire.SpaceHolder:
    return wire.SpaceHolder(
        kind=holder.kind,
        name=holder.name,
        snapshots=list(holder.snapshots),
        bytes=holder.bytes,
        exact=holder.exact,
        created=holder.created,
        cause=holder.cause,
        message=holder.message,
        held=holder.held,
    )
