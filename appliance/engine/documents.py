"""The engine's JSON documents as values of ours. Pure; a field that an engine leaves out has its empty value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.engine.passthrough import CDI_KIND
from appliance.engine.types import Container, EngineEvent, EngineInfo, ImageInfo

Document = Mapping[str, Any]

LOOPBACK = "127.0.0.1"
_ENDED = ("exited", "dead")
_NOT_LABELS = ("image", "name", "exitCode", "signal", "execDuration")
_EXIT_CODE = re.compile(r"^(?:Exited|Dead) \((-?\d+)\)")


def timestamp(text: str | None) -> float | None:
    """RFC 3339 with any number of fractional digits -> unix seconds; the zero time of Go -> None."""
    if not text or text.startswith("0001-01-01"):
        return None
    whole, _, rest = text.partition(".")
    if not rest:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    digits = re.match(r"\d+", rest)
    assert digits is not None, text
    zone = rest[digits.end() :].replace("Z", "+00:00")
    seconds = datetime.fromisoformat(whole + zone).timestamp()
    return seconds + float(f"0.{digits.group()}")


def container_from_inspect(document: Document) -> Container:
    """`GET /containers/ID/json`: everything that is known of a container."""
    config = document.get("Config") or {}
    state = document.get("State") or {}
    status = str(state.get("Status") or "")
    log_path = document.get("LogPath")
    return Container(
        id=document["Id"],
        name=str(document.get("Name") or "").removeprefix("/"),
        image=str(config.get("Image") or ""),
        image_id=str(document.get("Image") or ""),
        labels=dict(config.get("Labels") or {}),
        state=status,
        exit_code=int(state.get("ExitCode", 0)) if status in _ENDED else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        started=timestamp(state.get("StartedAt")),
        finished=timestamp(state.get("FinishedAt")),
        ports=_published((document.get("NetworkSettings") or {}).get("Ports") or {}),
        log_path=Path(log_path) if log_path else None,
        pid=int(state.get("Pid") or 0) or None,
    )


def container_from_summary(document: Document) -> Container:
    """One entry of `GET /containers/json`: no times, no error, no log path; the exit code is read from its status."""
    status = str(document.get("State") or "").lower()
    ended = _EXIT_CODE.match(str(document.get("Status") or ""))
    return Container(
        id=document["Id"],
        name=_own_name(document.get("Names") or ()),
        image=str(document.get("Image") or ""),
        image_id=str(document.get("ImageID") or ""),
        labels=dict(document.get("Labels") or {}),
        state=status,
        exit_code=int(ended.group(1)) if ended and status in _ENDED else None,
        ports={
            int(port["PrivatePort"]): int(port["PublicPort"])
            for port in document.get("Ports") or ()
            if port.get("Type") == "tcp" and port.get("IP") == LOOPBACK and port.get("PublicPort")
        },
    )


def event(document: Document) -> EngineEvent:
    """A container event. An action such as `health_status: healthy` is cut at the colon."""
    actor = document.get("Actor") or {}
    attributes: Mapping[str, str] = actor.get("Attributes") or {}
    code = attributes.get("exitCode", "")
    return EngineEvent(
        at=event_ns(document) / 1e9,
        action=str(document.get("Action") or "").partition(":")[0],
        container_id=str(actor.get("ID") or document.get("id") or ""),
        labels={key: value for key, value in attributes.items() if key not in _NOT_LABELS},
        exit_code=int(code) if code.lstrip("-").isdigit() else None,
    )


def event_ns(document: Document) -> int:
    """When an event happened, unix nanoseconds."""
    return int(document.get("timeNano") or int(document.get("time") or 0) * 1_000_000_000)


def image(document: Document) -> ImageInfo:
    """`GET /images/REF/json`."""
    config = document.get("Config") or {}
    ports = (name.partition("/") for name in config.get("ExposedPorts") or {})
    return ImageInfo(
        id=document["Id"],
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        workdir=str(config.get("WorkingDir") or ""),
        env=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        ports=tuple(sorted(int(port) for port, _, protocol in ports if protocol in ("", "tcp") and port.isdigit())),
        user=str(config.get("User") or ""),
        labels=dict(config.get("Labels") or {}),
        size_bytes=int(document.get("Size") or 0),
    )


def info(info: Document, version: Document) -> EngineInfo:
    """`GET /info` and `GET /version`."""
    devices = frozenset(
        str(device.get("ID") or "") for device in info.get("DiscoveredDevices") or () if device.get("Source") == "cdi"
    )
    nvidia_runtime = "nvidia" in (info.get("Runtimes") or {})
    return EngineInfo(
        version=str(version.get("Version") or ""),
        api_version=str(version.get("ApiVersion") or ""),
        root=Path(info.get("DockerRootDir") or "/var/lib/docker"),
        cpus=int(info.get("NCPU") or 0),
        memory_bytes=int(info.get("MemTotal") or 0),
        cgroup_version=str(info.get("CgroupVersion") or "1"),
        storage_driver=str(info.get("Driver") or ""),
        gpu_runtime=nvidia_runtime or any(name.startswith(f"{CDI_KIND}=") for name in devices),
        cdi=bool(info.get("CDISpecDirs")),
        cdi_devices=devices,
        nvidia_runtime=nvidia_runtime,
    )


def _own_name(names: Sequence[str]) -> str:
    """A container's own name; names with a second slash are links that others have to it."""
    own = [name.removeprefix("/") for name in names]
    return next((name for name in own if "/" not in name), own[0] if own else "")


def _published(ports: Mapping[str, Sequence[Mapping[str, str]] | None]) -> dict[int, int]:
    found: dict[int, int] = {}
    for name, bindings in ports.items():
        port, _, protocol = name.partition("/")
        for binding in bindings or ():
            if protocol == "tcp" and binding.get("HostIp") == LOOPBACK and binding.get("HostPort"):
                found[int(port)] = int(binding["HostPort"])
    return found
