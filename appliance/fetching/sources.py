"""What of an integration or of a repository is fetched, as the files of the program that does it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from appliance.errors import UsageError
from appliance.fetching import git, s3
from appliance.fetching.git import Checkout
from appliance.spec import address
from appliance.spec.models import Clone, Integration

TARGET = "/content"
"""Where a program finds the folder that it fills."""
FETCHED = ("git-lfs", "s3", "spaces")
"""Types of integrations that are fetched; the others are volumes and versions that are here."""

ASKS = "set `username` and `password: secret:NAME` beside its `url`"

Source = Integration | Clone
Reveal = Callable[[str], str]
"""The value of a secret for `secret:NAME`, any other text as it is."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """What runs. `files` hold credentials."""

    image: str
    program: str
    files: dict[str, str]


def fetch_of(source: Source, reveal: Reveal) -> Fetch:
    """Raises UsageError, and what `reveal` raises for an unknown secret."""
    if isinstance(source, Clone):
        return _git(source.url, source.ref, reveal(source.username), reveal(source.password))
    if source.type == "git-lfs":
        return _git(source.url, source.ref, reveal(source.username), reveal(source.password))
    if source.type == "s3":
        bucket, prefix = s3.address_of(source.url)
        endpoint = s3.endpoint_of(source.endpoint)
    elif source.type == "spaces":
        endpoint, bucket, prefix = s3.spaces_of(source.endpoint)
    else:
        raise UsageError(f"an integration of type {source.type} is not fetched")
    files = s3.files_of(
        bucket,
        prefix,
        region=source.region,
        endpoint=endpoint,
        target=TARGET,
        access_key=reveal(source.access_key),
        secret_access_key=reveal(source.secret_key),
    )
    return Fetch(s3.IMAGE, s3.PROGRAM, files)


def shown(source: Source) -> str:
    """For people; without credentials."""
    if isinstance(source, Integration) and source.type in ("s3", "spaces"):
        return source.url or source.endpoint
    return address.shown(source.url)


def key_of(source: Source, owner: str, epoch: int) -> str:
    """Equal where the same has to be fetched, for the same owner, and not afresh: 16 hex digits.

    `epoch` grows whenever what was fetched before is not to be used.
    """
    # where it is mounted changes nothing of what is in it, but for the link beside it
    document = [owner, epoch, type(source).__name__, link_of(source), source.model_dump(mode="json", exclude={"path"})]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def link_of(source: Source) -> str:
    """The name under which the content is found once more below its own path; empty where that ends with the name.

    Gradient's page says that the content is at PATH/NAME, its template that it is at PATH.
    """
    if isinstance(source, Clone) or source.path.rstrip("/").rpartition("/")[2] == source.name:
        return ""
    return source.name


def _git(url: str, ref: str, username: str, password: str) -> Fetch:
    found = address.parse(url)
    if found is None or found.way not in ("http", "git"):
        raise UsageError(
            f"`url` is no address of a server: {address.shown(url)}", hint="use one that begins with https://"
        )
    checkout = Checkout(
        url=found.url,
        ref=ref,
        target=TARGET,
        username=found.username,
        password=found.password,
        origin=found.origin,
        way=found.way,
    )
    return Fetch(git.IMAGE, git.PROGRAM, git.files_of(checkout, username, password, lean=True, asks=ASKS))
