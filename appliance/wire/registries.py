"""Logins at image registries; their passwords go one way only."""

from __future__ import annotations

from typing_extensions import TypedDict


class Registry(TypedDict):
    name: str
    url: str
    username: str
    updated: float


class RegistryRequest(TypedDict):
    url: str
    username: str
    password: str
