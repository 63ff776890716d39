"""The front door's part for containers that push metrics: a port of its own, which leads nowhere else. Pure.

It faces strangers' programs, so it takes one kind of path, bounds what each address sends, and says who it was in
headers that only it can set. A daemon that is just starting again is waited for: a program that trains does not end
because a push found nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.router.pages import MARK, errors

CALLER = "X-Appliance-Caller"
"""Header: the address that pushed."""
ARRIVED = "X-Appliance-Arrived"
"""Header: when it came here, in milliseconds since 1970."""
MOST_BODY = 1 << 20
"""Bytes of a push: some ten thousand samples."""
MOST_AT_ONCE = 64
"""Connections of one address: as many processes push at the same time."""
MOST_CONNECTIONS = 512
RATE, WINDOW_S = 5000, 10
"""Pushes of one address in the window, seconds; a program that waits for each answer does not come to it."""
WAIT_S = 25
"""For a daemon that starts again. Most programs give up after 30 s."""
PROGRAM = "wait.lua"
_CHECK = "check inter 2s fastinter 500ms downinter 200ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down"


@dataclass(frozen=True, slots=True)
class Push:
    socket: Path
    """Where the daemon takes pushes."""
    binds: Sequence[str]
    """`ADDRESS:PORT` as HAProxy writes it."""


def settings(push: Push) -> Iterator[str]:
    """Lines of the global section, where this HAProxy has Lua."""
    yield f"setenv APPLIANCE_PUSHES '{push.socket}'"
    yield f"setenv APPLIANCE_PUSHES_WAIT_S {WAIT_S}"
    yield f"lua-load {PROGRAM}"


def sections(push: Push, *, later: Path, user: str, lua: bool, server_options: str) -> Iterator[str]:
    """Nothing where there is no address to listen at.

    `later`: the socket at which HAProxy hands to itself what finds no daemon, to hold it; `user`: the account that
    serves, and so may come there, where it is not the one that starts. Without `lua` nothing is held.
    """
    if not push.binds:
        return
    yield "frontend push from base"
    yield from (f"  bind {bind} maxconn {MOST_CONNECTIONS}" for bind in push.binds)
    yield "  timeout client 30s"
    yield f"  stick-table type ip size 10k expire 60s store conn_cur,http_req_rate({WINDOW_S}s)"
    yield "  tcp-request connection track-sc0 src"
    yield f"  tcp-request connection reject if {{ sc0_conn_cur gt {MOST_AT_ONCE} }}"
    yield "  http-request deny deny_status 404 unless { path_beg /metrics/job/ /metrics/job@base64/ }"
    yield f"  http-request deny deny_status 429 if {{ sc0_http_req_rate gt {RATE} }}"
    yield f"  http-request deny deny_status 413 if {{ req.hdr(content-length),sub({MOST_BODY}) gt 0 }}"
    yield f"  http-request set-header {CALLER} %[src]"
    yield f"  http-request set-header {ARRIVED} %[date(0,ms)]"
    yield f"  http-after-response del-header {MARK}"
    yield "  default_backend pushes"
    # What a daemon that ends had taken in and not answered is told to the next one: at worst a sample twice. The first
    # refused connection takes the server out, so that the next try, of the same push, goes to the other.
    yield "backend pushes from base"
    yield from _backend()
    yield f"  server daemon 'unix@{push.socket}' {server_options} {_CHECK}"
    if not lua:
        return
    yield f"  server later 'unix@{later}' backup"
    yield "frontend later from base"
    yield f"  bind 'unix@{later}' mode 600" + (f" user {user}" if user else "")
    yield "  http-request lua.wait"
    yield "  default_backend held-pushes"
    yield "backend held-pushes from base"
    yield from _backend()
    yield f"  server daemon 'unix@{push.socket}' {server_options}"


def _backend() -> Iterator[str]:
    yield from (f"  {rule}" for rule in errors("daemon"))
    yield "  http-reuse never"
