"""YAML out, and the small YAML and JSON files beside specs in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from appliance.errors import NotFound, SpecError, UsageError
from appliance.spec.tree import MAX_BYTES, to_plain
from appliance.spec.yaml import read_yaml


def to_yaml(value: Any) -> str:
    """Block style, keys in the order given."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def read_mapping(path: Path) -> dict[str, Any]:
    """A file of run inputs: one YAML or JSON mapping, under the same limits as a spec."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotFound(f"cannot be read: {error.strerror}", where=str(path)) from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"larger than {MAX_BYTES} bytes", where=str(path))
    try:
        documents = read_yaml(content.decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise UsageError("the file is not UTF-8 text", where=str(path)) from None
    if problems := [problem for document in documents for problem in document.problems.in_order()]:
        raise SpecError(problems)
    found = to_plain(documents[0].root) if len(documents) == 1 and documents[0].root else None
    if not isinstance(found, dict):
        raise UsageError("must be a mapping of input names", where=str(path), hint='such as {"seed": {"value": "7"}}')
    return found
