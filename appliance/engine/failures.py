"""Failures of the engine and of docker-py as errors of the tree, with the engine's words and the next step."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import docker.errors
import requests.exceptions

from appliance.engine.gpu_failures import trouble
from appliance.errors import ApplianceError, Conflict, EngineDown, EngineError, GpuRefused, ImageNotFound

START_IT = "start it (`systemctl start docker`, or `service docker start`), or install it with ./install.sh"
JOIN_GROUP = "run as root, or `usermod -aG docker USER` and log in again"
FREE_SPACE = "free space below the engine's data directory: `docker system df`, then `docker image prune`"


def translate(error: Exception, *, address: str, image: str = "") -> ApplianceError:
    """What a failed call means to a user. `image` names the image the call was about, where it was about one."""
    if isinstance(error, ApplianceError):
        return error
    if isinstance(error, docker.errors.APIError):
        return _refused(error, image)
    return _unreachable(error, address)


def is_gone(error: Exception) -> bool:
    """The thing that was to be stopped or removed does not exist, or its removal is already under way."""
    if isinstance(error, docker.errors.NotFound):
        return True
    return (
        isinstance(error, docker.errors.APIError)
        and error.status_code == 409
        and "is already in progress" in words(error)
    )


def words(error: docker.errors.APIError) -> str:
    """The engine's own message, without docker-py's frame around it."""
    explanation = error.explanation
    if isinstance(explanation, bytes):
        explanation = explanation.decode("utf-8", "replace")
    return str(explanation or error).strip()


def engine_error(message: str, *, where: str = "docker") -> EngineError:
    """An error the engine reported in the middle of a stream, with the next step that fits its words."""
    return EngineError(message, where=where, hint=_next_step(message))


def _refused(error: docker.errors.APIError, image: str) -> ApplianceError:
    message = words(error)
    if error.status_code == 404 and "no such image" in message.lower():
        return ImageNotFound(
            message,
            where=image or "docker",
            hint="check the name, or pull it first: `docker pull IMAGE` shows what its registry says",
        )
    if error.status_code == 409:
        return Conflict(message, where="docker", hint="`docker ps -a` shows what holds it")
    if (found := trouble(message)) and found.passes:
        return GpuRefused(message, where="docker", hint=found.next_step)
    return engine_error(message)


def _next_step(message: str) -> str:
    lowered = message.lower()
    if "no space left" in lowered or "disk quota" in lowered:
        return FREE_SPACE
    if "bind source path does not exist" in lowered:
        return "the folder to mount is missing on this machine; check the volume's path"
    if found := trouble(message):
        return found.next_step
    if "address pool" in lowered:
        return "remove networks that nobody uses: `docker network prune`"
    if "no such network interface" in lowered or "could not find bridge" in lowered:
        return "the engine has lost its network; restart it: `systemctl restart docker`, or `service docker restart`"
    if "port is already allocated" in lowered or "address already in use" in lowered:
        return "another program has that port: `ss -ltnp` shows which"
    if "executable file not found" in lowered or "no such file or directory" in lowered:
        return "the command does not exist in this image; check the command and the image"
    if "permission denied" in lowered:
        return "check that the command is executable and the mounted folders are readable"
    return "the engine's own log says more: `journalctl -u docker` or /var/log/docker.log"


def _unreachable(error: Exception, address: str) -> EngineDown:
    where = f"docker engine at {address}"
    if isinstance(error, requests.exceptions.Timeout | TimeoutError):
        return EngineDown("does not answer in time", where=where, hint=f"it may hang; look at its log, or {START_IT}")
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return EngineDown(f"its host name is unknown: {cause}", where=where, hint="correct the setting docker_host")
        if not isinstance(cause, OSError) or cause.errno is None:
            continue
        if cause.errno == errno.ENOENT:
            return EngineDown("is not running: its socket does not exist", where=where, hint=START_IT)
        if cause.errno in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE):
            return EngineDown("is not running: it refused the connection", where=where, hint=START_IT)
        if cause.errno in (errno.EACCES, errno.EPERM):
            return EngineDown("this user may not use it", where=where, hint=JOIN_GROUP)
    return EngineDown(f"does not answer: {error}", where=where, hint=START_IT)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Every exception inside this one: causes, contexts and arguments, as docker-py, requests and urllib3 nest them."""
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        nested = [current.__cause__, current.__context__, *current.args]
        pending.extend(item for item in nested if isinstance(item, BaseException))
