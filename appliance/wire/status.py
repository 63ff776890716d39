"""The appliance as a whole."""

from __future__ import annotations

from typing_extensions import TypedDict

from appliance.wire.resources import SpecFile


class Part(TypedDict):
    """Health of one part of the appliance. `ok` False: `message` says what is wrong and the next step."""

    name: str
    ok: bool
    message: str


class Brief(TypedDict):
    """One line of what runs or failed."""

    kind: str
    name: str
    phase: str
    message: str
    since: float
    url: str


class Status(TypedDict):
    version: str
    instance: str
    home: str
    pid: int
    started: float
    now: float
    url: str
    parts: list[Part]
    counts: dict[str, dict[str, int]]
    """Plural kind -> phase -> number."""
    active: list[Brief]
    failed: list[Brief]
    """Newest failures of the last day."""
    broken_specs: list[SpecFile]
