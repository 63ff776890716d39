"""Actions that Gradient does not have: deploy@v1 and notebook@v1."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from appliance.spec.deployment import read_deployment
from appliance.spec.fields import Fields, read_two_ways
from appliance.spec.models import Alias, DeployAction, NotebookAction, Output, Value
from appliance.spec.names import NAME, NAME_RULE
from appliance.spec.problems import Problems, quoted
from appliance.spec.refs import check_image
from appliance.spec.tree import Node, child_path, item_path, to_plain

OWN = {
    "deploy@v1": "write a script@v1 job that calls `gradient deployments update`",
    "notebook@v1": "write a script@v1 job that calls papermill",
}
"""Action -> what to write for Gradient."""
LEAST_READY_S, MOST_READY_S = 1.0, 86_400.0
_FILLABLE = ("volume", "dataset")
LONGEST_PARAMETER = 255
"""Characters of its name."""
_NUMBER_OF_12 = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|0o[0-7]+", re.ASCII)
_KERNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_ENDING = ".ipynb"


def read_deploy(fields: Fields, inputs: Mapping[str, Alias | Value], outputs: Mapping[str, Output]) -> DeployAction:
    """What the input `model` must be is checked in `links`."""
    name = fields.text("name", required=True, hint="of the deployment")
    if name and not NAME.fullmatch(name):
        fields.error("name", f"{quoted(name)} cannot be the name of a deployment", f"use {NAME_RULE}")
    path = fields.text("path", default=DeployAction(name="x").path)
    if not _plain_path(path):
        fields.error("path", f"{quoted(path)} is not an absolute path below /", "such as /opt/models/mine")
    default_s = DeployAction(name="x").ready_s
    ready_s = fields.seconds("timeout", default=default_s, least=LEAST_READY_S, most=MOST_READY_S)
    for output, value in outputs.items():
        if output != "endpoint" or value.type != "string":
            where = child_path(f"{fields.path.removesuffix('.with')}.outputs", output)
            fields.problems.error(fields.mark, where, "deploy@v1 has one output: `endpoint` of type string")
    return DeployAction(name=name, spec=_deployment(fields, name), path=path, ready_s=ready_s)


def _deployment(fields: Fields, name: str) -> dict[str, Any]:
    spec = fields.map("spec", what="a deployment's document", hint="such as `spec: {image: ..., resources: ...}`")
    node = fields.node("spec")
    if spec is None or node is None:
        return {}
    for key, meaning in (("kind", "deployment"), ("name", name)):
        said = spec.node(key)
        if said is not None and said.value != meaning:
            spec.error(key, f"must be {quoted(meaning)} here", "or remove it")
    read_deployment(name, node, fields.problems, spec.path)
    found: dict[str, Any] = to_plain(node)
    return found


def read_notebook_action(
    fields: Fields, inputs: Mapping[str, Alias | Value], outputs: Mapping[str, Output]
) -> NotebookAction:
    image, kernel = fields.text("image"), fields.text("kernel")
    if node := fields.node("image"):
        check_image(image, node.mark, fields.at("image"), fields.problems)
    if kernel and not _KERNEL.fullmatch(kernel):
        fields.error("kernel", f"{quoted(kernel)} is not the name of a kernel", "such as python3")
    return NotebookAction(
        notebook=_notebook(fields, inputs),
        image=image,
        parameters=_parameters(fields),
        kernel=kernel,
        path=_executed(fields, outputs),
    )


def _notebook(fields: Fields, inputs: Mapping[str, Alias | Value]) -> str:
    path = fields.text("notebook", required=True, hint="such as /inputs/repo/train.ipynb")
    if not path:
        return path
    parts = path.strip("/").split("/")
    if not _plain_path(path) or not path.endswith(_ENDING):
        hint = "such as /inputs/repo/train.ipynb"
        fields.error("notebook", f"{quoted(path)} is not the absolute path of an .ipynb file", hint)
    elif parts[0] == "inputs" and (len(parts) < 3 or parts[1] not in inputs):
        hint = fields.problems.nearest(parts[1], inputs) or f"declare `inputs: {{{parts[1]}: JOB.outputs.NAME}}`"
        fields.error("notebook", f"{quoted(parts[1])} is not an input of this job", hint)
    return path


def _executed(fields: Fields, outputs: Mapping[str, Output]) -> str:
    """Where the executed notebook goes; empty: into the one output that can be meant."""
    names = [name for name, output in outputs.items() if output.type in _FILLABLE]
    path = fields.text("path")
    if "path" not in fields:
        if len(names) > 1:
            example = f"/outputs/{names[0]}/executed{_ENDING}"
            fields.missing("path", f"this job has {len(names)} outputs: write `path: {example}`")
        elif not names:
            hint = "add `outputs: {executed: {type: volume}}` to the job"
            message = "has no volume or dataset output that could hold the executed notebook"
            fields.problems.error(fields.mark, fields.path.removesuffix(".with"), message, hint)
        return path
    parts = path.strip("/").split("/")
    if not path:
        return path
    if not _plain_path(path) or parts[0] != "outputs" or len(parts) < 3 or not path.endswith(_ENDING):
        hint = f"such as /outputs/{(names or ['NAME'])[0]}/executed{_ENDING}"
        fields.error("path", f"{quoted(path)} is not the path of an .ipynb file in an output", hint)
    elif parts[1] not in names:
        hint = fields.problems.nearest(parts[1], names) or f"declare `outputs: {{{parts[1]}: {{type: volume}}}}`"
        fields.error("path", f"{quoted(parts[1])} is not a volume or dataset output of this job", hint)
    return path


def _parameters(fields: Fields) -> dict[str, Any]:
    """Values as JSON has them; they are written into the notebook."""
    found = fields.map("parameters", what="a map of names to values", hint="such as `parameters: {epochs: 3}`")
    values: dict[str, Any] = {}
    known: dict[str, str] = {}
    for name, path, mark, node in found.entries() if found else ():
        if not name.isidentifier() or keyword.iskeyword(name) or len(name) > LONGEST_PARAMETER:
            hint = "a name of Python: letters, digits and `_`, not starting with a digit, and no keyword"
            fields.problems.error(mark, path, f"{quoted(name)} is not a variable's name", hint)
        first = known.setdefault(unicodedata.normalize("NFKC", name), name)  # Python takes these for one name
        if first != name:
            fields.problems.error(mark, path, f"{quoted(name)} is the same variable as {quoted(first)}", "keep one")
        _check_parameter(node, path, fields.problems)
        values[name] = to_plain(node)
    return values


def _check_parameter(node: Node, path: str, problems: Problems) -> None:
    """`MAX_DEPTH` bounds the recursion."""
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            _check_parameter(child, child_path(path, key), problems)
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            _check_parameter(child, item_path(path, index), problems)
    elif isinstance(node.value, str):
        other = "a number" if _NUMBER_OF_12.fullmatch(node.plain) else read_two_ways(node.plain)
        if node.plain and other:
            hint = f'write "{node.value}" for the text'
            if other == "a number" and _NUMBER_OF_12.fullmatch(node.plain) and "o" not in node.plain:
                hint += f", {_for_both(node.plain)} for the number"
            problems.error(node.mark, path, f"can be read as a text and as {other}", hint)
        elif node.value.lower().startswith("secret:"):
            message = "a secret would stand in the executed notebook"
            problems.error(node.mark, path, message, "set it in `env`, and read the variable in the notebook")


def _for_both(plain: str) -> str:
    """A number that YAML 1.1 and 1.2 both take for one: with a point, and a sign in the exponent."""
    text = repr(float(plain))
    return text if "." in text else text.replace("e", ".0e")


def _plain_path(path: str) -> bool:
    parts = path.strip("/").split("/")
    return path.startswith("/") and not {"", ".", ".."} & set(parts) and path.isprintable()
