"""What `git-checkout@v1` clones, from where and into which directory. Pure; `fetching.inside.git_checkout` does it.

From a server over https, http or git. One of this machine (an absolute path) or over SSH is cloned where the address
came by the event and is that of the run's `own_repository`: the first is bound into the container, read-only, and for
the second `password` is a private key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from appliance.errors import UsageError
from appliance.fetching.git import PROTOCOLS, Checkout
from appliance.spec import address
from appliance.spec.address import Address
from appliance.spec.models import GitCheckoutAction, Job
from appliance.spec.refs import EVENT_URL
from appliance.workflows.steps.targets import target_of

OLD_USER, OLD_PASSWORD = "GIT_USERNAME", "GIT_PASSWORD"
"""Variables of the job that held the credentials in the dialect of 2021."""

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<plain>[A-Za-z_][A-Za-z0-9_]*))")
_EVENT = re.compile(r"context\.event\.github\.(?P<field>url|ref)")


def checkout_of(action: GitCheckoutAction, job: Job, env: Mapping[str, str], event: Mapping[str, str]) -> Checkout:
    """Raises UsageError that says what is wrong with the field."""
    url = _text("url", action.url, env, event)
    ref = _text("ref", action.ref, env, event) if action.ref else ""
    found = _address(url, from_event=action.url == EVENT_URL)
    if ref.startswith("-") or re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.", ref):
        raise UsageError(f"`ref` is not a branch, tag or commit: {ref!r}", hint="such as main, v1.2 or a commit's hash")
    target = target_of(action.path, job, "the repository")
    if found.way == "ssh" and not (action.password or env.get(OLD_PASSWORD)):
        told = f"`password` must be the private key that opens {address.shown(url)}"
        raise UsageError(told, hint="`password: secret:NAME`, the one that the repository is polled with")
    if found.way in ("local", "ssh"):
        return Checkout(url, ref, target, way=found.way)
    return Checkout(found.url, ref, target, found.username, found.password, found.origin, found.way)


def _text(field: str, text: str, env: Mapping[str, str], event: Mapping[str, str]) -> str:
    """The field with an event token or `$NAME` variables of the job replaced."""
    if token := _EVENT.fullmatch(text):
        value = event.get(token["field"], "")
        if not value:
            raise UsageError(
                f"`{field}` is {text}, and this run has no GitHub event",
                hint="write the address itself, or add `context.event.github` to the file",
            )
        return value

    def replace(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        if name not in env:
            raise UsageError(f"`{field}` uses ${name}, which the job's `env` does not set")
        return env[name]

    return _VARIABLE.sub(replace, text)


def _address(url: str, *, from_event: bool) -> Address:
    """Raises UsageError for what no job may clone from; it repeats no password."""
    found = address.parse(url)
    if found and (found.way in ("http", "git") or from_event):
        return found
    told = address.shown(url)
    declare = f"declare it (kind: repository), and write `{EVENT_URL}` in a workflow of its own"
    if found and found.way == "local":
        raise UsageError(f"`url` is a path, which a job may not choose: {told}", hint=declare)
    if found and found.way == "ssh":
        https = f"https://{found.host}/{found.path.lstrip('/')}"
        hint = f"use {https} with `username` and `password: secret:NAME`, or {declare}"
        raise UsageError(f"`url` is over SSH, which a job may not choose: {told}", hint=hint)
    hint = f"use one of {', '.join(f'{protocol}://' for protocol in PROTOCOLS)}"
    raise UsageError(f"`url` is no address that a job may clone from: {told!r}", hint=hint)
