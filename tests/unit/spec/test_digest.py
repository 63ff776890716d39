"""The digest asks for other replicas exactly when what they are made of differs."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.spec.digest import made_of
from appliance.spec.load import parse
from appliance.spec.models import Deployment

BASE: dict[str, Any] = {
    "image": "x",
    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    "resources": {"machineType": "C4", "ports": [80]},
}
APART: list[dict[str, Any]] = [
    {"enabled": False},
    {"region": "ny2"},
    {"containerRegistry": "mine"},
    {"basicAuthKey": "secret:A"},
    {"endpoint": {"maxBody": "5M", "rate": "5/s"}},
    {"rollout": {"strategy": "swap", "hold": 5}},
    {"resources": {"replicas": 5}},
    {"resources": {"scaleToZero": {"after": 5}}},
    {
        "resources": {
            "autoscaling": {"maxReplicas": 4, "metrics": [{"metric": "cpu", "summary": "average", "value": 5}]}
        }
    },
]
PARTS: list[dict[str, Any]] = [
    {"image": "y"},
    {"command": ["a"]},
    {"env": [{"name": "A", "value": "1"}]},
    {"models": [{"id": "m"}]},
    {"integrations": [{"type": "git-lfs", "name": "a", "url": "https://host/a"}]},
    {"repositories": {"dataset": "d", "repositories": [{"url": "https://host/a", "name": "a"}]}},
    {"healthChecks": {"readiness": {"path": "/"}}},
    {"healthChecks": {"readiness": {"tcpSocket": {}}}},
    {"resources": {"ports": [81]}},
    {"resources": {"machineType": "A4000"}},
]


def digest(*changes: dict[str, Any]) -> str:
    document = copy.deepcopy(BASE)
    for change in changes:
        resources = document["resources"] | change.get("resources", {})
        document |= change | {"resources": resources}
    spec = parse("deployment", "web", document)
    assert isinstance(spec, Deployment)
    return made_of(spec)


@given(st.lists(st.sampled_from(APART), unique_by=str), st.lists(st.sampled_from(PARTS), unique_by=str))
def test_what_is_apart_changes_nothing(apart: list[dict[str, Any]], parts: list[dict[str, Any]]) -> None:
    assert digest(*parts, *apart) == digest(*parts)


@pytest.mark.parametrize("part", PARTS, ids=json.dumps)
def test_what_a_replica_is_made_of_changes_it(part: dict[str, Any]) -> None:
    assert digest(part) != digest()


def test_the_order_of_variables_does_not_count() -> None:
    assert digest({"env": list(reversed(BASE["env"]))}) == digest()
