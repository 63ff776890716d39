"""Secrets; their values go one way only."""

from __future__ import annotations

from typing_extensions import TypedDict


class Secret(TypedDict):
    name: str
    updated: float


class SecretRequest(TypedDict):
    value: str
