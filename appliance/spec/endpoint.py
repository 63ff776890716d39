"""Ours: `endpoint`, what the front door asks of a request, and `rollout`, how one revision takes over from another."""

from __future__ import annotations

import re
from typing import Literal, cast

from appliance.spec.fields import Fields, describe, read_text
from appliance.spec.models import Endpoint, Rollout
from appliance.spec.problems import quoted
from appliance.spec.refs import check_secret
from appliance.spec.scaling import MOST_HOLD_S, seconds

Strategy = Literal["auto", "surge", "swap"]

MOST_KEYS = 16
MOST_REQUESTS = 10_000_000
MOST_WINDOW_S = 3600
MOST_S = 86_400.0
LEAST_BODY, MOST_BODY = 1 << 10, 1 << 40

_RATE = re.compile(r"([0-9]{1,8})/(?=.)([0-9]{0,5})([smh])?", re.ASCII)
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}
_RATE_HINT = 'such as "100/10s": one client has at most 100 requests in 10 seconds'
_ENDPOINT_HINTS = {
    "key": "write `keys: [secret:NAME]`",
    "apiKeys": "write `keys: [secret:NAME]`",
    "apiKey": "write `keys: [secret:NAME]`",
    "rateLimit": f"write `rate`, {_RATE_HINT}",
    "maxBodySize": "write `maxBody`, such as 64Mi",
    "bodyLimit": "write `maxBody`, such as 64Mi",
    "hold": "write `rollout: {hold: ...}` or `resources: {scaleToZero: {hold: ...}}`",
}
_ROLLOUT_HINTS = {
    "type": "write `strategy`",
    "maxSurge": "all new replicas start beside the old ones, or with `strategy: swap` in their place",
    "maxUnavailable": "all old replicas serve until all new ones do, or with `strategy: swap` requests wait",
    "deadline": "it is the setting `deploy_deadline_s`",
    "rollback": "write `onFailure: back` or `onFailure: keep`",
}


def read_rollout(top: Fields) -> Rollout:
    top.extension("rollout", "remove it: Gradient always starts the new replicas beside the old ones")
    fields = top.map("rollout", hint="such as {strategy: swap, hold: 60}")
    if fields is None:
        return Rollout()
    strategy = fields.choice("strategy", ("auto", "surge", "swap"), default="auto")
    on_failure = fields.choice("onFailure", ("back", "keep"), default="back")
    rollout = Rollout(
        strategy=cast(Strategy, strategy if strategy in ("surge", "swap") else "auto"),
        hold_s=seconds(fields, "hold", least=1, most=MOST_HOLD_S),
        drain_s=seconds(fields, "drain", least=0, most=MOST_S),
        on_failure="keep" if on_failure == "keep" else "back",
    )
    if strategy == "surge" and "hold" in fields:
        fields.warn("hold", "does nothing with `strategy: surge`: no request waits")
    fields.close(_ROLLOUT_HINTS)
    return rollout


def read_endpoint(top: Fields) -> Endpoint:
    top.extension("endpoint", "remove it: Gradient knows `basicAuthKey` only")
    fields = top.map("endpoint", hint='such as {keys: [secret:NAME], rate: "100/10s", maxBody: 64Mi, timeout: 600}')
    if fields is None:
        return Endpoint()
    requests, window_s = _rate(fields)
    endpoint = Endpoint(
        keys=_keys(fields),
        requests=requests,
        window_s=window_s,
        body=fields.size("maxBody", least=LEAST_BODY, most=MOST_BODY) or 0,
        timeout_s=seconds(fields, "timeout", least=1, most=MOST_S),
    )
    if endpoint.keys and "basicAuthKey" in top:
        fields.error("keys", "asks for a key, and `basicAuthKey` for a password: a request has one of them", "keep one")
    fields.close(_ENDPOINT_HINTS)
    return endpoint


def _keys(fields: Fields) -> tuple[str, ...]:
    items = fields.items("keys", what="a list of secrets", hint="such as [secret:NAME]")
    found: dict[str, None] = {}
    for path, node in items:
        key = read_text(node, path, fields.problems)
        check_secret(key, node.mark, path, fields.problems, required=True)
        if key and key in found:
            fields.problems.error(node.mark, path, f"{quoted(key)} is listed already")
        found[key] = None
    given = fields.node("keys")
    if given and given.value == []:
        fields.error("keys", "is empty, so that nobody could call", "remove it: then nobody is asked for a key")
    elif len(items) > MOST_KEYS:
        fields.error("keys", f"must have at most {MOST_KEYS} items, not {len(items)}")
    return tuple(found)


def _rate(fields: Fields) -> tuple[int, float]:
    """Requests and the seconds they are counted in."""
    none = (Endpoint().requests, Endpoint().window_s)
    node = fields.node("rate")
    if node is None:
        return none
    found = _RATE.fullmatch(node.value) if isinstance(node.value, str) else None
    if found is None:
        fields.error("rate", f"must be a rate, not {describe(node)}", _RATE_HINT)
        return none
    requests, window_s = int(found[1]), int(found[2] or 1) * _UNITS_S[found[3] or ""]
    if not 1 <= requests <= MOST_REQUESTS:
        fields.error("rate", f"must be from 1 to {MOST_REQUESTS} requests, not {requests}", _RATE_HINT)
        return none
    if not 1 <= window_s <= MOST_WINDOW_S:
        fields.error("rate", f"must be in 1 s to {MOST_WINDOW_S} s, not {window_s} s", _RATE_HINT)
        return none
    return requests, float(window_s)
