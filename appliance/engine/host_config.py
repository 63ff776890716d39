"""A ContainerSpec as the engine's create document. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from appliance.engine.documents import LOOPBACK
from appliance.engine.labels import GPUS
from appliance.engine.passthrough import Passing, passing
from appliance.engine.types import ContainerSpec, EngineInfo, Mount

LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "100m", "max-file": "3"}}
PIDS_LIMIT = 16384
HOST_NAME = "host.docker.internal"


def create_document(
    spec: ContainerSpec, *, network: str, gateway: str, info: EngineInfo | None = None
) -> dict[str, Any]:
    """Body of `POST /containers/create`. `gateway` is the host's address on `network`, empty where there is none.

    `info`: of the engine as it is now, where GPUs are asked for.
    """
    gpus = passing(spec.gpus, info)
    document: dict[str, Any] = {
        "Image": spec.image,
        "Labels": {**spec.labels, GPUS: ",".join(spec.gpus)} if spec.gpus else dict(spec.labels),
        "Env": _env({**spec.env, **gpus.env}),
        "ExposedPorts": {f"{port}/tcp": {} for port in spec.publish},
        "HostConfig": host_config(spec, network=network, gateway=gateway, gpus=gpus),
    }
    if spec.entrypoint is not None:
        document["Entrypoint"] = list(spec.entrypoint)
    if spec.command is not None:
        document["Cmd"] = list(spec.command)
    if spec.workdir is not None:
        document["WorkingDir"] = spec.workdir
    if spec.user is not None:
        document["User"] = spec.user
    if spec.stop_signal is not None:
        document["StopSignal"] = spec.stop_signal
    return document


def host_config(spec: ContainerSpec, *, network: str, gateway: str, gpus: Passing) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Init": True,
        "NetworkMode": network,
        "ExtraHosts": [f"{HOST_NAME}:{gateway}"] if gateway else [],
        "PortBindings": {f"{port}/tcp": [{"HostIp": LOOPBACK, "HostPort": ""}] for port in spec.publish},
        "Mounts": [_mount(mount) for mount in spec.mounts],
        "LogConfig": LOG_CONFIG,
        "RestartPolicy": {"Name": "no"},
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": PIDS_LIMIT,
    }
    if spec.shm_bytes:
        config["ShmSize"] = spec.shm_bytes
    if spec.memory_bytes:
        # The same limit with swap: a job that is too large ends as out of memory instead of paging for hours.
        config["Memory"] = config["MemorySwap"] = spec.memory_bytes
    if spec.cpus:
        config["NanoCpus"] = math.ceil(spec.cpus * 1e9)
    if spec.limits:
        config["Ulimits"] = [{"Name": one.name, "Soft": one.soft, "Hard": one.hard} for one in spec.limits]
    if gpus.requests:
        config["DeviceRequests"] = [dict(request) for request in gpus.requests]
    return config


def _env(variables: Mapping[str, str | None]) -> list[str]:
    """A name alone takes the image's variable away."""
    return [name if value is None else f"{name}={value}" for name, value in variables.items()]


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": str(mount.source),
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }
