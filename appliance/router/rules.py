"""What the front door does with each request, as HAProxy's rules. Pure.

A rule that few routes need asks for its flag first, and `allow` ends a section early for all others: each comparison
that every request makes costs half a microsecond. Section `slots` holds what the backend of every route does; a rule
there sees the servers of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.router.maps import BASIC, BODY, HOLD, KEY, KEYS_MAP, RATES, ROUTES_MAP, STRIP, TIMEOUT
from appliance.router.pages import MARK, refusal

RECORDS = "requests"
"""The ring of request records."""
RECORD = "%[date(0,ms)] %[var(txn.prefix)] %s %[var(txn.held)] %Tr %Ta %ST %ts %U %B"


def _has(*flags: str) -> str:
    return f"{{ var(txn.flags) -m sub {' '.join(flags)} }}"


_UNDECLARED = f"{_has(BODY)} {{ req.ver -m beg 2 }} !{{ req.hdr(content-length) -m found }}"

FRONTEND = (
    f"log ring@{RECORDS} format raw local0",
    f"log-format '{RECORD}'",
    "unique-id-format %[uuid()]",
    "http-request set-var(txn.route) path,field(2,/,2)",
    f"http-request set-var(txn.entry) var(txn.route),map({ROUTES_MAP})",
    "http-request set-var(txn.slot) var(txn.entry),field(1,/)",
    "http-request set-var(txn.flags) var(txn.entry),field(2,/)",
    # a path of nobody's is never logged: it may be any text
    "http-request set-var(txn.prefix) var(txn.route) if { var(txn.slot) -m found }",
    "http-request set-log-level silent unless { var(txn.slot) -m found }",
    "http-request set-var(txn.side) str(daemon)",
    "http-request set-var(txn.side) str(server) if { var(txn.slot) -m found }",
    "http-request set-var(txn.format) str(json)",
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
    "http-request set-header X-Forwarded-For %[src]",
    "http-request set-header X-Forwarded-Proto http",
    "http-request set-header X-Forwarded-Host %[req.hdr(host)] if { req.hdr(host) -m found }",
    "http-request set-header X-Forwarded-Prefix /%[var(txn.prefix)] if { var(txn.prefix) -m found }",
    f"http-request set-path /%[path,field(4,/,0)] if {_has(STRIP)}",
    # a request that changes something is sent once; one that only asks may be asked again of another server
    "http-request disable-l7-retry unless { method GET HEAD OPTIONS }",
    # most routes ask for none of what follows
    f"http-request allow unless {_has(BASIC, KEY, BODY, *RATES.values())}",
    # access
    f"http-request set-var(txn.sum) req.fhdr(authorization),sha2(256),hex if {_has(BASIC, KEY)}",
    f"http-request set-var-fmt(txn.key) %[var(txn.route)]/%[var(txn.sum)] if {_has(BASIC, KEY)}",
    refusal(401, "access", ("www-authenticate", 'Basic realm="appliance"'))
    + f" if {_has(BASIC)} !{{ var(txn.key),map({KEYS_MAP}) -m found }}",
    refusal(401, "access", ("www-authenticate", "Bearer"))
    + f" if {_has(KEY)} !{{ var(txn.key),map({KEYS_MAP}) -m found }}",
    f"http-request del-header authorization if {_has(BASIC, KEY)}",
    # limits; a body without a declared length cannot be bounded
    f"http-request set-var(txn.most) var(txn.entry),field(3,/) if {_has(BODY)}",
    refusal(411, "length") + f" if {_has(BODY)} {{ req.hdr(transfer-encoding) -m found }}",
    # in HTTP/2 only its first byte tells that there is one
    f"http-request wait-for-body time 5s at-least 1 if {_UNDECLARED}",
    refusal(411, "length") + f" if {_UNDECLARED} {{ req.body_len gt 0 }}",
    refusal(413, "body") + f" if {_has(BODY)} {{ req.hdr(content-length),sub(txn.most) gt 0 }}",
    f"http-request set-var(txn.rate) var(txn.entry),field(4,/) if {_has(*RATES.values())}",
    # one client is one key where keys are asked for, else one address
    "http-request set-var-fmt(txn.who) %[var(txn.route)]/%[src] if { var(txn.rate) -m found }",
    "http-request set-var(txn.who) var(txn.key) if { var(txn.rate) -m found } { var(txn.key) -m found }",
    *(
        rule
        for window, flag in RATES.items()
        for rule in (
            f"http-request track-sc0 var(txn.who) table rates-{window} if {_has(flag)}",
            refusal(429, "rate") + f" if {_has(flag)} {{ sc0_http_req_rate(rates-{window}),sub(txn.rate) gt 0 }}",
        )
    ),
    f"http-response del-header {MARK}",  # a server may not pass for HAProxy's own page
    f"http-after-response set-header content-type 'text/html; charset=utf-8' if {{ res.hdr({MARK}) -m str html }}",
    f"http-after-response del-header {MARK}",
    "http-after-response set-header X-Request-ID %[var(txn.id)]",
    "use_backend %[var(txn.slot)] if { var(txn.slot) -m found }",
    "default_backend daemon",
)


def tables() -> Iterator[str]:
    """Where requests are counted, by window."""
    for window in RATES:
        yield f"backend rates-{window} from base"
        yield (
            f"  stick-table type string len 160 size 100k expire {max(60, 2 * window)}s store http_req_rate({window}s)"
        )


def slots(*, lua: bool) -> Iterator[str]:
    """`lua`: whether this HAProxy can hold requests.

    In a process that was replaced no server counts as ready: without `stopping` it would hold what its servers could
    answer. `be_conn` counts whoever is held now, this one among them.
    """
    yield f"http-request set-var(txn.timeout) var(txn.entry),field(5,/) if {_has(TIMEOUT)}"
    yield "http-request set-timeout server var(txn.timeout) if { var(txn.timeout) -m found }"
    if lua:
        yield f"http-request allow if {{ nbsrv gt 0 }} or {{ stopping }} or !{_has(HOLD)}"
        yield "http-request set-var(txn.hold_s) var(txn.entry),field(6,/)"
        yield "http-request set-var(txn.hold_most) var(txn.entry),field(7,/)"
        yield refusal(503, "full") + " if { be_conn,sub(txn.hold_most) gt 0 }"
        yield "http-request lua.hold"
        yield refusal(503, "late") + " if { var(txn.late) -m found }"
        yield refusal(503, "moved") + " if { var(txn.moved) -m found }"
