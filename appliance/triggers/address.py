"""Where a repository is, from its `url`: what git is allowed to speak, and who gets the credentials. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from appliance.errors import UsageError

Way = Literal["http", "ssh", "local"]

_SCP = re.compile(r"(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?!/?/)(?P<path>[^-].*)")
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:_-]*")
_USER = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Address:
    url: str
    """As git gets it; there is no password in it."""
    way: Way
    origin: str = ""
    """`scheme://host[:port]` over HTTP: the only server that is given the credentials."""

    @property
    def protocols(self) -> str:
        """For GIT_ALLOW_PROTOCOL: a server cannot lead git to another kind of place."""
        return {"http": "https:http", "ssh": "ssh", "local": "file"}[self.way]


def read(url: str) -> Address:
    """Raises UsageError that says what is wrong."""
    if not url or re.search(r"[\x00-\x20\x7f]", url) or url.startswith("-"):
        raise UsageError(
            f"`url` is not an address: {_shown(url)!r}", hint="such as https://example.com/team/project.git"
        )
    if url.startswith("/"):
        return Address(url, "local")
    if "://" not in url:
        if "::" not in url and _SCP.fullmatch(url):
            return Address(url, "ssh")
        raise _unknown(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _unknown(url) from None
    if parts.password is not None:
        raise UsageError(
            "`url` holds a password",
            hint="write `username: NAME` and `password: secret:NAME`, and take it out of the address",
        )
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return Address(unquote(parts.path), "local")
    if not _HOST.fullmatch(host):
        raise _unknown(url)
    if parts.scheme in ("http", "https"):
        if parts.username is not None:
            raise UsageError("`url` holds a user name", hint="write `username: NAME` beside it")
        shown = f"[{host}]" if ":" in host else host
        return Address(url, "http", f"{parts.scheme}://{shown}{f':{port}' if port else ''}")
    if parts.scheme == "ssh" and (parts.username is None or _USER.fullmatch(parts.username)):
        return Address(url, "ssh")
    raise _unknown(url)


def _unknown(url: str) -> UsageError:
    return UsageError(
        f"`url` is no address that is polled: {_shown(url)}",
        hint="https://HOST/PATH, http://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH or an absolute path",
    )


def _shown(url: str) -> str:
    """Without what may be a password."""
    return re.sub(r"//[^/]*@", "//…@", url)
