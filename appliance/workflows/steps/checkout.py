"""What `git-checkout@v1` clones, from where and into which directory. Pure; `inside.git_checkout` does it.

From a server over https, http or git. One of this machine (an absolute path) or over SSH is cloned where the address
came by the event and is that of the run's `own_repository`: the first is bound into the container, read-only, and for
the second `password` is a private key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.errors import UsageError
from appliance.spec import address
from appliance.spec.address import Address, Way
from appliance.spec.models import GitCheckoutAction, Job
from appliance.spec.refs import EVENT_URL
from appliance.workflows.steps import inside
from appliance.workflows.steps.local import Place
from appliance.workflows.steps.targets import target_of

IMAGE = "appliance/base"
FILES = "/run/appliance"
"""Where a job's private files are mounted."""
TOLD = "/run/appliance-told"
"""Where a program of ours leaves words for the daemon, which nobody else can read."""
COMMIT_FILE = "commit"
BOUND = "/run/appliance-repository"
"""Where a repository of this machine is bound."""
GIT_CONFIG, SSH_KEY, SSH_KNOWN = ".gitconfig", "ssh-key", "ssh-known-hosts"
"""Private files that are there beside the program's own, for the one way and for the other."""
PROTOCOLS = ("https", "http", "git")
DEFAULT_USER = "x-access-token"
"""Goes with a token where no user name is given; the large forges accept any."""
OLD_USER, OLD_PASSWORD = "GIT_USERNAME", "GIT_PASSWORD"
"""Variables of the job that held the credentials in the dialect of 2021."""

COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
"""A whole commit hash as git prints it."""
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<plain>[A-Za-z_][A-Za-z0-9_]*))")
_EVENT = re.compile(r"context\.event\.github\.(?P<field>url|ref)")


@dataclass(frozen=True, slots=True)
class Checkout:
    url: str
    """Without credentials: it is written into the repository."""
    ref: str
    """Branch, tag or commit; empty: the default branch."""
    target: str
    """Directory in the container."""
    username: str = ""
    """From the address, as is the password; empty where it has none."""
    password: str = field(default="", repr=False)
    origin: str = ""
    """`scheme://host[:port]`: the only server that is given the credentials; empty for one of this machine or SSH."""
    way: Way = "http"


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


def files_of(
    checkout: Checkout,
    username: str,
    password: str,
    *,
    commit: str = "",
    place: Place | None = None,
    known_hosts: str = "",
) -> dict[str, str]:
    """File name -> content for the private mount. Raises UsageError for credentials that git cannot carry.

    `commit`: what the ref meant in the run that this one repeats, and what is checked out in its place. A ref that is
    a commit itself needs none. `place`: what is bound at `BOUND`, for a repository of this machine.
    `known_hosts`: the keys of a server over SSH: one with another key is refused.
    """
    more: dict[str, str] = {}
    if checkout.way == "local":
        if place is None:
            raise UsageError(f"`url` is a path of this machine that this job is not given: {checkout.url}")
        username = password = ""
        more = {GIT_CONFIG: "[safe]\n\tdirectory = *\n"}
    elif checkout.way == "ssh":
        more = {SSH_KEY: password.strip() + "\n", SSH_KNOWN: known_hosts}
        username = password = ""
    if not username and not password:
        username, password = checkout.username, checkout.password
        if username and not password:  # `https://TOKEN@host/...`
            username, password = "", username
    if re.search(r"[\x00\r\n]", username + password):
        raise UsageError("user name and password must be one line each", hint="set the secret again without a line end")
    request = {
        "url": checkout.url,
        "ref": checkout.ref,
        "commit": "" if COMMIT.fullmatch(checkout.ref.lower()) else commit,
        "told": f"{TOLD}/{COMMIT_FILE}",
        "target": checkout.target,
        "origin": checkout.origin,
        "protocols": ":".join((*PROTOCOLS, "ssh") if checkout.way == "ssh" else PROTOCOLS),
        "bound": {"path": BOUND, "device": place.device, "inode": place.inode} if place else None,
        "username": username or DEFAULT_USER,
        "password": password,
    }
    return inside.files_of("git_checkout", request) | more


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
