"""A ContainerSpec as the engine's create document. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.engine.documents import LOOPBACK
from appliance.engine.types import ContainerSpec, Mount

LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "100m", "max-file": "3"}}
PIDS_LIMIT = 16384
HOST_NAME = "host.docker.internal"


def create_document(spec: ContainerSpec, *, network: str, gateway: str) -> dict[str, Any]:
    """Body of `POST /containers/create`. `gateway` is the host's address on `network`, empty where there is none."""
    document: dict[str, Any] = {
        "Image": spec.image,
        "Labels": dict(spec.labels),
        "Env": [f"{name}={value}" for name, value in _env(spec).items()],
        "ExposedPorts": {f"{port}/tcp": {} for port in spec.publish},
        "HostConfig": host_config(spec, network=network, gateway=gateway),
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


def host_config(spec: ContainerSpec, *, network: str, gateway: str) -> dict[str, Any]:
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
    if spec.gpus:
        config["DeviceRequests"] = [_gpu_request(spec.gpus)]
    return config


def _env(spec: ContainerSpec) -> Mapping[str, str]:
    if spec.gpus:
        return spec.env
    # Images of GPU frameworks ask for every GPU by a variable of their own; `void` makes the runtime give none.
    return {**spec.env, "NVIDIA_VISIBLE_DEVICES": "void"}


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": str(mount.source),
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _gpu_request(uuids: Sequence[str]) -> dict[str, Any]:
    return {"Driver": "nvidia", "DeviceIDs": list(uuids), "Capabilities": [["gpu", "compute", "utility"]]}
