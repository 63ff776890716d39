"""What is ours: `rollout`, `endpoint`, `tcpSocket`; and that each is told as an extension."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.spec.load import examine_text, load_text
from appliance.spec.models import Deployment, Endpoint, Probe, Rollout
from tests.unit.spec.conftest import Load, Wrong
from tests.unit.spec.test_validate import validate

OURS = """
image: x
rollout: {strategy: swap, hold: 60, drain: 2m, onFailure: keep}
endpoint: {keys: [secret:A, "SECRET:B"], rate: "100/10s", maxBody: 64Mi, timeout: 600}
resources: {scaleToZero: {after: 900, hold: 120}}
healthChecks:
  readiness: {tcpSocket: {port: 8000}, periodSeconds: 2}
  liveness: {tcpSocket: {}}
integrations:
  - {type: dataset, name: words, ref: words:3}
  - {type: volume, name: scratch, path: /scratch}
"""


def deployment(load: Load, text: str) -> Deployment:
    spec = load(text).spec
    assert isinstance(spec, Deployment)
    return spec


def test_what_is_ours(load: Load) -> None:
    spec = deployment(load, OURS)
    assert spec.rollout == Rollout(strategy="swap", hold_s=60, drain_s=120, on_failure="keep")
    assert spec.endpoint == Endpoint(
        keys=("secret:A", "SECRET:B"), requests=100, window_s=10, body=64 << 20, timeout_s=600
    )
    assert spec.readiness == Probe(tcp=True, port=8000, period_s=2)
    assert spec.liveness == Probe(tcp=True)


def test_each_is_told_as_an_extension(load: Load) -> None:
    assert deployment(load, OURS).extensions == (
        "endpoint",
        "healthChecks.liveness.tcpSocket",
        "healthChecks.readiness.tcpSocket",
        "integrations[0].type",
        "integrations[1].path",
        "resources.scaleToZero",
        "rollout",
    )
    (found,) = examine_text(OURS, file="a.yaml")
    assert all(extension.hint and extension.line for extension in found.extensions), found.extensions


def test_gradients_own_fields_are_no_extensions(load: Load) -> None:
    text = "image: x\nbasicAuthKey: secret:A\nresources: {machineType: C4, ports: [80]}\n"
    assert deployment(load, text).extensions == ()


def test_strict_refuses_each(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(OURS)
    assert validate(file)[0] == 0
    code, out, _ = validate(file, as_json=True, strict=True)
    (told,) = json.loads(out)
    assert code == 1
    assert {problem["path"] for problem in told["problems"]} == set(told["extensions"])
    assert {"rollout", "endpoint", "resources.scaleToZero"} <= set(told["extensions"])


@pytest.mark.parametrize("text", ["rollout: {}", "endpoint: {}"])
def test_empty_means_the_defaults(load: Load, text: str) -> None:
    spec = deployment(load, f"image: x\n{text}\n")
    assert (spec.rollout, spec.endpoint) == (Rollout(), Endpoint())


@pytest.mark.parametrize(
    ("text", "path", "words", "hint"),
    [
        ("rollout: swap", "rollout", "must be a map", "{strategy: swap"),
        ("rollout: {strategy: blue}", "rollout.strategy", "must be `auto`, `surge` or `swap`", ""),
        ("rollout: {strategy: no}", "rollout.strategy", "can be read as a boolean", ""),
        ("rollout: {onFailure: bak}", "rollout.onFailure", "must be `back` or `keep`", "did you mean `back`?"),
        ("rollout: {hold: 0}", "rollout.hold", "must be from 1s to 1h", ""),
        ("rollout: {hold: true}", "rollout.hold", "must be a time", "10m"),
        ("rollout: {drain: 2d}", "rollout.drain", "to 1d", ""),
        ("rollout: {maxSurge: 1}", "rollout.maxSurge", "unknown key", "strategy: swap"),
        ("rollout: {drian: 5}", "rollout.drian", "unknown key", "did you mean `drain`?"),
        ("rolout: {drain: 5}", "rolout", "unknown key", "did you mean `rollout`?"),
        ("endpoint: {keys: secret:A}", "endpoint.keys", "must be a list of secrets", "[secret:NAME]"),
        ("endpoint: {keys: [hunter2]}", "endpoint.keys[0]", "must be a secret", "secret set"),
        ("endpoint: {keys: []}", "endpoint.keys", "nobody could call", "remove it"),
        ("endpoint: {keys: [secret:A, secret:A]}", "endpoint.keys[1]", "listed already", ""),
        ("endpoint: {keys: [secret:A b]}", "endpoint.keys[0]", "names no secret", ""),
        ("endpoint: {rate: 100}", "endpoint.rate", "must be a rate, not the number `100`", '"100/10s"'),
        ("endpoint: {rate: '100/'}", "endpoint.rate", "must be a rate", '"100/10s"'),
        ("endpoint: {rate: 100/d}", "endpoint.rate", "must be a rate", '"100/10s"'),
        ("endpoint: {rate: 0/10s}", "endpoint.rate", "from 1 to", ""),
        ("endpoint: {rate: 1/2h}", "endpoint.rate", "3600 s", ""),
        ("endpoint: {maxBody: 64}", "endpoint.maxBody", "must be a size, not the number `64`", "512M"),
        ("endpoint: {maxBody: 64MB}", "endpoint.maxBody", "must be a size", "512M"),
        ("endpoint: {timeout: 0}", "endpoint.timeout", "must be from 1s", ""),
        ("endpoint: {key: secret:A}", "endpoint.key", "unknown key", "keys: [secret:NAME]"),
        ("endpoint: {keys: [secret:A]}\nbasicAuthKey: secret:B", "endpoint.keys", "`basicAuthKey`", "keep one"),
        ("healthChecks: {readiness: {tcpSocket: 80}}", "healthChecks.readiness.tcpSocket", "must be a map", "port"),
        (
            "healthChecks: {readiness: {tcpSocket: {port: 0}}}",
            "healthChecks.readiness.tcpSocket.port",
            "from 1 to 65535",
            "",
        ),
        (
            "healthChecks: {readiness: {tcpSocket: {host: a}}}",
            "healthChecks.readiness.tcpSocket.host",
            "unknown key",
            "the replica",
        ),
        (
            "healthChecks: {readiness: {tcpSocket: {port: 80}, path: /}}",
            "healthChecks.readiness.path",
            "opens a connection",
            "",
        ),
        (
            "healthChecks: {readiness: {tcpSocket: {port: 80}, exec: {command: [a]}}}",
            "healthChecks.readiness.tcpSocket",
            "keep",
            "",
        ),
        ("healthChecks: {readiness: {tcp: {port: 80}}}", "healthChecks.readiness.tcp", "unknown key", "tcpSocket"),
    ],
)
def test_mistakes(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    found = next(problem for problem in wrong(f"image: x\n{text}\n") if problem.path == path)
    assert (words in f"{found.message} {found.hint}", hint in found.hint) == (True, True), found
    assert found.line


UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


@given(st.integers(1, 9999), st.integers(1, 3600), st.sampled_from(sorted(UNITS)))
def test_a_rate_is_requests_in_a_time(requests: int, count: int, unit: str) -> None:
    text = f'image: x\nendpoint: {{rate: "{requests}/{count}{unit}"}}\n'
    (found,) = examine_text(text, file="a.yaml")
    seconds = count * UNITS[unit]
    assert bool(found.problems) == (seconds > 3600)
    if found.loaded:
        assert isinstance(found.loaded.spec, Deployment)
        assert (found.loaded.spec.endpoint.requests, found.loaded.spec.endpoint.window_s) == (requests, seconds)


@given(st.text(max_size=12))
def test_any_text_is_a_rate_or_a_mistake_with_a_place(text: str) -> None:
    (found,) = examine_text(json.dumps({"image": "x", "endpoint": {"rate": text}}), file="a.json")
    assert found.loaded or {problem.path for problem in found.problems} == {"endpoint.rate"}


def test_one_wrong_thing_hides_no_other(wrong: Wrong) -> None:
    paths = {problem.path for problem in wrong("rollout: {hold: x}\nendpoint: {rate: x}\nresources: {replicas: x}\n")}
    assert {"image", "rollout.hold", "endpoint.rate", "resources.replicas"} <= paths


def test_seconds_may_be_written_with_a_unit(load: Load) -> None:
    plain, unit = (
        load_text(f"image: x\nrollout: {{drain: {text}}}\n", file="a.yaml")[0].spec for text in ("90", "90s")
    )
    assert isinstance(plain, Deployment)
    assert isinstance(unit, Deployment)
    assert plain.rollout == unit.rollout == Rollout(drain_s=90)
