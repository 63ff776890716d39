"""How many replicas: autoscaling, with Gradient's fields, and `scaleToZero`, which is ours."""

from __future__ import annotations

from typing import Literal, cast

from appliance.spec.fields import Fields
from appliance.spec.models import Autoscaling, Metric, Sleep
from appliance.spec.problems import Problems
from appliance.spec.tree import Node

Kind = Literal["cpu", "memory", "requestDuration"]
MOST_REPLICAS = 64
METRICS = ("cpu", "memory", "requestDuration")
LEAST_VALUE = 0.01
MOST_HOLD_S = 3600.0
"""Longer than that nobody waits for an answer."""
LEAST_AFTER_S, MOST_AFTER_S = 1.0, 30 * 86_400.0

_METRIC = "such as {metric: cpu, summary: average, value: 80}"
_HINTS = {
    "minReplicas": "the least is `resources.replicas`",
    "max": "write `maxReplicas`",
    "targetCPUUtilizationPercentage": f"write `metrics`, {_METRIC}",
}
_METRIC_HINTS = {
    "name": "write `metric`",
    "type": "write `metric`",
    "target": "write `value`",
    "averageUtilization": "write `summary: average` and `value`",
}
_SLEEP_HINTS = {"idle": "write `after`", "timeout": "write `hold`", "wait": "write `hold`"}


def read_autoscaling(resources: Fields, replicas: int) -> Autoscaling | None:
    """None: there is none, or it is switched off. `replicas` is the least."""
    fields = resources.map("autoscaling", hint=f"such as {{maxReplicas: 3, metrics: [{_METRIC[8:]}]}}")
    if fields is None:
        return None
    enabled = fields.flag("enabled", default=True)
    most = fields.whole("maxReplicas", least=1, most=MOST_REPLICAS)
    metrics = tuple(_metric(node, path, fields.problems) for path, node in _metrics(fields, enabled=enabled))
    if "maxReplicas" in fields:
        _check_most(fields, most, replicas)
    elif enabled:
        fields.missing("maxReplicas", "the most replicas that there may be")
    else:
        fields.warn("enabled", "is off without `maxReplicas`, which Gradient asks for all the same")
    fields.close(_HINTS)
    if not enabled:
        return None
    if not replicas and "replicas" in resources:
        fields.problems.warn(fields.mark, fields.path, "does nothing: with `replicas: 0` nothing runs")
    return Autoscaling(most=max(most, replicas, 1), metrics=metrics)


def _metrics(fields: Fields, *, enabled: bool) -> list[tuple[str, Node]]:
    items = fields.items("metrics", required=enabled, hint=_METRIC)
    if enabled and (given := fields.node("metrics")) and given.value == []:
        fields.error("metrics", "must have at least one metric", _METRIC)
    return items


def _check_most(fields: Fields, most: int, replicas: int) -> None:
    """A warning only: what is stored and was let in once has to be read."""
    if 0 < most < replicas:
        fields.warn("maxReplicas", f"is less than `resources.replicas`, which counts: {replicas}", "write more")


def _metric(node: Node, path: str, problems: Problems) -> Metric:
    fields = Fields(node, path, problems, hint=_METRIC)
    kind = fields.choice("metric", METRICS, required=True)
    fields.choice("summary", ("average",), required=True)
    value = fields.number("value", least=LEAST_VALUE) if fields.node("value", required=True) else 0.0
    if kind in ("cpu", "memory") and 0 < value <= 1:
        fields.warn("value", f"is in percent, and {value:g} % is always exceeded", f"write {value * 100:g}")
    elif kind in ("cpu", "memory") and value > 100:
        fields.warn("value", "is in percent of what a replica may use, and never reached", "from 1 to 100")
    fields.close(_METRIC_HINTS)
    return Metric(kind=cast(Kind, kind if kind in METRICS else METRICS[0]), value=value)


def read_sleep(resources: Fields, replicas: int) -> Sleep | None:
    """None: it never sleeps."""
    resources.extension("scaleToZero", "remove it: in Gradient no request wakes a deployment")
    fields = resources.map("scaleToZero", hint="such as {after: 15m}, or {} for the defaults")
    if fields is None:
        return None
    sleep = Sleep(
        after_s=fields.seconds("after", default=Sleep().after_s, least=LEAST_AFTER_S, most=MOST_AFTER_S),
        hold_s=seconds(fields, "hold", least=1, most=MOST_HOLD_S),
    )
    fields.close(_SLEEP_HINTS)
    if not replicas and "replicas" in resources:
        fields.problems.warn(
            fields.mark, fields.path, "does nothing: with `replicas: 0` nothing runs, and nothing wakes"
        )
    return sleep


def seconds(fields: Fields, key: str, *, least: float, most: float) -> float | None:
    """None: it is not given, or no time, which is noted."""
    found = fields.seconds(key, default=-1.0, least=least, most=most)
    return None if found < 0 else found
