from __future__ import annotations

import pytest

from appliance.spec.models import (
    Autoscaling,
    Clone,
    Deployment,
    Integration,
    Metric,
    ModelMount,
    Probe,
    Repositories,
)
from tests.unit.spec.conftest import Load, Wrong

OLDER = """
name: gradient-ai/serge
image: ghcr.io/x/serge:latest
enabled: false
port: 8008
command: [/bin/sh, -c, "echo a\\nb"]
containerRegistry: mine
env:
  - {name: A-B, value: secret:KEY}
  - {name: C, value: ""}
models:
  - {id: mo4a5gkc13ccrl}
  - {id: digits, path: /opt/models/digits/}
repositories:
  dataset: dshxxif865nmrg4
  mountPath: /opt/repos
  repositories: [{url: https://host/repo, name: repo, ref: main, password: SECRET:git}]
resources: {instanceType: A4000, replicas: 2}
healthChecks:
  readiness: {path: healthz}
"""

NEWER = """
$schema: https://paperspace.com/config.schema.json
apiVersion: v1
name: web
image: nginx
region: ny2
basicAuthKey: secret:PASS
resources:
  machineType: C5
  replicas: 0
  ports: [8000, 9000]
  autoscaling:
    maxReplicas: 3
    metrics:
      - {metric: cpu, summary: average, value: 80}
      - {metric: requestDuration, summary: average, value: 0.15}
integrations:
  - {type: git-lfs, name: opus, url: https://huggingface.co/x/opus, path: /opt/integrations/opus}
  - {type: model, name: best, id: mo123, path: /opt/best}
  - {type: s3, name: bucket, url: "s3://bucket/x", accessKeyId: secret:A, secretAccessKey: secret:B}
healthchecks:
  startup: {exec: {command: [cat, /ready]}, failureThreshold: 30}
  readiness: {path: /, port: 8000, host: example.com, headers: [{name: X-A, value: b}]}
  liveness: {path: /live, initialDelaySeconds: 2.5, periodSeconds: 3, timeoutSeconds: 4}
"""


def test_the_older_dialect(load: Load) -> None:
    found = load(OLDER)
    assert found.name == "gradient-ai-serge"
    assert found.spec == Deployment(
        name="gradient-ai-serge",
        image="ghcr.io/x/serge:latest",
        enabled=False,
        ports=(8008,),
        command=("/bin/sh", "-c", "echo a\nb"),
        registry="mine",
        env={"A-B": "secret:KEY", "C": ""},
        models=(ModelMount(id="mo4a5gkc13ccrl"), ModelMount(id="digits", path="/opt/models/digits/")),
        machine="A4000",
        replicas=2,
        readiness=Probe(path="/healthz"),
        repositories=Repositories(
            dataset="dshxxif865nmrg4",
            path="/opt/repos",
            clones=(Clone(url="https://host/repo", name="repo", ref="main", password="SECRET:git"),),
        ),
    )
    assert [warning.path for warning in found.warnings] == ["name", "models[1]"]


def test_the_newer_dialect(load: Load) -> None:
    found = load(NEWER)
    assert found.spec == Deployment(
        name="web",
        image="nginx",
        region="ny2",
        basic_auth="secret:PASS",
        machine="C5",
        replicas=0,
        ports=(8000, 9000),
        models=(ModelMount(id="mo123", path="/opt/best"),),
        startup=Probe(command=("cat", "/ready"), failure_threshold=30),
        readiness=Probe(path="/", port=8000, host="example.com", headers={"X-A": "b"}),
        liveness=Probe(path="/live", initial_delay_s=2.5, period_s=3, timeout_s=4),
        integrations=(
            Integration(
                type="git-lfs", name="opus", url="https://huggingface.co/x/opus", path="/opt/integrations/opus"
            ),
            Integration(
                type="s3",
                name="bucket",
                url="s3://bucket/x",
                path="/opt/integrations/bucket",
                access_key="secret:A",
                secret_key="secret:B",
            ),
        ),
        autoscaling=Autoscaling(
            most=3, metrics=(Metric(kind="cpu", value=80), Metric(kind="requestDuration", value=0.15))
        ),
    )
    assert [warning.path for warning in found.warnings] == ["resources.autoscaling", "region"]


@pytest.mark.parametrize("version", ["", "apiVersion: latest\n"])
@pytest.mark.parametrize(
    ("shape", "ports", "machine"),
    [
        ("port: 81\nresources: {instanceType: C4}", (81,), "C4"),
        ("resources: {instanceType: C4}", (80,), "C4"),
        ("resources: {machineType: C5, ports: [82]}", (82,), "C5"),
    ],
)
def test_the_shape_decides_where_the_version_does_not(
    load: Load, version: str, shape: str, ports: tuple[int, ...], machine: str
) -> None:
    spec = load(f"{version}image: nginx\n{shape}\n").spec
    assert isinstance(spec, Deployment)
    assert (spec.ports, spec.machine) == (ports, machine)


@pytest.mark.parametrize("text", ["image: nginx\n", "image: nginx\nport: 80\n"])
def test_a_small_one_is_enough_where_no_version_is_claimed(load: Load, text: str) -> None:
    found = load(text, file="web.yaml")
    assert found.spec == Deployment(name="web", image="nginx")


def test_a_file_may_say_its_kind(load: Load) -> None:
    found = load("kind: deployment\nimage: nginx\n", file="web.yaml")
    assert found.spec == Deployment(name="web", image="nginx", extensions=("kind",))


def test_our_own_dialect_takes_env_as_a_map(load: Load) -> None:
    spec = load("kind: deployment\nname: a\nimage: x\nenv: {A: b}\n").spec
    assert isinstance(spec, Deployment)
    assert spec.env == {"A": "b"}


def test_the_placeholder_of_the_github_action_is_pointed_out(load: Load) -> None:
    (warning,) = load("image: ':image'\nport: 80\n").warnings
    assert "placeholder" in warning.message


MISTAKES: list[tuple[str, str, str, str]] = [
    ("image:\n", "image", "must be a string, not empty (null)", ""),
    ("image: ''\n", "image", "must not be empty", ""),
    ("port: 80\n", "image", "is required", ""),
    ("image: x\nport: '7860'\n", "port", "must be a whole number, not the text `7860`", "remove the quotes"),
    ("image: x\nport: 022\n", "port", "octal", "write 22"),
    ("image: x\nport: 70000\n", "port", "must be from 1 to 65535", ""),
    ("image: x\nport: 80.5\n", "port", "must be a whole number", ""),
    ("image: x\nenabled: no\n", "enabled", "must be true or false, not the text `no`", ""),
    ("image: x\nargs: [a]\n", "args", "unknown key", "command"),
    ("image: x\ncommand: python app.py\n", "command", "must be a list of strings", "/bin/sh"),
    ("image: x\ncomand: [a]\n", "comand", "unknown key", "did you mean `command`?"),
    ("image: x\nenv: {A: b}\n", "env", "must be a list of name and value", "- name"),
    ("image: x\nenv: [{name: A, value: 5}]\n", "env[0].value", "must be a string", '"5"'),
    ("image: x\nenv: [{name: A}]\n", "env[0].value", "is required", ""),
    ("image: x\nenv: [{name: A, value: b}, {name: A, value: c}]\n", "env[1].name", "given already", ""),
    ("image: x\nenv: [{name: 'A B', value: b}]\n", "env[0].name", "not a variable's name", ""),
    ("image: x\nmodels: {id: a}\n", "models", "must be a list of {id, path}, not a map", ""),
    ("image: x\nmodels: [{id: a, path: ../x}]\n", "models[0].path", "not an absolute path", ""),
    ("image: x\nmodels: [{id: a, path: /opt/../x}]\n", "models[0].path", "not an absolute path", ""),
    ("image: x\nmodels: [{id: a}, {id: b}]\n", "models[1]", "and so is models[0]", "another `path`"),
    ("image: x\nmodels: [{id: a/../b}]\n", "models[0].id", "neither the id nor the name", ""),
    ("image: x\nresources: {replicas: -1}\n", "resources.replicas", "must be from 0 to 64", ""),
    ("image: x\nresources: {replicas: 1000}\n", "resources.replicas", "must be from 0 to 64", ""),
    ("image: x\nresources: {limits: {}}\n", "resources.limits", "unknown key", "the machine type is the unit"),
    ("image: x\nresources: {ports: []}\n", "resources.ports", "at least one port", ""),
    ("image: x\nresources: {ports: [80, 80]}\n", "resources.ports[1]", "listed already", ""),
    ("image: x\nresources: {ports: 80}\n", "resources.ports", "must be a list of numbers", ""),
    ("image: x\napiVersion: v2\n", "apiVersion", "must be `v0alpha0`", ""),
    ("image: x\napiVersion: v1\n", "resources", "is required", ""),
    ("image: x\napiVersion: v1\nresources: {ports: [80]}\n", "resources.machineType", "is required", "C4"),
    ("image: x\napiVersion: v1\nresources: {machineType: C4}\n", "resources.ports", "is required", "8000"),
    ("image: x\napiVersion: v0alpha0\nresources: {}\n", "resources.instanceType", "is required", ""),
    ("image: x\nport: 1\nresources: {machineType: C4}\n", "port", "unknown key", "resources: {ports"),
    ("image: x\nport: 1\nbasicAuthKey: secret:A\n", "basicAuthKey", "unknown key", "apiVersion v1"),
    ("image: x\nport: 1\nhealthchecks: {}\n", "healthchecks", "unknown key", "write `healthChecks`"),
    ("image: x\nbasicAuthKey: hunter2\n", "basicAuthKey", "must be a secret", "secret:NAME"),
    ("image: x\nhealthChecks: {}\nhealthchecks: {}\n", "healthchecks", "given as `healthChecks` already", ""),
    ("image: x\nhealthChecks: {readyness: {path: /}}\n", "healthChecks.readyness", "unknown key", "`readiness`"),
    ("image: x\nhealthChecks: {readiness: {}}\n", "healthChecks.readiness.path", "is required", "exec"),
    (
        "image: x\nhealthChecks: {readiness: {path: /, exec: {command: [a]}}}\n",
        "healthChecks.readiness.path",
        "runs a command",
        "",
    ),
    (
        "image: x\nhealthChecks: {readiness: {exec: {command: []}}}\n",
        "healthChecks.readiness.exec.command",
        "is required",
        "",
    ),
    (
        "image: x\nhealthChecks: {readiness: {path: /, periodSeconds: 0}}\n",
        "healthChecks.readiness.periodSeconds",
        "from 1",
        "",
    ),
    (
        "image: x\nhealthChecks: {readiness: {path: /, headers: [{name: 'a b', value: c}]}}\n",
        "healthChecks.readiness.headers[0].name",
        "not the name of a header",
        "",
    ),
    (
        'image: x\nhealthChecks: {readiness: {path: "/\\r\\nHost: evil"}}\n',
        "healthChecks.readiness.path",
        "not the path",
        "",
    ),
    (
        "image: x\nhealthChecks: {readiness: {path: /, host: 'a b'}}\n",
        "healthChecks.readiness.host",
        "not a host name",
        "",
    ),
    ("image: x\nport: 1\nintegrations: []\n", "integrations", "unknown key", "apiVersion v1"),
    ("name: ../x\nimage: x\n", "name", "reads like a path", "letters"),
    ("name: 5\nimage: x\n", "name", "must be a string, not the number `5`", ""),
]


@pytest.mark.parametrize(("text", "path", "words", "hint"), MISTAKES)
def test_mistakes(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    (found,) = wrong(text)
    assert (found.path, words in found.message, hint in found.hint) == (path, True, True), found
    assert found.line
