"""Metrics that a program sends with the token, for a resource that it names."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests
from appliance.api.parts import Parts
from appliance.api.routes import runs
from appliance.errors import TooLarge, UsageError
from appliance.state import resources
from appliance.telemetry.metrics.numbering import AHEAD_S, MOST_LABELS, MOST_TEXT
from appliance.telemetry.metrics.types import Sample, Subject
from appliance.telemetry.push.exposition import MOST_MEASURES, is_label
from appliance.telemetry.push.samples import MOST_STEP

PATH = "/v1/metrics"
KINDS = ("notebook", "run", "deployment")


def routes(parts: Parts) -> list[Route]:
    async def push(request: Request) -> Response:
        asked = await requests.body(request, wire.MetricsPush)
        given, now = asked["samples"], parts.clock()
        if len(given) > MOST_MEASURES:
            raise TooLarge(f"more than {MOST_MEASURES} samples in one push", where=PATH, hint="push them in parts")
        subject = _subject(parts, asked["for"])
        await parts.telemetry.record([_sample(subject, one, number, now) for number, one in enumerate(given)])
        return JSONResponse(wire.PushedMetrics(kind=subject.kind, name=subject.name, samples=len(given)))

    return [Route(PATH, push, methods=["POST"])]


def _subject(parts: Parts, owner: wire.MetricOwner) -> Subject:
    """Raises NotFound: a name that is mistyped is nobody's."""
    kind, name, part = owner["kind"], owner["name"], owner.get("part", "")
    if kind not in KINDS:
        raise UsageError(f"for.kind must be one of {', '.join(KINDS)}, not {kind[:80]!r}", where=PATH, hint="see /docs")
    if len(part) > MOST_TEXT or not (part.isprintable()):
        raise UsageError("for.part is too long, or cannot be printed", where=PATH, hint="such as the name of a job")
    if kind == "run":
        row = runs.find(parts, name)
        return Subject(kind, f"{row.workflow}.{row.number}", part, "")
    return Subject(kind, resources.get(parts.db.read, kind, name).name, part, "")


def _sample(subject: Subject, given: wire.PushedSample, number: int, now: float) -> Sample:
    """Raises UsageError that names the sample: nothing of a push is left out in silence."""
    metric, value, labels = given["metric"], given["value"], given.get("labels", {})
    at, step = given.get("at", now), given.get("step")
    wrong = ""
    if not metric or len(metric) > MOST_TEXT or not metric.isprintable():
        wrong = f"metric must be a name of at most {MOST_TEXT} characters"
    elif not math.isfinite(value):
        wrong = "value must be a finite number"
    elif step is not None and not 0 <= step <= MOST_STEP:
        wrong = "step must be a whole number from 0 up"
    elif not 0 <= at <= now + AHEAD_S:
        wrong = "at must be a unix time, in seconds, that is not to come"
    elif len(labels) > MOST_LABELS or not all(is_label(key) and len(text) <= MOST_TEXT for key, text in labels.items()):
        wrong = f"labels are at most {MOST_LABELS}, of letters, digits and _, each text at most {MOST_TEXT} long"
    if wrong:
        raise UsageError(f"samples.{number}.{wrong}", where=PATH, hint="see /docs; nothing of this push was stored")
    kept = tuple(sorted((key, text) for key, text in labels.items() if text))
    return Sample(subject, metric, float(value), at, step=step, labels=kept)
