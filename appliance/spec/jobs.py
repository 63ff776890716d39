"""One job: its keys, inputs and outputs. What it refers to in other jobs is checked in `links`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from appliance.spec.actions import read_action
from appliance.spec.env import read_env_map
from appliance.spec.fields import Fields, read_text
from appliance.spec.models import Action, Alias, Output, Value
from appliance.spec.names import PART, PART_RULE
from appliance.spec.problems import Mark, Problems, quoted
from appliance.spec.refs import ALIAS_RULE, check_dataset, parse_alias
from appliance.spec.tree import Node

TYPES = ("dataset", "string", "volume")
ValueType = Literal["dataset", "string", "volume"]
MAX_TIMEOUT_S = 1e8

_JOB_HINTS = {
    "steps": "Gradient has no steps: write `uses: script@v1` with one script",
    "runs-on": "write `resources: {instance-type: ...}`",
    "machine": "write `resources: {instance-type: ...}`",
    "instance-type": "write `resources: {instance-type: ...}`",
    "container": "the image goes to `with.image`",
    "image": "write it under `with`",
    "script": "write it under `with`",
    "args": "write it under `with`",
    "command": "write it under `with`",
    "if": "Gradient has no conditions; let the script decide",
    "strategy": "Gradient has no matrix; write one job each",
    "name": "the job's key is its name",
}


@dataclass(slots=True)
class Reading:
    """A job as written, with the places that `links` needs."""

    name: str
    path: str
    mark: Mark
    action: Action | None
    env: dict[str, str]
    needs: dict[str, tuple[str, Mark]]
    """Job -> path and place of its mention."""
    inputs: dict[str, Alias | Value]
    input_marks: dict[str, Mark]
    outputs: dict[str, Output]
    machine: str
    timeout_s: float | None


def read_job(name: str, path: str, mark: Mark, node: Node, problems: Problems) -> Reading:
    check_part(name, path, mark, problems, what="a job")
    fields = Fields(node, path, problems)
    outputs = _outputs(fields)
    inputs, input_marks = _inputs(fields)
    reading = Reading(
        name=name,
        path=path,
        mark=mark,
        action=read_action(fields, {**_shared_volumes(inputs), **outputs}) if isinstance(node.value, dict) else None,
        env=read_env_map(fields),
        needs=_needs(fields),
        inputs=inputs,
        input_marks=input_marks,
        outputs=outputs,
        machine=_machine(fields),
        timeout_s=read_timeout(fields),
    )
    fields.close(_JOB_HINTS)
    return reading


def _shared_volumes(inputs: Mapping[str, Alias | Value]) -> dict[str, Output]:
    """Volumes that a checkout fills in the dialect of 2021; `links` refuses them, and once is enough."""
    return {name: Output(type="volume") for name, value in inputs.items() if value.type == "volume"}


def check_part(name: str, path: str, mark: Mark, problems: Problems, *, what: str) -> None:
    if not PART.fullmatch(name):
        problems.error(mark, path, f"{quoted(name)} cannot be the name of {what}", PART_RULE)


def read_timeout(fields: Fields) -> float | None:
    """Seconds; Gradient leaves the unit open."""
    if fields.node("timeout") is None:
        return None
    seconds = fields.number("timeout", default=1.0, most=MAX_TIMEOUT_S)
    if seconds == 0:
        fields.error("timeout", "must be more than 0 seconds")
    return seconds


def read_value(node: Node, path: str, problems: Problems, *, default_needed: bool) -> Value:
    """A workflow input, or an inline job input (`default_needed`)."""
    fields = Fields(node, path, problems)
    kind = fields.choice("type", TYPES, required=True, default="string")
    optional = fields.flag("optional")
    required = default_needed and kind != "volume" and "type" in fields and not _misplaced(fields)
    given = fields.map("with", required=required, hint=_with_hint(kind))
    ref, value = "", None
    if given is not None and kind == "string":
        value = given.text("value", required=True, empty=True)
    elif given is not None and kind == "dataset":
        ref = _ref(given)
    if given is not None:
        given.close()
    fields.close(
        {
            "default": f"write {_with_hint(kind)}",
            "required": "write `optional: true` for an input that may be missing",
            "description": "write a comment",
            "ref": "write `with: {ref: ...}`",
            "id": "write `with: {ref: ...}`",
            "value": "write `with: {value: ...}`",
        }
    )
    return Value(type=cast(ValueType, kind), ref=ref, value=value, optional=optional)


def _misplaced(fields: Fields) -> bool:
    """What belongs under `with` is beside it, which is noted as an unknown key."""
    return any(key in fields for key in ("ref", "id", "value"))


def _with_hint(kind: str) -> str:
    return "`with: {ref: NAME}`" if kind == "dataset" else "`with: {value: TEXT}`"


def _ref(given: Fields, *, output: bool = False) -> str:
    """`ref`, or `id` as older files have it."""
    key = "id" if "id" in given and "ref" not in given else "ref"
    ref = given.text(key, required=True, hint="the dataset's name")
    if key == "ref" and given.node("id") is not None:
        given.error("id", "the dataset is named by `ref` already", "remove `id`")
    given.node("id" if key == "ref" else "ref")
    if node := given.node(key):
        check_dataset(ref, node.mark, given.at(key), given.problems, output=output)
    return ref


def _inputs(job: Fields) -> tuple[dict[str, Alias | Value], dict[str, Mark]]:
    inputs: dict[str, Alias | Value] = {}
    marks: dict[str, Mark] = {}
    found = job.map("inputs")
    for name, path, mark, node in found.entries() if found else ():
        check_part(name, path, mark, job.problems, what="an input")
        marks[name] = node.mark
        if not isinstance(node.value, str):
            inputs[name] = read_value(node, path, job.problems, default_needed=True)
            continue
        text = read_text(node, path, job.problems)
        if alias := parse_alias(text):
            inputs[name] = alias
        elif text:
            job.problems.error(node.mark, path, f"{quoted(text)} is neither an input nor an output", ALIAS_RULE)
    return inputs, marks


def _outputs(job: Fields) -> dict[str, Output]:
    outputs: dict[str, Output] = {}
    found = job.map("outputs")
    for name, path, mark, node in found.entries() if found else ():
        check_part(name, path, mark, job.problems, what="an output")
        fields = Fields(node, path, job.problems, what="a map such as {type: volume}")
        kind = fields.choice("type", TYPES, required=isinstance(node.value, dict), default="string")
        ref = ""
        if kind == "dataset":
            given = fields.map("with", required=not _misplaced(fields), hint=_with_hint(kind))
            if given is not None:
                ref = _ref(given, output=True)
                given.close()
        fields.close(_output_hints(kind))
        outputs[name] = Output(type=cast(ValueType, kind), ref=ref)
    return outputs


def _output_hints(kind: str) -> Mapping[str, str]:
    if kind == "dataset":
        return {"ref": "write `with: {ref: NAME}`", "id": "write `with: {ref: NAME}`"}
    return {"with": f"a {kind} output needs no `with`; a dataset does: `type: dataset`"}


def _needs(job: Fields) -> dict[str, tuple[str, Mark]]:
    needs: dict[str, tuple[str, Mark]] = {}
    for path, node in job.items("needs", what="a list of jobs", hint="such as `needs: [prepare]`"):
        name = read_text(node, path, job.problems)
        if name:
            needs.setdefault(name, (path, node.mark))
    return needs


def _machine(job: Fields) -> str:
    resources = job.map("resources")
    if resources is None:
        return ""
    machine = resources.text("instance-type")
    registries = "allowed under `defaults.resources` only"
    resources.close({"container-registries": registries})
    return machine
