"""What the front door does with each request, as HAProxy's rules. Pure.

Each rule that every request passes costs a quarter of a microsecond or so. `FRONTEND` has what concerns requests of any
path; `slots` what concerns those of a route, in the backend of the route, where a rule sees the servers of its own. A
request that has a server, of a route that asks for nothing particular, leaves it early.
"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.router.maps import AGAIN, BASIC, BODY, HOLD, KEY, KEYS_MAP, PLAIN, RATES, ROUTES_MAP, STRIP, TIMEOUT
from appliance.router.pages import MARK, refusal

RECORDS = "requests"
"""The ring of request records."""
RECORD = "%[date(0,ms)] %[var(txn.route)] %s %[var(txn.held)] %Tr %Ta %ST %ts %U %B"
BUSY = 1000
"""Requests a second to one route."""
_CHALLENGE = {"basic": 'Basic realm="appliance"', "key": "Bearer"}


def _has(*flags: str) -> str:
    return f"{{ var(txn.flags) -m sub {' '.join(flags)} }}"


_UNDECLARED = f"{_has(BODY)} {{ req.ver -m beg 2 }} !{{ req.hdr(content-length) -m found }}"

FRONTEND = (
    f"log ring@{RECORDS} format raw local0",
    f"log-format '{RECORD}'",
    # unlike any other for good: process, second, and a count within the process; decimal is the cheapest
    "unique-id-format %pid-%Ts-%rt",
    "http-request set-var(txn.route) path,field(2,/,2)",
    f"http-request set-var(txn.entry) var(txn.route),map({ROUTES_MAP})",
    "http-request set-var(txn.format) str(html) if { req.hdr(accept) -m sub -i text/html }",
    "http-request set-var(txn.id) req.fhdr(x-request-id)",
    "http-request set-var(txn.id) unique-id unless { var(txn.id) -m reg ^[A-Za-z0-9._-]{1,128}$ }",
    "http-request set-header X-Request-ID %[var(txn.id)]",
    # who asked: nobody may say so but this door
    "http-request del-header x-forwarded -m beg",
    "http-request del-header x_forwarded -m beg",
    "http-request del-header forwarded",
    "http-request del-header x-real-ip",
    "http-request del-header x_real_ip",
    "http-request del-header x-real_ip",
    "http-request del-header x_real-ip",
    "http-request add-header X-Forwarded-For %[src]",
    "http-request add-header X-Forwarded-Proto http",
    "http-request add-header X-Forwarded-Host %[req.hdr(host)] if { req.hdr(host) -m found }",
    # a server may not pass for HAProxy's own page, which is never one of success
    f"http-response del-header {MARK} if {{ status ge 400 }}",
    "http-after-response set-header content-type 'text/html; charset=utf-8'"
    f" if {{ status ge 400 }} {{ res.hdr({MARK}) -m str html }}",
    f"http-after-response del-header {MARK}",
    "http-after-response set-header X-Request-ID %[var(txn.id)]",
    # no entry, no such backend
    "use_backend %[var(txn.entry),field(1,/)]",
    "default_backend daemon",
)
DAEMON = (
    # a path of nobody's is never logged: it may be any text
    "http-request set-log-level silent",
    "http-request disable-l7-retry unless { method GET HEAD OPTIONS }",
)


def tables() -> Iterator[str]:
    """Where requests are counted, by window."""
    for window in RATES:
        yield f"backend rates-{window} from base"
        yield (
            f"  stick-table type string len 160 size 100k expire {max(60, 2 * window)}s store http_req_rate({window}s)"
        )


def slots(*, lua: bool) -> Iterator[str]:
    """`lua`: whether this HAProxy can hold requests."""
    yield "http-request set-var(txn.flags) var(txn.entry),field(2,/)"
    yield "http-request add-header X-Forwarded-Prefix /%[var(txn.route)]"
    yield f"http-request set-path /%[path,field(4,/,0)] if {_has(STRIP)}"
    # A request that changes something is sent once; one that only asks may be asked again: of another server, or of the
    # only one, which may just have closed a connection that it had kept. HAProxy keeps a copy of each request for
    # that, 5 us, a seventh of what it takes without; so a route that is busy, and keeps none idle, does without.
    busy = f"{{ be_sess_rate gt {BUSY} }} !{_has(AGAIN)}"
    yield f"http-request disable-l7-retry if {busy} or !{{ method GET HEAD OPTIONS }}"
    yield f"http-request allow if {_has(PLAIN)} {{ nbsrv gt 0 }}"
    yield from _access()
    yield from _limits()
    yield f"http-request set-var(txn.timeout) var(txn.entry),field(5,/) if {_has(TIMEOUT)}"
    yield "http-request set-timeout server var(txn.timeout) if { var(txn.timeout) -m found }"
    if lua:
        yield from _hold()


def _access() -> Iterator[str]:
    """The sum is that of the scheme in our own letters and the rest: a client may write the scheme in any."""
    for scheme in ("Basic", "Bearer"):  # a route may let in both
        spoken = f"{_has(BASIC, KEY)} {{ req.fhdr(authorization) -m beg -i '{scheme} ' }}"
        yield f"http-request set-var-fmt(txn.sent) \"{scheme} %[req.fhdr(authorization),word(2,' ',0)]\" if {spoken}"
    yield f"http-request set-var(txn.sum) var(txn.sent),sha2(256),hex if {_has(BASIC, KEY)}"
    yield f"http-request set-var-fmt(txn.key) %[var(txn.route)]/%[var(txn.sum)] if {_has(BASIC, KEY)}"
    for flag, kind in ((BASIC, "basic"), (KEY, "key")):
        known = f"{{ var(txn.key),map({KEYS_MAP}) -m found }}"
        yield f"{refusal(401, kind, ('www-authenticate', _CHALLENGE[kind]))} if {_has(flag)} !{known}"
    yield f"http-request del-header authorization if {_has(BASIC, KEY)}"


def _limits() -> Iterator[str]:
    """A body without a declared length cannot be bounded."""
    yield f"http-request set-var(txn.most) var(txn.entry),field(3,/) if {_has(BODY)}"
    yield f"{refusal(411, 'length')} if {_has(BODY)} {{ req.hdr(transfer-encoding) -m found }}"
    # in HTTP/2 only its first byte tells that there is one
    yield f"http-request wait-for-body time 5s at-least 1 if {_UNDECLARED}"
    yield f"{refusal(411, 'length')} if {_UNDECLARED} {{ req.body_len gt 0 }}"
    too_large = f"{_has(BODY)} {{ req.hdr(content-length),sub(txn.most) gt 0 }}"
    yield f"{refusal(413, 'body', limit=' %[var(txn.most)] bytes')} if {too_large}"
    yield f"http-request set-var(txn.rate) var(txn.entry),field(4,/) if {_has(*RATES.values())}"
    # one client is one key where keys are asked for, else one address
    yield "http-request set-var-fmt(txn.who) %[var(txn.route)]/%[src] if { var(txn.rate) -m found }"
    yield "http-request set-var(txn.who) var(txn.key) if { var(txn.rate) -m found } { var(txn.key) -m found }"
    for window, flag in RATES.items():
        yield f"http-request track-sc0 var(txn.who) table rates-{window} if {_has(flag)}"
        too_often = f"{_has(flag)} {{ sc0_http_req_rate(rates-{window}),sub(txn.rate) gt 0 }}"
        yield f"{refusal(429, 'rate', limit=f' %[var(txn.rate)] in {window} s')} if {too_often}"


def _hold() -> Iterator[str]:
    """In a process that was replaced no server counts as ready: without `stopping` it would hold what its servers could
    answer. `be_conn` counts whoever is held now, this one among them.
    """
    yield f"http-request allow if {{ nbsrv gt 0 }} or {{ stopping }} or !{_has(HOLD)}"
    yield "http-request set-var(txn.hold_s) var(txn.entry),field(6,/)"
    yield "http-request set-var(txn.hold_most) var(txn.entry),field(7,/)"
    yield refusal(503, "full") + " if { be_conn,sub(txn.hold_most) gt 0 }"
    yield "http-request lua.hold"
    yield refusal(503, "late") + " if { var(txn.late) -m found }"
    yield refusal(503, "moved") + " if { var(txn.moved) -m found }"
