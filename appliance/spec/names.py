"""Names: of resources, which become paths, labels and container names, and of the parts of a spec."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from appliance.errors import UsageError
from appliance.spec.problems import printable, quoted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
"""A resource's name. Match the whole text."""
PART = re.compile(r"[A-Za-z0-9_-]{1,63}", re.ASCII)
"""A job, an input, an output: a path segment, and a word of `JOB.outputs.NAME`, so without dots."""
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}", re.ASCII)

NAME_RULE = "1 to 63 of the letters a-z and A-Z, digits, `.`, `_` and `-`, starting with a letter or digit"
PART_RULE = "use 1 to 63 of the letters a-z and A-Z, digits, `_` and `-`"

_OUTSIDE = re.compile(r"-*[^A-Za-z0-9._-]+(?:-+[^A-Za-z0-9._-]+)*-*", re.ASCII)
_LONGEST = 63
_DIGEST = 8


def check_name(kind: str, name: str) -> None:
    """Raises UsageError unless `name` is a resource's name as it stands."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{quoted(printable(name))} cannot be the name of a {kind}", hint=f"use {NAME_RULE}")


def slug(name: str) -> str:
    """The resource name for a free text, such as a deployment's name in Gradient or a file's stem: `a b/c` is `a-b-c`.

    A long one is cut and told apart by a digest. Raises UsageError for a name that reads like a path (`../x`) or has
    no letter or digit.
    """
    if NAME.fullmatch(name):
        return name
    shown = quoted(printable(name))
    if name.startswith("/") or "\\" in name or any(part in (".", "..") for part in name.split("/")):
        raise UsageError(f"{shown} cannot be a name: it reads like a path", hint=f"use {NAME_RULE}")
    if not name.isprintable():
        raise UsageError(f"{shown} cannot be a name: it has control characters", hint=f"use {NAME_RULE}")
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    short = _OUTSIDE.sub("-", plain).strip("-._")
    if len(short) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]
        short = f"{short[: _LONGEST - _DIGEST - 1]}-{digest}"
    if not NAME.fullmatch(short):
        raise UsageError(f"{shown} cannot be a name", hint=f"use {NAME_RULE}")
    return short
