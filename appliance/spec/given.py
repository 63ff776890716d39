"""The values that a run is given in a file, which knows their forms and not yet the workflow.

NAME: TEXT                                           either type
NAME: {value: TEXT}                                  a string
NAME: {ref: REF}, NAME: {id: REF}                    a dataset
NAME: {type: T, optional: false, with: {...}}        the long form of each
"""

from __future__ import annotations

from appliance.spec.fields import Fields, describe
from appliance.spec.problems import Problems
from appliance.spec.refs import check_dataset
from appliance.spec.tree import Node

_TYPES = ("dataset", "string")
_KEYS = ("value", "ref", "id")
_HINT = "a text, {value: TEXT}, or {ref: DATASET} for a dataset"
_HINTS = {"default": "write `value`", "path": "a dataset is given by `ref`", "version": "write `ref: NAME:VERSION`"}


def check_given(root: Node, problems: Problems) -> None:
    """Notes every value that no input can take."""
    inputs = Fields(root, "", problems)
    inner = inputs.node("inputs")
    alone = isinstance(root.value, dict) and len(root.value) == 1
    if inner and alone and isinstance(inner.value, dict) and not _is_value(inner):
        inputs = Fields(inner, "inputs", problems)
    for _, path, _, node in inputs.entries():
        _check(node, path, problems)


def _is_value(node: Node) -> bool:
    """Whether this map is the value of an input that is called `inputs`, not the inputs themselves."""
    entries = node.value if isinstance(node.value, dict) else {}
    return any(key in entries and not isinstance(entries[key].value, dict) for key in (*_KEYS, "type"))


def _check(node: Node, path: str, problems: Problems) -> None:
    if isinstance(node.value, str):
        return
    if not isinstance(node.value, dict):
        quote = f'quote it: "{node.plain}"' if node.plain and node.value is not None else _HINT
        problems.error(node.mark, path, f"must be a value, not {describe(node)}", quote)
        return
    value = Fields(node, path, problems)
    kind = value.choice("type", _TYPES)
    value.flag("optional")
    if "with" in value:
        if (inner := value.map("with", hint=_HINT)) is not None:
            _check_text(inner, kind)
            inner.close(_HINTS)
    else:
        _check_text(value, kind)
    value.close(_HINTS)


def _check_text(fields: Fields, kind: str) -> None:
    wanted = {"string": ("value",), "dataset": ("ref", "id")}.get(kind, _KEYS)
    given = [key for key in wanted if fields.node(key) is not None]
    if len(given) != 1:
        what = " or ".join(f"`{key}`" for key in wanted)
        message = f"must have {what}" if not given else f"must have one of {what}"
        fields.problems.error(fields.mark, fields.path, message, _HINT)
    for key in given:
        text = fields.text(key, empty=key == "value")
        if key != "value" and (node := fields.node(key)):
            check_dataset(text, node.mark, fields.at(key), fields.problems)
