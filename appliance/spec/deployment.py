"""A deployment: Gradient's older and newer dialect, told apart by shape, into the one model.

What is valid in Gradient and not acted on by this version is checked, kept and named in `unsupported`.
"""

from __future__ import annotations

from typing import Literal

from appliance.spec.env import read_env, read_env_list
from appliance.spec.fields import Fields, read_number
from appliance.spec.models import Deployment
from appliance.spec.probes import read_probes
from appliance.spec.problems import Problems, quoted
from appliance.spec.refs import check_expression, check_image
from appliance.spec.sources import (
    Unsupported,
    check_mounts,
    read_integrations,
    read_models,
    read_repositories,
    read_secret,
)
from appliance.spec.tree import Node

Dialect = Literal["older", "newer"]
VERSIONS = ("v0alpha0", "v0alpha1", "v1", "latest")
PLACEHOLDER = ":image"
"""Gradient's GitHub action puts the image it was given here."""
MOST_REPLICAS = 64
METRICS = ("cpu", "memory", "requestDuration")
DEFAULT_PORT = 80

_HINTS = {
    "args": "write the whole command under `command`",
    "entrypoint": "write the whole command under `command`",
    "replicas": "write `resources: {replicas: ...}`",
    "machineType": "write `resources: {machineType: ...}`",
    "instanceType": "write `resources: {instanceType: ...}`",
    "autoscaling": "write it under `resources`",
    "version": "write `apiVersion`",
}
_OLDER_HINTS = {
    "ports": "with `resources.instanceType` it is `port`",
    "integrations": "belongs to apiVersion v1, with `resources.machineType` and `resources.ports`",
    "basicAuthKey": "belongs to apiVersion v1, with `resources.machineType` and `resources.ports`",
    "healthchecks": "write `healthChecks`",
}
_NEWER_HINTS = {"port": "with `resources.machineType` it is `resources: {ports: [...]}`"}
_RESOURCE_HINTS = {
    "requests": "the machine type is the unit",
    "limits": "the machine type is the unit",
    "instance-type": "write `machineType`",
    "cpu": "the machine type is the unit",
    "memory": "the machine type is the unit",
}
_OLDER_RESOURCES = {"machineType": "in this dialect it is `instanceType`", "ports": "in this dialect it is `port`"}
_NEWER_RESOURCES = {"instanceType": "in this dialect it is `machineType`", "port": "in this dialect it is `ports`"}


def read_deployment(name: str, root: Node, problems: Problems, path: str = "") -> Deployment | None:
    """None: there are problems. `path` is where the deployment stands in the document, empty for the whole."""
    top = Fields(root, path, problems)
    ours = "kind" in top
    top.extension("kind", "remove it; `apiVersion` and the shape tell a deployment")
    for key in ("kind", "name", "$schema"):
        top.node(key)
    version = top.choice("apiVersion", VERSIONS)
    resources = top.map("resources", required=bool(version))
    dialect = dialect_of(top, resources, version)
    older = dialect == "older"
    if resources is None:
        top.node("port")  # known, because it would make this the older dialect
    unsupported: Unsupported = {}
    image = _image(top)
    enabled = top.flag("enabled", default=True)
    command = top.texts("command", hint='such as [/bin/sh, -c, "..."]')
    if ours and (written := top.node("env")) and isinstance(written.value, dict):
        top.extension("env", "write a list: `- name: NAME` and `value: text`")
    env = read_env(top) if ours else read_env_list(top)
    region, registry = top.text("region", empty=True), top.text("containerRegistry")
    basic_auth = "" if older else read_secret(top, "basicAuthKey")
    ports = _one_port(top) if older else _ports(resources, required=bool(version))
    machine, replicas = _resources(resources, dialect, unsupported, machine_required=bool(version))
    models = [*read_models(top), *(() if older else read_integrations(top, unsupported))]
    check_mounts(models, top)
    read_repositories(top, unsupported)
    probes = read_probes(top, ("healthChecks",) if older else ("healthChecks", "healthchecks"))
    top.close(_HINTS | (_OLDER_HINTS if older else _NEWER_HINTS))
    if region:
        top.warn("region", "is kept and ignored: there is one machine")
    for path, mark in unsupported.items():
        problems.warn(mark, path, "is kept, but this version does not act on it yet")
    if problems.errors:
        return None
    return Deployment(
        name=name,
        image=image,
        enabled=enabled,
        command=command or None,
        env=env,
        ports=ports,
        replicas=replicas,
        machine=machine,
        region=region,
        registry=registry,
        basic_auth=basic_auth,
        startup=probes.get("startup"),
        readiness=probes.get("readiness"),
        liveness=probes.get("liveness"),
        models=tuple(mount for mount, _ in models),
        unsupported=tuple(unsupported),
    )


def dialect_of(top: Fields, resources: Fields | None, version: str) -> Dialect:
    """By the version, where it says so; `latest` has meant both, so there the shape decides."""
    if version == "v0alpha0":
        return "older"
    if version in ("v0alpha1", "v1"):
        return "newer"
    if resources and ("machineType" in resources or "ports" in resources):
        return "newer"
    return "older" if "port" in top or (resources and "instanceType" in resources) else "newer"


def _image(top: Fields) -> str:
    image = top.text("image", required=True)
    if image == PLACEHOLDER:
        top.warn("image", f"{quoted(image)} is a placeholder of the GitHub action, not an image", "write the image")
    elif node := top.node("image"):
        check_image(image, node.mark, top.at("image"), top.problems)
        check_expression(image, node.mark, top.at("image"), top.problems)
    return image


def _one_port(top: Fields) -> tuple[int, ...]:
    return (top.whole("port", default=DEFAULT_PORT, least=1, most=65535),)


def _ports(resources: Fields | None, *, required: bool) -> tuple[int, ...]:
    if resources is None:
        return (DEFAULT_PORT,)
    ports: list[int] = []
    for path, node in resources.items("ports", required=required, hint="such as [8000]", what="a list of numbers"):
        default = DEFAULT_PORT
        port = int(read_number(node, path, resources.problems, default=default, least=1, most=65535, whole=True))
        if port in ports:
            resources.problems.error(node.mark, path, f"the port {port} is listed already")
        ports.append(port)
    if (given := resources.node("ports")) and given.value == []:
        resources.error("ports", "must have at least one port", "such as [8000]")
    return tuple(ports) or (DEFAULT_PORT,)


def _resources(
    resources: Fields | None, dialect: Dialect, unsupported: Unsupported, *, machine_required: bool
) -> tuple[str, int]:
    """Machine type and replicas."""
    if resources is None:
        return "", 1
    key = "instanceType" if dialect == "older" else "machineType"
    machine = resources.text(key, required=machine_required, hint="the machine type, such as C4")
    replicas = resources.whole("replicas", default=1, least=0, most=MOST_REPLICAS)
    if (autoscaling := resources.map("autoscaling")) and _autoscaling(autoscaling):
        unsupported[autoscaling.path] = autoscaling.mark
    resources.close(_RESOURCE_HINTS | (_OLDER_RESOURCES if dialect == "older" else _NEWER_RESOURCES))
    return machine, replicas


def _autoscaling(fields: Fields) -> bool:
    """Whether it is on."""
    enabled = fields.flag("enabled", default=True)
    if fields.node("maxReplicas", required=True):
        fields.whole("maxReplicas", least=1, most=MOST_REPLICAS)
    for path, node in fields.items("metrics", required=True, hint="such as {metric: cpu, summary: average, value: 80}"):
        metric = Fields(node, path, fields.problems)
        metric.choice("metric", METRICS, required=True)
        metric.choice("summary", ("average",), required=True)
        if metric.node("value", required=True):
            metric.number("value", least=0.01)
        metric.close()
    fields.close()
    return enabled
