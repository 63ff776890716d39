"""Registered models."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


class Model(TypedDict):
    id: str
    name: str
    type: str
    dataset: str
    version: str
    run: str
    created: float


class ModelRequest(TypedDict):
    name: str
    type: NotRequired[str]
    ref: str
    """The dataset version that it is."""
