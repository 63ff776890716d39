"""The route table: which path goes to which servers. Plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One server of a route, reachable on 127.0.0.1."""

    id: str
    """Stable for the life of the container, such as its short id."""
    port: int


@dataclass(frozen=True, slots=True)
class Route:
    """`prefix` is `/notebooks/NAME` or `/deployments/NAME`; requests to it and below go to the targets in turn."""

    prefix: str
    targets: Sequence[Target]
    """Ready servers only. Empty: the waiting page answers."""
    strip: bool
    """Take the prefix off before the request is passed on; `X-Forwarded-Prefix` always tells it."""
