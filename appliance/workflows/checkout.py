"""What `git-checkout@v1` clones, from where and into which directory. Pure; `inside.git_checkout` does it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from appliance.errors import UsageError
from appliance.spec.models import GitCheckoutAction, Job
from appliance.workflows import inside
from appliance.workflows.targets import target_of

IMAGE = "appliance/base"
FILES = "/run/appliance"
"""Where a job's private files are mounted."""
TOLD = "/run/appliance-told"
"""Where a program of ours leaves words for the daemon, which nobody else can read."""
COMMIT_FILE = "commit"
PROTOCOLS = ("https", "http", "git")
DEFAULT_USER = "x-access-token"
"""Goes with a token where no user name is given; the large forges accept any."""
OLD_USER, OLD_PASSWORD = "GIT_USERNAME", "GIT_PASSWORD"
"""Variables of the job that held the credentials in the dialect of 2021."""

COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
"""A whole commit hash as git prints it."""
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<plain>[A-Za-z_][A-Za-z0-9_]*))")
_EVENT = re.compile(r"context\.event\.github\.(?P<field>url|ref)")
_SCP = re.compile(r"(?:[^/@\s]+@)?(?P<host>[A-Za-z0-9.-]+):(?P<path>[^\s]+)")
_USER = re.compile(r"(?<=://)[^/@\s]*@")


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
    password: str = ""

    @property
    def origin(self) -> str:
        """`scheme://host[:port]`: the only server that is given the credentials."""
        address = urlsplit(self.url)
        return f"{address.scheme}://{address.netloc}"


def checkout_of(action: GitCheckoutAction, job: Job, env: Mapping[str, str], event: Mapping[str, str]) -> Checkout:
    """Raises UsageError that says what is wrong with the field."""
    url = _text("url", action.url, env, event)
    ref = _text("ref", action.ref, env, event) if action.ref else ""
    _check_url(url)
    if ref.startswith("-") or re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.", ref):
        raise UsageError(f"`ref` is not a branch, tag or commit: {ref!r}", hint="such as main, v1.2 or a commit's hash")
    address = urlsplit(url)
    bare = urlunsplit(address._replace(netloc=address.netloc.rpartition("@")[2]))
    target = target_of(action.path, job, "the repository")
    return Checkout(bare, ref, target, unquote(address.username or ""), unquote(address.password or ""))


def files_of(checkout: Checkout, username: str, password: str, *, commit: str = "") -> dict[str, str]:
    """File name -> content for the private mount. Raises UsageError for credentials that git cannot carry.

    `commit`: what the ref meant in the run that this one repeats, and what is checked out in its place. A ref that is
    a commit itself needs none.
    """
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
        "protocols": ":".join(PROTOCOLS),
        "username": username or DEFAULT_USER,
        "password": password,
    }
    return inside.files_of("git_checkout", request)


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


def _check_url(url: str) -> None:
    shown = _USER.sub("***@", url)
    if re.search(r"[\x00-\x20\x7f]", url) or url.startswith("-"):
        raise UsageError(f"`url` is not an address: {shown!r}")
    try:
        address = urlsplit(url)
        well_formed = bool(address.hostname) and (address.port or 1) > 0
    except ValueError:
        raise UsageError(f"`url` is not an address: {shown!r}") from None
    if address.scheme in PROTOCOLS and well_formed:
        return
    hint = f"use one of {', '.join(f'{protocol}://' for protocol in PROTOCOLS)}"
    scp = _SCP.fullmatch(url)
    if address.scheme == "ssh" or (scp and "::" not in url and not address.scheme):
        host, path = (scp["host"], scp["path"]) if scp and address.scheme != "ssh" else (address.hostname, address.path)
        hint = f"use https://{host}/{str(path).lstrip('/')} with `username` and `password: secret:NAME`"
        raise UsageError(f"`url` needs an SSH key, which a job cannot be given: {shown}", hint=hint)
    raise UsageError(f"`url` has no protocol that a job may clone from: {shown}", hint=hint)
