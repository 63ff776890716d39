"""The spec of a notebook that is stored, read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.spec.load import parse
from appliance.spec.models import Notebook
from appliance.state.resources import Resource


def read(name: str, document: Mapping[str, Any], default_image: str) -> Notebook:
    """The image filled in. Raises SpecError."""
    spec = parse("notebook", name, document)
    assert isinstance(spec, Notebook)
    return spec if spec.image else spec.model_copy(update={"image": default_image})


def wanted(notebook: Resource, default_image: str) -> Notebook | None:
    """None where no session is wanted, so that a spec gone bad can be deleted. Raises SpecError."""
    if notebook.deleting or notebook.desired != "running":
        return None
    return read(notebook.name, notebook.spec, default_image)
