"""Series of metrics as documents of the wire, and the new points of those that somebody follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import orjson

from appliance import wire
from appliance.telemetry.metrics.query import MOST_POINTS
from appliance.telemetry.metrics.types import Labels, MetricQuery, Point, Series, Subject

Ask = Callable[[MetricQuery], Awaitable[list[Series]]]

FOLLOW_POLL_S = 1.0
"""As often as anything is sampled; a look costs some milliseconds, and only while somebody follows."""
LATE_S = 15.0
"""A point is stored so long after its time at most, where nobody pushes points of the past."""
FOLLOW_POINTS = 10_000


def one_more(query: MetricQuery) -> MetricQuery:
    """The question whose answer also tells whether there is more than was asked for."""
    return replace(query, limit=query.limit + 1) if query.limit else query


def answer(found: list[Series], limit: int) -> Iterator[bytes]:
    """The JSON of a listing, of an answer to `one_more`, series by series, each let go once it is told.

    For a thread: a million points take seconds, and in one piece nothing else would run meanwhile.
    """
    stored = MOST_POINTS // max(1, len(found))  # what the store itself cuts each series to, at least
    found.reverse()
    yield b'{"items":['
    first = True
    while found:
        yield (b"" if first else b",") + orjson.dumps(document(found.pop(), limit, stored))
        first = False
    yield b"]}"


def document(series: Series, limit: int, stored: float = inf) -> wire.MetricSeries:
    """With the newest `limit` points. A series that has `stored` of them may have had more."""
    newest = series.points[max(0, len(series.points) - limit) :]
    return wire.MetricSeries(
        **name(series.subject, series.metric),
        labels=dict(series.labels),
        points=[_point(point) for point in newest],
        cut=len(newest) < len(series.points) or len(series.points) >= stored,
    )


def name(subject: Subject, metric: str) -> wire.MetricName:
    return wire.MetricName(
        kind=subject.kind, name=subject.name, part=subject.part, container=subject.container, metric=metric
    )


async def follow(ask: Ask, query: MetricQuery, clock: Callable[[], float]) -> AsyncIterator[list[Mapping[str, Any]]]:
    """What the query matches, then each second the series that have new points, with those only. Without end.

    A point that is stored `LATE_S` after its time is not new: it is in the listing only.
    """
    looked = clock()
    seen = Seen()
    seen.fresh(await ask(_since(query, looked - LATE_S)))
    if query.limit and (found := await ask(one_more(query))):
        seen.fresh(found)
        yield [document(series, query.limit) for series in found]
    while True:
        await asyncio.sleep(FOLLOW_POLL_S)
        since, looked = looked - LATE_S, clock()
        if news := seen.fresh(await ask(_since(query, since))):
            yield [document(series, FOLLOW_POINTS) for series in news]
        seen.forget(before=since)


@dataclass(slots=True)
class Seen:
    """Which points have been told. Pure: two points of one series that are alike in all are one."""

    points: dict[tuple[Subject, str, Labels], set[Point]] = field(default_factory=dict)

    def fresh(self, found: Iterable[Series]) -> list[Series]:
        """Those with points that have not been told, with these only; they are told now."""
        news = []
        for series in found:
            told = self.points.setdefault((series.subject, series.metric, series.labels), set())
            if points := tuple(point for point in series.points if point not in told):
                told.update(points)
                news.append(replace(series, points=points))
        return news

    def forget(self, *, before: float) -> None:
        """Points of a time that is not asked for again."""
        for key, told in list(self.points.items()):
            if kept := {point for point in told if point.at >= before}:
                self.points[key] = kept
            else:
                del self.points[key]


def _since(query: MetricQuery, since: float) -> MetricQuery:
    return replace(query, since=max(query.since, since, 0.0), limit=FOLLOW_POINTS)


def _point(point: Point) -> wire.MetricPoint:
    found = wire.MetricPoint(at=point.at, value=point.value)
    if point.step is not None:
        found["step"] = point.step
    if point.least is not None:
        found["least"] = point.least
    if point.most is not None:
        found["most"] = point.most
    return found
