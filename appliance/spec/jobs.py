"""One job: its keys, inputs and outputs. What it refers to in other jobs is checked in `links`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from appliance.spec.actions import read_action, shared_volumes
from appliance.spec.env import read_env_map
from appliance.spec.fields import Fields, read_text
from appliance.spec.lease import Terms, read_terms
from appliance.spec.matrix import Values, read_matrix
from appliance.spec.models import Action, Alias, Output, Retry, Value
from appliance.spec.names import PART, PART_RULE
from appliance.spec.problems import Mark, Problems, quoted
from appliance.spec.refs import ALIAS_RULE, check_dataset, parse_alias
from appliance.spec.tree import Node, child_path

TYPES = ("dataset", "string", "volume")
ValueType = Literal["dataset", "string", "volume"]
MAX_TIMEOUT_S = 1e8
MOST_RETRIES = 100
MOST_DELAY_S = 86_400.0

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
    "matrix": "write `strategy: {matrix: ...}`",
    "retries": "write `retry: 3`",
    "concurrency": "it belongs to the workflow: write it at the top",
    "depends_on": "write `needs: [...]`",
    "name": "the job's key is its name",
    "continue-on-error": "remove it: jobs that do not need this one go on anyway",
    "timeout-minutes": "write `timeout`, in seconds",
}


@dataclass(slots=True)
class Reading:
    """A job as written, with the places that `links` needs."""

    name: str
    path: str
    mark: Mark
    action: Action | None
    env: dict[str, str]
    env_mark: Mark
    needs: dict[str, tuple[str, Mark]]
    """Job -> path and place of its mention."""
    inputs: dict[str, Alias | Value]
    input_marks: dict[str, Mark]
    outputs: dict[str, Output]
    machine: str
    timeout_s: float | None
    retry: Retry
    cache: bool
    terms: Terms
    matrix: tuple[Values, ...]
    """What each job that this one stands for has in its `env`; empty: it stands for itself."""
    matrix_mark: Mark
    shared: list[str]
    """Inputs that are volumes of the dialect of 2021."""


def read_job(name: str, path: str, mark: Mark, node: Node, problems: Problems) -> Reading:
    check_part(name, path, mark, problems, what="a job")
    fields = Fields(node, path, problems)
    outputs = _outputs(fields)
    inputs, input_marks = _inputs(fields)
    env = read_env_map(fields)
    reading = Reading(
        name=name,
        path=path,
        mark=mark,
        action=read_action(fields, inputs, outputs) if isinstance(node.value, dict) else None,
        env=env,
        env_mark=fields.key_mark("env"),
        needs=_needs(fields),
        inputs=inputs,
        input_marks=input_marks,
        outputs=outputs,
        machine=_machine(fields),
        timeout_s=read_timeout(fields),
        retry=_retry(fields),
        cache=_cache(fields),
        terms=read_terms(fields),
        matrix=read_matrix(fields, env),
        matrix_mark=fields.key_mark("strategy"),
        shared=shared_volumes(inputs),
    )
    if reading.terms.preemptible and not reading.retry.limit:
        fields.warn("preemptible", "says nothing: a job that is not tried again never makes way", "add `retry: 3`")
    fields.close(_JOB_HINTS)
    return reading


def _retry(job: Fields) -> Retry:
    """`retry: 3`, or `retry: {limit: 3, delay: 10}`."""
    job.extension("retry", "Gradient tries no job again: repeat the command in the script")
    node = job.node("retry")
    if node is None:
        return Retry()
    if not isinstance(node.value, (dict, list)):
        return Retry(limit=job.whole("retry", most=MOST_RETRIES))
    retry = job.map("retry", what="a number or a map", hint="such as `retry: 3`, or `retry: {limit: 3, delay: 30s}`")
    if retry is None:
        return Retry()
    retry.node("limit", required=True, hint="attempts after the first one")
    limit = retry.whole("limit", most=MOST_RETRIES)
    delay_s = retry.seconds("delay", default=Retry().delay_s, most=MOST_DELAY_S)
    retry.close({"attempts": "write `limit`, the attempts after the first", "backoff": "the delay doubles by itself"})
    return Retry(limit=limit, delay_s=delay_s)


def _cache(job: Fields) -> bool:
    job.extension("cache", "remove it: Gradient has no step cache")
    return job.flag("cache", default=True)


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
    """A workflow input, or an inline job input (`default_needed`). The long form of an alias is read in `_inputs`."""
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
        if long_form := _long_alias(node, path):
            path, node = long_form
        if not isinstance(node.value, str):
            inputs[name] = read_value(node, path, job.problems, default_needed=True)
            continue
        text = read_text(node, path, job.problems)
        if alias := parse_alias(text):
            inputs[name] = alias
        elif text:
            job.problems.error(node.mark, path, f"{quoted(text)} is neither an input nor an output", ALIAS_RULE)
    return inputs, marks


def _long_alias(node: Node, path: str) -> tuple[str, Node] | None:
    """Path and text of `{type: alias, with: {ref: JOB.outputs.NAME}}`, which the short form compiles to in Gradient."""
    entries = node.value if isinstance(node.value, dict) else {}
    kind, given = entries.get("type"), entries.get("with")
    if not kind or kind.value != "alias" or not given or not isinstance(given.value, dict):
        return None
    if set(entries) - {"type", "with", "optional"} or set(given.value) != {"ref"}:
        return None
    return child_path(child_path(path, "with"), "ref"), given.value["ref"]


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
        elif fields.node("with") is not None:
            fields.warn("with", f"is ignored: a {kind} output has no parameters", "a dataset has: `type: dataset`")
        fields.close({"ref": "write `with: {ref: NAME}`", "id": "write `with: {ref: NAME}`"})
        outputs[name] = Output(type=cast(ValueType, kind), ref=ref)
    return outputs


def _needs(job: Fields) -> dict[str, tuple[str, Mark]]:
    needs: dict[str, tuple[str, Mark]] = {}
    given = job.node("needs")
    one = given.value if given and isinstance(given.value, str) and PART.fullmatch(given.value) else "prepare"
    for path, node in job.items("needs", what="a list of jobs", hint=f"such as `needs: [{one}]`"):
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
