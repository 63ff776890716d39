"""How a dataset version is named: `[namespace/]NAME_OR_ID[:VERSION_OR_TAG]`, and the ids themselves.

A dataset's id is `ds` and 13 characters of 0-9 and a-z: its resource uid (16 hex digits) written in base 36. A version
id is 7 such characters, a model's `mo` and 13. Pure.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass

from appliance.errors import UsageError
from appliance.spec.names import NAME, NAME_RULE

LATEST = "latest"
_DIGITS = string.digits + string.ascii_lowercase
_NAME = NAME.pattern
_REF = re.compile(rf"(?:(?P<namespace>{_NAME})/)?(?P<name>{_NAME})(?::(?P<version>{_NAME}))?", re.ASCII)
_ID = re.compile(r"ds[0-9a-z]{13}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ref:
    namespace: str
    """Read and kept, but it selects nothing: one machine has one namespace. Empty where none is given."""
    name: str
    """Name or id of a dataset."""
    version: str
    """Version id or tag; empty stands for the version that was committed last, like `latest`."""

    def __str__(self) -> str:
        namespace = f"{self.namespace}/" if self.namespace else ""
        version = f":{self.version}" if self.version else ""
        return f"{namespace}{self.name}{version}"

    @property
    def is_latest(self) -> bool:
        return self.version in ("", LATEST)


def parse_ref(text: str) -> Ref:
    """Raises UsageError."""
    match = _REF.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a dataset reference",
            hint=f"write NAME, NAME:VERSION, NAME:TAG or NAME:latest; a name is {NAME_RULE}",
        )
    return Ref(match["namespace"] or "", match["name"], match["version"] or "")


def dataset_id(uid: str) -> str:
    """`ds…` for a resource uid of 16 hex digits. Different uids have different ids."""
    return f"ds{_base36(int(uid, 16), 13)}"


def dataset_uid(text: str) -> str | None:
    """The resource uid behind an id; None: the text is no id."""
    if not _ID.fullmatch(text):
        return None
    number = int(text[2:], 36)
    return f"{number:016x}" if number < 2**64 else None


def random_id(length: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(length))


def derived_id(length: int, *parts: str) -> str:
    """The same id for the same parts, so that what is begun twice is the same thing."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return _base36(int.from_bytes(digest), length)


def _base36(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
