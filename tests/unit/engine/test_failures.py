from __future__ import annotations

import socket
from http import HTTPStatus

import docker.errors
import pytest
import requests

from appliance.engine import failures
from appliance.errors import ApplianceError, Conflict, EngineDown, EngineError, GpuRefused, ImageNotFound


def refused(status: int, message: str) -> docker.errors.APIError:
    response = requests.Response()
    response.status_code = status
    response.reason = HTTPStatus(status).phrase
    kind = docker.errors.NotFound if status == 404 else docker.errors.APIError
    return kind("400 Client Error", response=response, explanation=message)


def translate(error: Exception, image: str = "") -> ApplianceError:
    return failures.translate(error, address="unix:///run/docker.sock", image=image)


@pytest.mark.parametrize(
    ("status", "message", "kind", "hint"),
    [
        (404, "No such image: a:1", ImageNotFound, "pull"),
        (404, "network n not found", EngineError, "log"),
        (409, "The container name is already in use", Conflict, "docker ps"),
        (500, "write /x: no space left on device", EngineError, "docker system df"),
        (400, "invalid mount config: bind source path does not exist: /x", EngineError, "folder"),
        (500, 'could not select device driver "nvidia" with capabilities: [[gpu]]', GpuRefused, "NVIDIA"),
        (500, "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13", EngineError, "older CUDA"),
        (400, 'exec: "nvidia-smi": executable file not found in $PATH', EngineError, "command"),
        (400, 'exec: "nope": executable file not found in $PATH', EngineError, "command"),
        (500, "something else", EngineError, "log"),
    ],
)
def test_what_the_engine_refuses(status: int, message: str, kind: type[ApplianceError], hint: str) -> None:
    found = translate(refused(status, message))
    assert type(found) is kind
    assert found.message == message
    assert hint in found.hint


def test_a_missing_image_is_named() -> None:
    assert translate(refused(404, "No such image: a:1"), image="a:1").where == "a:1"


@pytest.mark.parametrize(
    ("cause", "words", "hint"),
    [
        (FileNotFoundError(2, "No such file"), "not running", "systemctl start docker"),
        (ConnectionRefusedError(111, "refused"), "not running", "systemctl start docker"),
        (PermissionError(13, "denied"), "may not use it", "usermod -aG docker"),
        (socket.gaierror(-2, "Name or service not known"), "host name is unknown", "docker_host"),
    ],
)
def test_an_engine_that_cannot_be_reached(cause: OSError, words: str, hint: str) -> None:
    # As docker-py nests them: in the arguments of a requests error that is in the text of its own.
    outer = docker.errors.DockerException("Error while fetching server API version")
    outer.__context__ = requests.exceptions.ConnectionError(Exception("Connection aborted.", cause))
    found = translate(outer)
    assert type(found) is EngineDown
    assert words in found.message
    assert hint in found.hint
    assert "unix:///run/docker.sock" in found.where


def test_an_engine_that_hangs() -> None:
    assert "in time" in translate(requests.exceptions.ReadTimeout("read timed out")).message
    assert "in time" in translate(TimeoutError()).message


def test_our_own_errors_pass() -> None:
    error = EngineDown("x")
    assert translate(error) is error


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (refused(404, "No such container: x"), True),
        (refused(409, "removal of container x is already in progress"), True),
        (refused(409, "container x is not running"), False),
        (refused(500, "driver failed"), False),
        (OSError("x"), False),
    ],
)
def test_what_counts_as_gone(error: Exception, gone: bool) -> None:
    assert failures.is_gone(error) is gone
