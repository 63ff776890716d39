"""Where a repository is, from its address: how git gets there, to which server, and what the address gives away. Pure.

One grammar for all who take one: a polled repository, a job's checkout, a signed message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from appliance.errors import UsageError

Way = Literal["http", "git", "ssh", "local"]

_PORTS = {"http": 80, "https": 443}
_ODD = re.compile(r"[\x00-\x20\x7f]")
_SCP = re.compile(r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?!/?/)(?P<path>[^-].*)")
_HOST = re.compile(r"[^-\s@/\\][^\s@/\\]*")
_SSH_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:_-]*")
_BEFORE_HOST = re.compile(r"(?P<scheme>(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?P<who>.*)@", re.DOTALL)
_USER = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Address:
    url: str
    """As git gets it, without credentials; of a repository on this machine the path."""
    way: Way
    scheme: str = ""
    host: str = ""
    path: str = ""
    username: str = ""
    """As the address has it; over SSH it stays in `url` too."""
    password: str = field(default="", repr=False)
    origin: str = ""
    """`scheme://host[:port]` over HTTP and git: the only server that is given the credentials."""
    port: int | None = None

    @property
    def protocols(self) -> str:
        """For GIT_ALLOW_PROTOCOL: a server cannot lead git to another kind of place."""
        return {"http": "https:http", "git": "git", "ssh": "ssh", "local": "file"}[self.way]

    @property
    def server(self) -> tuple[str, str, int] | None:
        """Scheme, host and port, to compare; None: it is no address over HTTP."""
        if self.way != "http":
            return None
        return self.scheme, self.host, _PORTS[self.scheme] if self.port is None else self.port


def parse(url: str) -> Address | None:
    """None: it is no address that git is given here."""
    if not url or _ODD.search(url) or url.startswith("-"):
        return None
    if url.startswith("/"):
        return Address(url, "local", path=url)
    if "://" not in url:
        found = _SCP.fullmatch(url)
        if found is None or "::" in url:
            return None
        return Address(url, "ssh", "ssh", found["host"], found["path"], found["user"] or "")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    scheme, path = parts.scheme, unquote(parts.path)
    if scheme == "file":
        local = not parts.netloc and path.startswith("/") and not _ODD.search(path.replace(" ", "_"))
        return Address(path, "local", scheme, path=path) if local else None
    netloc = parts.netloc.rpartition("@")[2]
    if not _HOST.fullmatch(host) or port == 0 or netloc.endswith(":"):
        return None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if scheme in ("http", "https", "git"):
        way: Way = "git" if scheme == "git" else "http"
        bare = urlunsplit(parts._replace(netloc=netloc))
        return Address(bare, way, scheme, host, parts.path, user, password, f"{scheme}://{netloc}", port)
    if scheme == "ssh" and _SSH_HOST.fullmatch(host) and (parts.username is None or _USER.fullmatch(user)):
        return Address(url, "ssh", scheme, host, parts.path, user, password, port=port)
    return None


def read(url: str) -> Address:
    """Of a repository that is polled; what opens it stands beside its address. Raises UsageError."""
    if not url or _ODD.search(url) or url.startswith("-"):
        raise UsageError(
            f"`url` is not an address: {shown(url)!r}", hint="such as https://example.com/team/project.git"
        )
    found = parse(url)
    if re.search(r"//[^/]*:[^/]*@", url):
        raise UsageError(
            "`url` holds a password",
            hint="write `username: NAME` and `password: secret:NAME`, and take it out of the address",
        )
    if found is None or found.way == "git":
        raise UsageError(
            f"`url` is no address that is polled: {shown(url)}",
            hint="https://HOST/PATH, http://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH or an absolute path",
        )
    if found.way == "http" and found.username:
        raise UsageError("`url` holds a user name", hint="write `username: NAME` beside it")
    return found


def shown(url: str) -> str:
    """Without what may be a password. In what is no address that may be anything before the last `@`."""
    if parse(url) is not None:
        return re.sub(r"//[^/]*@", "//…@", url)
    found = _BEFORE_HOST.match(url)
    if found is None or (found["scheme"] is None and ":" not in found["who"]):
        return url
    return f"{found['scheme'] or ''}…@{url[found.end() :]}"
