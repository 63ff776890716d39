"""Where a dataset version or a model comes from, and what came of it."""

from __future__ import annotations

from typing_extensions import TypedDict

from appliance.wire.models import Model


class VersionReader(TypedDict):
    """A job that was given a version as an input."""

    run: str
    job: str
    phase: str
    made: list[str]
    """Dataset versions that it wrote, as `NAME:VERSION`."""


class Lineage(TypedDict):
    """Where a dataset version comes from, and what came of it."""

    ref: str
    run: str
    """`WORKFLOW.NUMBER` that made it; empty: a person put it."""
    job: str
    inputs: dict[str, str]
    """Of that job: input -> `NAME:VERSION`."""
    parent: str
    readers: list[VersionReader]
    children: list[str]
    """Branches, and versions that had it as their base."""
    models: list[Model]
    used_by: list[str]


class ModelLineage(TypedDict):
    """`run` registered it, and `inputs` are what that run was given; `version` is what it is."""

    model: Model
    run: str
    job: str
    inputs: dict[str, str]
    version: Lineage
