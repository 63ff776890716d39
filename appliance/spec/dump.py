"""YAML out, and the small YAML and JSON files beside specs in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from appliance.errors import NotFound, UsageError

LARGEST_FILE = 1 << 20


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
    """A file of run inputs: YAML or JSON whose top level is a mapping, at most 1 MiB."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise NotFound(f"cannot be read: {error.strerror}", where=str(path)) from None
    if len(content) > LARGEST_FILE:
        raise UsageError("larger than 1 MiB", where=str(path))
    try:
        found = YAML(typ="safe", pure=True).load(content)
    except (YAMLError, ValueError) as error:
        raise UsageError(f"not valid YAML: {error}", where=str(path)) from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UsageError("must be a mapping of input names", where=str(path), hint='such as {"seed": {"value": "7"}}')
    return found
