"""YAML out, and the small YAML and JSON files beside specs in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from appliance.errors import NotFound, SpecError, UsageError
from appliance.spec.given import check_given
from appliance.spec.jsonc import read_json
from appliance.spec.tree import MAX_BYTES, to_plain
from appliance.spec.yaml import read_yaml

_STR = "tag:yaml.org,2002:str"
_UNFOLDED = 10**9
"""Characters of a line."""


class _Blocks(SafeRepresenter):
    """Text of several lines is a block, unless a character in it would not be seen there."""

    def block(self, text: str) -> ScalarNode:
        seen = all(line.replace("\t", "").isprintable() for line in text.split("\n"))
        node: ScalarNode = self.represent_scalar(_STR, text, style="|" if "\n" in text and seen else None)
        return node


_Blocks.add_representer(str, _Blocks.block)


def to_yaml(value: Any) -> str:
    """Block style, keys in the order given."""
    return _dump(YAML(typ="safe", pure=True), value)


def to_blocks(value: Any) -> str:
    """As `to_yaml`, for a diff: each script is a block, no line is folded, so a changed line changes one line of it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Blocks
    yaml.width = _UNFOLDED
    return _dump(yaml, value)


def _dump(yaml: YAML, value: Any) -> str:
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def read_mapping(path: Path) -> dict[str, Any]:
    """A file of run inputs: one YAML or JSON mapping of input names, wrapped in `inputs:` or not.

    Under the same limits as a spec, and each value in a form that some input can have. Raises NotFound, UsageError.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotFound(f"cannot be read: {error.strerror}", where=str(path)) from None
    if len(content) > MAX_BYTES:
        raise UsageError(f"larger than {MAX_BYTES} bytes", where=str(path))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("the file is not UTF-8 text", where=str(path)) from None
    if path.suffix.lower() in (".json", ".jsonc"):
        documents = read_json(text, str(path), comments=path.suffix.lower() == ".jsonc")
    else:
        documents = read_yaml(text, str(path))
    if problems := [problem for document in documents for problem in document.problems.in_order()]:
        raise SpecError(problems)
    root = documents[0].root if len(documents) == 1 else None
    if root is None or not isinstance(root.value, dict):
        raise UsageError("must be a mapping of input names", where=str(path), hint='such as {"seed": {"value": "7"}}')
    check_given(root, documents[0].problems)
    if problems := list(documents[0].problems.in_order()):
        raise SpecError(problems)
    found: dict[str, Any] = to_plain(root)
    return found
