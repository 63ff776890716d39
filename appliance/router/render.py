"""From table and binds to HAProxy's files. Pure: the same input gives the same text.

The configuration has a fixed part (listeners, rules, empty slots) and the servers of the routes. `digest` covers the
fixed part only, so a running HAProxy whose digest is the same can be brought up to date through its Runtime API; it
carries the digest as its description.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from appliance.errors import RouterError
from appliance.router.table import Route, Table, Target

ROUTES_MAP = "routes.map"
PAGES_MAP = "pages.map"
_MARK = "x-appliance-page"
KEEPALIVE_S = 30
"""How long an idle client connection stays open, and so how long a replaced HAProxy may get one more request."""

# An unused server connection is closed well before a server of any kind would close it, so no request meets a
# connection that is just ending. A server added at run time keeps no connections at all unless told so.
SERVER_OPTIONS = "pool-purge-delay 250ms pool-max-conn 64"
# Unix paths take part in HAProxy's own address syntax, where $, comma and @ have a meaning.
_PATH = re.compile(r"/[\w/.+~= -]+")
_SOCKET_PATH_MOST = 97  # bytes; HAProxy needs the rest of the kernel's 108 for a temporary name beside it


@dataclass(frozen=True, slots=True)
class Bind:
    """A listening address; `address` is an IP, never a name."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Door:
    """The fixed part of the front door."""

    binds: Sequence[Bind]
    """The first is the user's; the others face containers and may hold at most half of the connections."""
    api_socket: Path
    admin_socket: Path
    user: str = ""
    """Account of the serving process; empty: whoever started it."""
    group: str = ""
    threads: int = 2
    connections: int = 4096


@dataclass(frozen=True, slots=True)
class Files:
    config: str
    routes: str
    """Map of path to slot."""
    pages: str
    """Map of error page by status, side and format."""
    digest: str


def render(table: Table, door: Door) -> Files:
    """Raises RouterError where a path cannot stand in the configuration."""
    for path in (door.api_socket, door.admin_socket):
        check_socket_path(path)
    pages = _pages()
    fixed = _config(Table(capacity=table.capacity), door, "")
    digest = hashlib.sha256(f"{fixed}\n{pages}".encode()).hexdigest()[:16]
    routes = "".join(f"{entry_key(route)} {entry_value(slot, route)}\n" for slot, route in table.served())
    return Files(_config(table, door, digest), routes, pages, digest)


def check_socket_path(path: Path) -> None:
    text = str(path)
    if not _PATH.fullmatch(text):
        raise RouterError(
            "HAProxy cannot use a socket with such a path",
            where=text,
            hint="choose an APPLIANCE_HOME of letters, digits and . _ - + ~ = /",
        )
    if len(text.encode()) > _SOCKET_PATH_MOST:
        raise RouterError(
            f"the path of the socket is longer than {_SOCKET_PATH_MOST} bytes",
            where=text,
            hint="choose a shorter APPLIANCE_HOME",
        )


def entry_key(route: Route) -> str:
    return route.prefix.removeprefix("/")


def entry_value(slot: int, route: Route) -> str:
    return f"{slot_name(slot)}/strip" if route.strip else slot_name(slot)


def slot_name(slot: int) -> str:
    return f"slot-{slot}"


def server_line(target: Target) -> str:
    return f"127.0.0.1:{target.port} {SERVER_OPTIONS}"


def _config(table: Table, door: Door, digest: str) -> str:
    return "\n".join((*_global(door, digest), *_DEFAULTS, *_frontend(door), *_backends(table, door), ""))


def _global(door: Door, digest: str) -> Iterator[str]:
    yield "# Written by the appliance. Changes here are lost."
    yield "global"
    yield f"  description appliance-{digest}"
    yield "  default-path config"
    # Two HAProxys that share a port would each get a part of the requests.
    yield "  noreuseport"
    yield f"  stats socket '{door.admin_socket}' mode 600 level admin expose-fd listeners"
    yield "  stats timeout 30s"
    yield f"  nbthread {door.threads}"
    yield f"  maxconn {door.connections}"
    yield "  tune.bufsize 32768"
    yield "  hard-stop-after 24h"
    # No chroot: the daemon's socket must stay in reach.
    if door.user:
        yield f"  user {door.user}"
        yield f"  group {door.group}"


_DEFAULTS = (
    "defaults",
    "  mode http",
    "  timeout connect 5s",
    "  timeout client 600s",
    "  timeout server 600s",
    "  timeout tunnel 24h",
    "  timeout client-fin 30s",
    "  timeout server-fin 30s",
    "  timeout http-request 10s",
    f"  timeout http-keep-alive {KEEPALIVE_S}s",
    "  option http-no-delay",  # else each server-sent event waits up to 100 ms
    "  option abortonclose",
    "  option idle-close-on-response",
    "  option http-ignore-probes",
    "  option clitcpka",
    "  option srvtcpka",
    "  balance leastconn",
    "  retries 3",
    "  option redispatch 1",
    "  retry-on conn-failure",  # a request that was sent is never sent again
    *(
        f"  http-error status {status} content-type application/problem+json"
        f" lf-string '%[str({status}),concat(-,txn.side),concat(-,txn.format),map({PAGES_MAP})]'"
        f" hdr cache-control no-store hdr {_MARK} %[var(txn.format)]" + (" hdr retry-after 2" if status == 503 else "")
        for status in (502, 503, 504)
    ),
)


def _frontend(door: Door) -> Iterator[str]:
    yield "frontend door"
    first, *others = door.binds
    yield f"  bind {first}"
    yield from (f"  bind {bind} maxconn {max(1, door.connections // 2)}" for bind in others)
    yield from (f"  {rule}" for rule in _RULES)


_RULES = (
    f"http-request set-var(txn.entry) path,field(2,/,2),map({ROUTES_MAP})",
    "http-request set-var(txn.slot) var(txn.entry),field(1,/)",
    "http-request set-var(txn.side) str(daemon)",
    "http-request set-var(txn.side) str(server) if { var(txn.slot) -m found }",
    "http-request set-var(txn.format) str(json)",
    "http-request set-var(txn.format) str(html) if { req.hdr(accept) -m sub -i text/html }",
    "http-request del-header '^(x[-_]forwarded[-_].*|forwarded|x[-_]real[-_]ip)$' -m reg",
    "http-request set-header X-Forwarded-For %[src]",
    "http-request set-header X-Forwarded-Proto http",
    "http-request set-header X-Forwarded-Host %[req.hdr(host)] if { req.hdr(host) -m found }",
    "http-request set-header X-Forwarded-Prefix /%[path,field(2,/,2)] if { var(txn.slot) -m found }",
    "http-request replace-path '^/[^/]+/[^/]+$' / if { var(txn.entry) -m end /strip }",
    r"http-request replace-path '^/[^/]+/[^/]+(/.*)$' '\1' if { var(txn.entry) -m end /strip }",
    f"http-response del-header {_MARK}",  # a server may not pass for HAProxy's own page
    f"http-after-response set-header content-type 'text/html; charset=utf-8' if {{ res.hdr({_MARK}) -m str html }}",
    f"http-after-response del-header {_MARK}",
    "use_backend %[var(txn.slot)] if { var(txn.slot) -m found }",
    "default_backend daemon",
)


def _backends(table: Table, door: Door) -> Iterator[str]:
    yield "backend daemon"
    yield f"  server daemon 'unix@{door.api_socket}' {SERVER_OPTIONS}"
    served = dict(table.served())
    for slot in range(table.capacity):
        yield f"backend {slot_name(slot)}"
        for target in served[slot].targets if slot in served else ():
            yield f"  server {target.id} {server_line(target)}"


_SIDES = {
    "daemon": ("daemon_down", "The appliance's daemon does not answer.", "start it with `appliance serve`"),
    "server": ("unavailable", "The server behind this path does not answer.", "`appliance logs` shows what it said"),
}
_TITLES = {502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


def _pages() -> str:
    """One line a page: HAProxy picks it by key and sends the rest of the line."""
    lines = []
    for status, title in _TITLES.items():
        for side, (code, detail, hint) in _SIDES.items():
            problem = {"type": "about:blank", "title": title, "status": status, "code": code}
            problem |= {"detail": detail, "hint": hint}
            lines.append(f"{status}-{side}-json {json.dumps(problem)}")
            lines.append(f"{status}-{side}-html {_html(title, detail, hint)}")
    return "\n".join((*lines, ""))


def _html(title: str, detail: str, hint: str) -> str:
    return (
        '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
        f"<title>{escape(title)}</title>"
        '<body style="font:16px system-ui;max-width:36em;margin:4em auto">'
        f"<h1>{escape(detail)}</h1><p>Next: {escape(hint)}. This page reloads by itself.</p>"
    )
