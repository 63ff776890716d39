"""Health checks of a deployment, with Kubernetes' fields and defaults: an HTTP request or a command, and ours, a
connection (`tcpSocket`)."""

from __future__ import annotations

import re

from appliance.spec.fields import Fields
from appliance.spec.models import Probe
from appliance.spec.problems import quoted

MOST_SECONDS = 86_400
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:.]+\]")
_HTTP_ONLY = ("path", "port", "host", "headers")
_HINTS = {
    "tcp": "write `tcpSocket: {port: ...}`",
    "httpGet": "write `path` and `port` directly",
    "command": "write `exec: {command: [...]}`",
    "successThreshold": "one success is enough; remove it",
    "interval": "write `periodSeconds`",
    "timeout": "write `timeoutSeconds`",
}


def read_probes(deployment: Fields, keys: tuple[str, ...]) -> dict[str, Probe]:
    """By name: startup, readiness, liveness. `keys` are the spellings that the dialect knows."""
    given = [key for key in keys if key in deployment]
    for key in keys:
        deployment.node(key)
    for other in given[1:]:
        deployment.error(other, f"the checks are given as `{given[0]}` already", "keep one")
    checks = deployment.map(given[0]) if given else None
    if checks is None:
        return {}
    found: dict[str, Probe] = {}
    for name in ("startup", "readiness", "liveness"):
        if probe := checks.map(name, hint="such as `path: /`"):
            found[name] = _probe(probe)
    checks.close()
    return found


def _probe(fields: Fields) -> Probe:
    command = _command(fields)
    tcp, port = _tcp(fields)
    path = fields.text("path")
    if "exec" in fields and "tcpSocket" in fields:
        fields.error("tcpSocket", "opens a connection, and `exec` runs a command", "keep one")
    elif "exec" in fields:
        _no_http(fields, "this one runs a command", "keep `path` or `exec`")
    elif "tcpSocket" in fields:
        _no_http(fields, "this one opens a connection", "keep `path`, or `tcpSocket: {port: ...}` alone")
    elif "path" not in fields:
        fields.missing("path", "or `exec: {command: [...]}`")
    own_port = fields.whole("port", least=1, most=65535)
    probe = Probe(
        path=_path(fields, path),
        tcp=tcp,
        port=port if tcp else (own_port or None),
        host=_host(fields),
        headers=_headers(fields),
        command=command,
        initial_delay_s=fields.number("initialDelaySeconds", most=MOST_SECONDS),
        period_s=fields.number("periodSeconds", default=10, least=1, most=MOST_SECONDS),
        timeout_s=fields.number("timeoutSeconds", default=1, least=1, most=MOST_SECONDS),
        failure_threshold=fields.whole("failureThreshold", default=3, least=1, most=100_000),
    )
    fields.close(_HINTS)
    return probe


def _command(fields: Fields) -> tuple[str, ...]:
    execute = fields.map("exec", hint="such as `command: [cat, /ready]`")
    if execute is None:
        return ()
    command = execute.texts("command") or ()
    if not command:
        execute.missing("command", "such as `command: [cat, /ready]`")
    execute.close()
    return command


def _tcp(fields: Fields) -> tuple[bool, int | None]:
    """Whether it is enough that a port accepts a connection, and which one; None: the deployment's first."""
    fields.extension("tcpSocket", "Gradient has no TCP check: use `path` or `exec`")
    socket = fields.map("tcpSocket", hint="such as {port: 8000}, or {} for the deployment's own port")
    if socket is None:
        return False, None
    port = socket.whole("port", least=1, most=65535)
    socket.close({"host": "it is always the replica that is asked"})
    return True, port or None


def _no_http(fields: Fields, why: str, hint: str) -> None:
    for key in _HTTP_ONLY:
        if key in fields:
            fields.error(key, f"belongs to an HTTP check, and {why}", hint)


def _path(fields: Fields, path: str) -> str:
    if path and (not path.isprintable() or " " in path):
        fields.error("path", f"{quoted(path)} is not the path of an address", "such as /healthz")
    return path if path.startswith("/") or not path else f"/{path}"


def _host(fields: Fields) -> str:
    host = fields.text("host")
    if host and not _HOST.fullmatch(host):
        fields.error("host", f"{quoted(host)} is not a host name")
    return host


def _headers(fields: Fields) -> dict[str, str]:
    headers: dict[str, str] = {}
    for path, node in fields.items("headers", what="a list of name and value"):
        item = Fields(node, path, fields.problems, what="a map of name and value")
        name, value = item.text("name", required=True), item.text("value", required=True, empty=True)
        if name and not _HEADER_NAME.fullmatch(name):
            item.error("name", f"{quoted(name)} is not the name of a header")
        if value and not value.isprintable():
            item.error("value", "must be one line without control characters")
        item.close()
        headers[name] = value
    return headers
