"""From table and binds to HAProxy's files. Pure: the same input gives the same text.

The configuration has a fixed part (listeners, rules, empty slots) and the servers of the routes. `digest` covers the
fixed part only, so a running HAProxy whose digest is the same can be brought up to date through its Runtime API; it
carries the digest as its description.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from appliance.errors import RouterError
from appliance.router import push, rules
from appliance.router.maps import maps, slot_name, to_text
from appliance.router.pages import PAGES_MAP, errors, pages
from appliance.router.push import Push
from appliance.router.table import Table, Target

KEEPALIVE_S = 30
"""How long an idle client connection stays open, and so how long a replaced HAProxy may get one more request."""

# An unused server connection is closed well before a server of any kind would close it (gunicorn: 2 s, most others:
# 5 s), so no request meets a connection that is just ending. Half of what is too much goes each time: of a thousand the
# last after 0.7 s. A server added at run time keeps no connections at all unless told so.
SERVER_OPTIONS = "pool-purge-delay 50ms pool-max-conn -1"
# The first refused connection takes a server out at once, and looks bring it back. A server that nobody asks is looked
# at seldom: each look is a connection in the queue of a server that may be busy with one request for minutes.
CHECK = "check inter 2s fastinter 500ms downinter 200ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down"
LANGUAGE = 1
"""Of maps and slots. A running HAProxy of another one cannot be told anything by this version."""
KNOCKS_SOCKET = "knocks.sock"
_HOLD = "hold.lua"
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
    holds: bool = True
    """Whether this HAProxy has Lua, and so can hold requests."""
    push: Push | None = None
    """The door for what containers push; None: there is none."""

    @property
    def knocks_socket(self) -> Path:
        """Where the daemon hears that a route has requests and no server."""
        return self.admin_socket.with_name(KNOCKS_SOCKET)

    @property
    def later_socket(self) -> Path:
        """Where HAProxy waits with what containers push while there is no daemon."""
        return self.admin_socket.with_name("pushes.sock")


@dataclass(frozen=True, slots=True)
class Files:
    config: str
    beside: Mapping[str, str]
    """Name -> text of the files that the configuration names."""
    digest: str


def render(table: Table, door: Door) -> Files:
    """Raises RouterError where a path cannot stand in the configuration."""
    for path in (door.api_socket, door.admin_socket, *((door.push.socket,) if door.push else ())):
        check_socket_path(path)
    fixed = {PAGES_MAP: pages(), _HOLD: program(_HOLD), push.PROGRAM: program(push.PROGRAM)}
    parts = (_config(Table(capacity=table.capacity), door, ""), *fixed.values())
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    changing = {name: to_text(entries) for name, entries in maps(table).items()}
    return Files(_config(table, door, digest), fixed | changing, digest)


def program(name: str) -> str:
    """What HAProxy runs by itself, in Lua."""
    return resources.files("appliance.router").joinpath(name).read_text(encoding="utf-8")


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


def server_line(target: Target) -> str:
    return f"{target.address}:{target.port} {SERVER_OPTIONS} {CHECK}"


def _config(table: Table, door: Door, digest: str) -> str:
    sections = (_global(door, digest), _ring(), _DEFAULTS, _frontend(door), _push(door), _backends(table, door))
    return "\n".join((*(line for section in sections for line in section), ""))


def _global(door: Door, digest: str) -> Iterator[str]:
    yield "# Written by the appliance. Changes here are lost."
    yield "global"
    yield f"  description appliance-{digest}/{LANGUAGE}"
    yield "  default-path config"
    # Two HAProxys that share a port would each get a part of the requests.
    yield "  noreuseport"
    yield f"  stats socket '{door.admin_socket}' mode 600 level admin expose-fd listeners"
    yield "  stats timeout 30s"
    yield f"  nbthread {door.threads}"
    yield f"  maxconn {door.connections}"
    yield "  tune.bufsize 16384"
    yield "  hard-stop-after 24h"
    if door.holds:
        yield f"  setenv APPLIANCE_KNOCKS '{door.knocks_socket}'"
        yield f"  lua-load {_HOLD}"
        if door.push:
            yield from (f"  {line}" for line in push.settings(door.push))
    # No chroot: the daemon's socket must stay in reach.
    if door.user:
        yield f"  user {door.user}"
        yield f"  group {door.group}"


def _ring() -> Iterator[str]:
    """Records wait here for the daemon: some 60,000, then the oldest are lost.

    It reads them on the admin socket. A ring that has a server connects again at once, for ever, where that refuses,
    and takes a third of a processor for it.
    """
    yield f"ring {rules.RECORDS}"
    yield "  format raw"
    yield "  size 4194304"
    yield "  maxlen 512"


_DEFAULTS = (
    "defaults base",
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
    "  retry-on conn-failure empty-response",  # rules say of which requests
)


def _frontend(door: Door) -> Iterator[str]:
    yield "frontend door from base"
    first, *others = door.binds
    yield f"  bind {first}"
    yield from (f"  bind {bind} maxconn {max(1, door.connections // 2)}" for bind in others)
    yield from (f"  {rule}" for rule in rules.FRONTEND)


def _push(door: Door) -> Iterator[str]:
    if door.push:
        yield from push.sections(
            door.push, later=door.later_socket, user=door.user, lua=door.holds, server_options=SERVER_OPTIONS
        )


def _backends(table: Table, door: Door) -> Iterator[str]:
    yield "backend daemon from base"
    yield from (f"  {rule}" for rule in (*errors("daemon"), *rules.DAEMON))
    yield f"  server daemon 'unix@{door.api_socket}' {SERVER_OPTIONS}"
    yield from rules.tables()
    yield "defaults slots from base"
    yield from (f"  {rule}" for rule in (*errors("server"), *rules.slots(lua=door.holds)))
    served = dict(table.served())
    for slot in range(table.capacity):
        yield f"backend {slot_name(slot)} from slots"
        for target in served[slot].targets if slot in served else ():
            yield f"  server {target.id} {server_line(target)}"
