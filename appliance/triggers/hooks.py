"""Signed messages over HTTP, as GitHub, Gitea and Forgejo send them.

A workflow takes them by `on.webhook`, a repository by `webhook`.

Whoever cannot sign learns nothing: no such name, no webhook, no secret and a wrong signature have the same answer.
A repository's message is not trusted beyond "look now". A workflow's may name the branch, the commit and the address
of a push; those are taken over, since they were signed with the workflow's own secret. Where a checkout would send
credentials to that address, its server must have been declared here too.

Only the body is signed: who has seen a message can send it again under another delivery id, without one, or as another
event. So a workflow remembers the bodies that it has answered for good: those that have started a run, those that its
`concurrency: skip` has left out, and those that are no push. An equal one starts nothing. What had another reason to
start none, such as a dataset that is not there or a full queue, may come again. A sender of one's own writes something
into the body that differs each time, such as the time. A repository takes an equal body again, since all that it does
is look.

The memory has bounds: the newest `KEPT_BODIES` bodies, and only while the workflow takes messages. It is empty after
`on.webhook` was taken out, and for a workflow that was withdrawn or deleted and is applied again: whoever fears old
messages then names another secret, which none of them was signed with.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.errors import ApplianceError, Forbidden, UsageError
from appliance.spec import address
from appliance.spec.load import parse
from appliance.spec.models import Repository, Triggers, Workflow
from appliance.state import events, resources
from appliance.state import triggers as marks
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource
from appliance.state.runs import Run
from appliance.state.triggers import Head
from appliance.triggers import origins, patterns, pushes, starts
from appliance.vault.secrets import Secrets
from appliance.workflows.concurrency import Skipped

SIGNATURE = "x-hub-signature-256"
EVENT = "x-github-event"
DELIVERY = "x-github-delivery"
KEPT = 1000
"""Deliveries of one receiver that are remembered, so that a repeated one is known."""
KEPT_BODIES = 10_000
"""Bodies of one workflow that are remembered, as hashes."""
DELIVERIES, BODIES = "delivery:", "body:"
REMEMBERED = (DELIVERIES, BODIES)
"""How the marks of messages begin; they stay as long as the workflow takes any."""

MOST_REFERENCES = 4096
"""Workflows and repositories whose secret's name is remembered."""

_references: OrderedDict[Head, str] = OrderedDict()

_SIGNATURE = re.compile(r"sha256=(?P<digest>[0-9a-f]{64})", re.ASCII)
_DELIVERY = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a message, in words; `run` where it started one."""

    message: str
    run: Run | None = None
    look: str = ""
    """The uid of the repository to be looked at now."""


@dataclass(frozen=True, slots=True)
class Push:
    """What a push message says; empty fields where it does not say them."""

    ref: str = ""
    commit: str = ""
    url: str = ""
    gone: bool = False
    """The branch or tag was deleted."""


def signature(secret: str, body: bytes) -> str:
    """The header's value for this body."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def signed(secret: str, body: bytes, given: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(signature(secret, body).encode(), given.encode("utf-8", "replace"))


def may_be_signed(headers: Mapping[str, str]) -> bool:
    """Before the body is read: whether there is anything to check it against."""
    return _SIGNATURE.fullmatch(headers.get(SIGNATURE, "")) is not None


def to_workflow(
    db: Database, vault: Secrets, name: str, headers: Mapping[str, str], body: bytes, *, now: float
) -> Taken:
    """Raises Forbidden, and what keeps the run from being made."""
    _check(vault, _reference(db.read, "workflow", name), headers, body)
    resource = resources.find(db.read, "workflow", name)
    spec = _parsed(resource)
    assert resource is not None, "it has a secret"
    assert isinstance(spec, Workflow), "it has a secret"
    if told := _other_event(headers):
        with db.write() as transaction:
            _note_body(transaction, resource.uid, body, told, now)
        return Taken(told)
    push = push_of(body)
    if told := unwanted(spec.triggers, push):
        return Taken(told)
    if told := _refused(db.read, spec, push):  # it may come again once this is put right
        said = f"{_source(headers, push)}: {told}"
        with db.write() as transaction:
            events.record(transaction, "workflow", resource.name, "NotStarted", said, now=now, level="warning")
        return Taken(told)
    uid, refused = resource.uid, list[ApplianceError]()
    with db.write() as transaction:
        if told := _known_delivery(transaction, uid, headers) or _known_body(transaction, uid, body):
            return Taken(told)
        run = starts.start(
            db, transaction, resource, resource.name, with_event(resource.spec, push), {},
            cause="webhook", source=_source(headers, push), now=now, refused=refused,
        )  # fmt: skip
        if run or isinstance(refused[0], Skipped):
            _note_delivery(transaction, uid, headers, now)
            _note_body(transaction, uid, body, "", now)
    return Taken("started" if run else f"no run was made: {refused[0].message}", run)


def to_repository(
    db: Database, vault: Secrets, name: str, headers: Mapping[str, str], body: bytes, *, now: float
) -> Taken:
    """Raises Forbidden."""
    _check(vault, _reference(db.read, "repository", name), headers, body)
    resource = resources.find(db.read, "repository", name)
    assert resource is not None, "it has a secret"
    if told := _other_event(headers):
        return Taken(told)
    with db.write() as transaction:
        if told := _known_delivery(transaction, resource.uid, headers):
            return Taken(told)
        _note_delivery(transaction, resource.uid, headers, now)
        events.record(transaction, "repository", resource.name, "Webhook", "a push was announced", now=now)
    return Taken("looking now", look=resource.uid)


def push_of(body: bytes) -> Push:
    """What is not there, or has another shape, is left empty: a message may be anybody's own."""
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return Push()
    if not isinstance(found, dict):
        return Push()
    repository = found.get("repository")
    url = _text(repository.get("clone_url")) if isinstance(repository, dict) else ""
    commit, ref = _text(found.get("after")), _text(found.get("ref"))
    gone = found.get("deleted") is True or (bool(commit) and not commit.strip("0"))
    return Push(
        ref=ref if ref.startswith((patterns.HEADS, patterns.TAGS)) and ref.isprintable() else "",
        commit=commit if _COMMIT.fullmatch(commit) and not gone else "",
        url=url if _is_public(url) else "",
        gone=gone,
    )


def unwanted(triggers: Triggers, push: Push) -> str:
    """Why a push starts nothing, in words. `on.github` counts where it is written beside the webhook."""
    if push.gone:
        return "a branch or tag was deleted: nothing to run"
    if triggers.github and push.ref and not patterns.starts(triggers, push.ref):
        return f"{pushes.short(push.ref)} is not one that `on.github` means"
    return ""


def with_event(document: Mapping[str, Any], push: Push) -> dict[str, Any]:
    """The run's own copy, with the push as `context.event.github` where the message says which."""
    if not (push.url and push.commit):
        return dict(document)
    return {**document, "context": {"event": {"github": {"url": push.url, "ref": push.commit}}}}


def _refused(db: Connection, spec: Workflow, push: Push) -> str:
    """Why the push's address is not taken over, in words."""
    if not (push.url and push.commit):
        return ""
    declared = [one.spec.get("url") for one in resources.every(db, "repository") if not one.deleting]
    return origins.refused(spec, push.url, [url for url in declared if isinstance(url, str)])


def _reference(db: Connection, kind: str, name: str) -> str:
    """Of the secret that its messages are signed with; empty: it takes none, or there is none of that name.

    A spec is read once for all callers: whoever cannot sign must not make the daemon work.
    """
    head = marks.head(db, kind, name)
    if head is None:
        return ""
    if head not in _references:
        spec = _parsed(resources.find_uid(db, head.uid))
        found = spec.triggers.webhook if isinstance(spec, Workflow) else spec.webhook if spec else ""
        _references[head] = found
        while len(_references) > MOST_REFERENCES:
            _references.popitem(last=False)
    _references.move_to_end(head)
    return _references[head]


def _check(vault: Secrets, reference: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raises Forbidden. Without a secret the work is the same, so the time tells nothing either."""
    try:
        secret = vault.resolve(reference) if reference else ""
    except ApplianceError:
        secret = ""
    right = signed(secret, body, headers.get(SIGNATURE, ""))
    if not (right and secret):
        raise Forbidden(
            "no webhook of that name takes this signature",
            hint=f"sign the body with the secret of the webhook: {SIGNATURE.title()}: sha256=HEX",
        )


def _parsed(resource: Resource | None) -> Workflow | Repository | None:
    if resource is None or resource.deleting or resource.desired != "running":
        return None
    try:
        spec = parse("workflow" if resource.kind == "workflow" else "repository", resource.name, resource.spec)
    except UsageError:
        return None
    return spec if isinstance(spec, Workflow | Repository) else None


def _other_event(headers: Mapping[str, str]) -> str:
    """What is said to a message that is no push; a sender of one's own may leave the header out."""
    event = headers.get(EVENT, "push")
    if event == "ping":
        return "pong"
    return "" if event == "push" else "only `push` and `ping` are listened to"


def _known_delivery(db: Connection, uid: str, headers: Mapping[str, str]) -> str:
    """Words where it has been taken before. Raises UsageError for an id that is none."""
    delivery = headers.get(DELIVERY, "")
    if not delivery:
        return ""
    if not _DELIVERY.fullmatch(delivery):
        raise UsageError(
            f"{DELIVERY} has a wrong form", hint="1 to 128 of the letters a-z and A-Z, digits, `.`, `_` and `-`"
        )
    return "this delivery was taken already" if marks.find(db, uid, DELIVERIES + delivery) is not None else ""


def _note_delivery(db: Connection, uid: str, headers: Mapping[str, str], now: float) -> None:
    if delivery := headers.get(DELIVERY, ""):
        marks.put(db, uid, DELIVERIES + delivery, "", now=now)
        marks.keep_newest(db, uid, DELIVERIES, KEPT)


def _known_body(db: Connection, uid: str, body: bytes) -> str:
    """Words where a message with this very body was answered for good before."""
    before = marks.find(db, uid, _body_key(body))
    if before is None:
        return ""
    if before:
        return "a message with this body was taken already, and not as a push"
    return "a message with this body was taken already: one that is to count holds something new, such as the time"


def _note_body(db: Connection, uid: str, body: bytes, told: str, now: float) -> None:
    """`told`: what was said to a message that is no push; empty for one that is."""
    key = _body_key(body)
    if marks.find(db, uid, key) is None:
        marks.put(db, uid, key, told, now=now)
        marks.keep_newest(db, uid, BODIES, KEPT_BODIES)


def _body_key(body: bytes) -> str:
    return BODIES + hashlib.sha256(body).hexdigest()


def _is_public(url: str) -> bool:
    """An address over HTTP that gives nothing away."""
    found = address.parse(url)
    return found is not None and found.way == "http" and "@" not in url and url.isascii()


def _source(headers: Mapping[str, str], push: Push) -> str:
    if push.ref:
        return f"a push of {pushes.short(push.ref)}" + (f" at {push.commit[:12]}" if push.commit else "")
    return "a signed message" + (f" {found}" if (found := headers.get(DELIVERY, "")) else "")


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= 1024 else ""
