"""A deployment: Gradient's older and newer dialect, told apart by shape, into the one model. What is ours is named in
`extensions`."""

from __future__ import annotations

from typing import Literal, NamedTuple

from appliance.spec.endpoint import read_endpoint, read_rollout
from appliance.spec.env import read_env, read_env_list
from appliance.spec.fields import Fields, read_number
from appliance.spec.lease import read_terms
from appliance.spec.models import Autoscaling, Deployment, Sleep
from appliance.spec.probes import read_probes
from appliance.spec.problems import Problems, quoted
from appliance.spec.refs import check_expression, check_image
from appliance.spec.scaling import MOST_REPLICAS, read_autoscaling, read_sleep
from appliance.spec.sources import read_secret, read_sources
from appliance.spec.tree import Node

Dialect = Literal["older", "newer"]
VERSIONS = ("v0alpha0", "v0alpha1", "v1", "latest")
PLACEHOLDER = ":image"
"""Gradient's GitHub action puts the image it was given here."""
DEFAULT_PORT = 80

_HINTS = {
    "args": "write the whole command under `command`",
    "entrypoint": "write the whole command under `command`",
    "replicas": "write `resources: {replicas: ...}`",
    "machineType": "write `resources: {machineType: ...}`",
    "instanceType": "write `resources: {instanceType: ...}`",
    "autoscaling": "write it under `resources`",
    "scaleToZero": "write it under `resources`",
    "strategy": "write `rollout: {strategy: ...}`",
    "rate": "write `endpoint: {rate: ...}`",
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
    "minReplicas": "write `replicas`: it is the least",
    "maxReplicas": "write `autoscaling: {maxReplicas: ..., metrics: [...]}`",
}
_OLDER_RESOURCES = {"machineType": "in this dialect it is `instanceType`", "ports": "in this dialect it is `port`"}
_NEWER_RESOURCES = {"instanceType": "in this dialect it is `machineType`", "port": "in this dialect it is `ports`"}


def read_deployment(name: str, root: Node, problems: Problems, path: str = "") -> Deployment | None:
    """None: there are problems. `path` is where the deployment stands in the document, empty for the whole."""
    extended = len(problems.extensions)
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
    image = _image(top)
    enabled = top.flag("enabled", default=True)
    command = top.texts("command", hint='such as [/bin/sh, -c, "..."]')
    if ours and (written := top.node("env")) and isinstance(written.value, dict):
        top.extension("env", "write a list: `- name: NAME` and `value: text`")
    env = read_env(top) if ours else read_env_list(top)
    region, registry = top.text("region", empty=True), top.text("containerRegistry")
    basic_auth = "" if older else read_secret(top, "basicAuthKey")
    ports = _one_port(top) if older else _ports(resources, required=bool(version))
    machine, scale = _resources(resources, dialect, machine_required=bool(version))
    sources = read_sources(top, older=older)
    probes = read_probes(top, ("healthChecks",) if older else ("healthChecks", "healthchecks"))
    rollout, endpoint = read_rollout(top), read_endpoint(top)
    terms = read_terms(top)
    if terms.preemptible:
        top.warn("preemptible", "says nothing: replicas make way for nobody", "give it a low `priority`")
    top.close(_HINTS | (_OLDER_HINTS if older else _NEWER_HINTS))
    if region:
        top.warn("region", "is kept and ignored: there is one machine")
    if problems.errors:
        return None
    return Deployment(
        name=name,
        image=image,
        enabled=enabled,
        command=command or None,
        env=env,
        ports=ports,
        replicas=scale.replicas,
        machine=machine,
        region=region,
        registry=registry,
        basic_auth=basic_auth,
        startup=probes.get("startup"),
        readiness=probes.get("readiness"),
        liveness=probes.get("liveness"),
        models=sources.models,
        integrations=sources.integrations,
        repositories=sources.repositories,
        autoscaling=scale.autoscaling,
        sleep=scale.sleep,
        rollout=rollout,
        endpoint=endpoint,
        owner=terms.owner,
        priority=terms.priority,
        preemptible=terms.preemptible,
        extensions=tuple(sorted({found.path for found in problems.extensions[extended:]})),
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


class _Scale(NamedTuple):
    replicas: int = 1
    autoscaling: Autoscaling | None = None
    sleep: Sleep | None = None


def _resources(resources: Fields | None, dialect: Dialect, *, machine_required: bool) -> tuple[str, _Scale]:
    """Machine type, and how many of them."""
    if resources is None:
        return "", _Scale()
    key = "instanceType" if dialect == "older" else "machineType"
    machine = resources.text(key, required=machine_required, hint="the machine type, such as C4")
    replicas = resources.whole("replicas", default=1, least=0, most=MOST_REPLICAS)
    scale = _Scale(replicas, read_autoscaling(resources, replicas), read_sleep(resources, replicas))
    resources.close(_RESOURCE_HINTS | (_OLDER_RESOURCES if dialect == "older" else _NEWER_RESOURCES))
    return machine, scale
