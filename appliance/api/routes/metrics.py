"""What was measured: series of points as a listing, or with `follow=1` as a stream; and which metrics there are."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from appliance.api import metrics, requests
from appliance.api.parts import Parts
from appliance.api.stream import event_stream
from appliance.errors import UsageError
from appliance.telemetry.metrics.types import MetricQuery

LIMIT = 10_000
MOST_POINTS = 100_000
"""Points of one series in one answer."""


def routes(parts: Parts) -> list[Route]:
    async def series(request: Request) -> Response:
        """Points of each series that matches: the newest `limit` between `since` and `until` (unix seconds).

        `every` (seconds) makes means of buckets so wide. With `follow` the new points come as they are stored.
        """
        query = _query(request)
        if not requests.flag(request, "follow"):
            found = await parts.telemetry.metrics(metrics.one_more(query))
            return StreamingResponse(metrics.answer(found, query.limit), media_type="application/json")
        for name, given in (("until", query.until), ("every", query.every_s)):
            if given:
                raise UsageError(
                    f"{name} does not go with follow", where=request.url.path, hint="leave one of them out"
                )
        return event_stream(metrics.follow(parts.telemetry.metrics, query, parts.clock), parts.stopping)

    async def names(request: Request) -> Response:
        """Which metrics there are, and whose."""
        found = await parts.telemetry.metric_names(_query(request))
        return JSONResponse({"items": [metrics.name(subject, metric) for subject, metric in found]})

    return [
        Route("/v1/metrics", series, methods=["GET"]),
        Route("/v1/metrics/names", names, methods=["GET"]),
    ]


def _query(request: Request) -> MetricQuery:
    query = MetricQuery(
        kind=request.query_params.get("kind", ""),
        name=request.query_params.get("name", ""),
        part=request.query_params.get("part", ""),
        metric=request.query_params.get("metric", ""),
        since=requests.number(request, "since", 0.0),
        until=requests.number(request, "until", 0.0),
        every_s=requests.number(request, "every", 0.0),
        limit=requests.count(request, "limit", LIMIT, most=MOST_POINTS),
    )
    if query.until and query.until <= query.since:
        raise UsageError("until must be later than since", where=request.url.path)
    return query
