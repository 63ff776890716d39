"""What comes into a run and into each job. Pure: datasets are looked up through a function that is passed in.

Stored documents, in a run's `inputs` and in a job's `inputs` and `outputs`:

    {"type": "string", "value": TEXT}
    {"type": "dataset", "ref": REF, "id": "NAME:VERSION"}      `id` once the version is fixed
    {"type": "volume", "run": RUN_ID, "job": JOB, "output": OUTPUT}
    {"type": "many", "of": {JOB: document}}                    one output of all jobs of a matrix, side by side
    {"type": "shared", "name": NAME}                           a volume that all jobs of the run share (dialect of 2021)

A volume may belong to another run than the one that reads it, which was resumed from that one or given its outputs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from appliance.errors import NotFound, UsageError
from appliance.spec.models import Alias, Job, Value, Workflow

Document = dict[str, Any]
Resolve = Callable[[str], str]
"""Dataset reference -> `NAME:VERSION` of a committed version. Raises NotFound."""


def run_inputs(workflow: Workflow, given: Mapping[str, Any]) -> dict[str, Document]:
    """The inputs of a run: what was given, else the defaults. Optional inputs without a value are left out.

    A value is `{"ref": R}` or `{"id": R}` for a dataset, `{"value": V}` for a string, a bare string for either, or the
    long form `{"type": T, "with": {...}}`. The map may be wrapped as `{"inputs": {...}}`. Raises UsageError that names
    every missing, unknown or malformed input.
    """
    given = _unwrapped(workflow, given)
    problems = [_unknown(name, workflow) for name in given if name not in workflow.inputs]
    found: dict[str, Document] = {}
    missing: list[str] = []
    for name, declared in workflow.inputs.items():
        if name in given:
            try:
                found[name] = _given(name, declared, given[name])
            except UsageError as error:
                problems.append(error.message)
        elif declared.type == "volume":
            found[name] = {"type": "shared", "name": name}
        elif (default := _document(declared)) is not None:
            found[name] = default
        elif not declared.optional:
            missing.append(name)
    if missing:
        plural = "s" if len(missing) > 1 else ""
        problems.append(f"no value for input{plural} {', '.join(missing)}, which {workflow.name!r} requires")
    if problems:
        raise UsageError(
            "; ".join(problems),
            where=f"inputs of workflow {workflow.name}",
            hint='give them as {"NAME": {"value": "text"}}, for a dataset as {"NAME": {"ref": "DATASET:VERSION"}}',
        )
    return found


def pinned(inputs: Mapping[str, Document], resolve: Resolve) -> dict[str, Document]:
    """With each dataset fixed to the version that is newest now, so that all jobs of a run see the same one.

    A dataset without a committed version is left as it is: the job that reads it looks again when it starts.
    """
    done: dict[str, Document] = {}
    for name, document in inputs.items():
        done[name] = dict(document)
        if document["type"] == "dataset" and "id" not in document:
            try:
                done[name]["id"] = resolve(document["ref"])
            except NotFound:
                continue
    return done


def job_inputs(
    job: Job,
    run: Mapping[str, Document],
    outputs: Mapping[str, Mapping[str, Document]],
    resolve: Resolve,
    pins: Mapping[str, Document] | None = None,
) -> dict[str, Document]:
    """Every input of a job that is about to start, with datasets fixed to a version. Raises NotFound, UsageError.

    `run` are the inputs of the run, `outputs` those of the jobs that have ended, by job; what `pins` names is given
    as it is there.
    """
    found: dict[str, Document] = {}
    for name, declared in job.inputs.items():
        if pins and name in pins:
            found[name] = pins[name]
            continue
        document = _source(name, declared, run, outputs)
        if document is None:
            continue
        if document["type"] == "dataset" and "id" not in document:
            document = {**document, "id": _committed(name, document["ref"], resolve)}
        found[name] = document
    return found


def sources(job: Job) -> set[str]:
    """The jobs whose outputs its inputs name."""
    aliases = [declared for declared in job.inputs.values() if isinstance(declared, Alias)]
    return {name for alias in aliases for name in (alias.gather or (alias.job,)) if name}


def shared_volumes(workflow: Workflow, job: Job) -> set[str]:
    """The volumes that it shares with all jobs of its run: its own inputs of that type, and the run's that it names."""
    found = set()
    for name, declared in job.inputs.items():
        if isinstance(declared, Value):
            found |= {name} if declared.type == "volume" else set()
        elif not declared.job and declared.name in workflow.inputs:
            found |= {declared.name} if workflow.inputs[declared.name].type == "volume" else set()
    return found


def leaves(documents: Mapping[str, Document]) -> Iterator[Document]:
    """Those documents, with what many jobs have made one by one."""
    for document in documents.values():
        if document.get("type") == "many":
            yield from leaves(document["of"])
        else:
            yield document


def _source(
    name: str,
    declared: Alias | Value,
    run: Mapping[str, Document],
    outputs: Mapping[str, Mapping[str, Document]],
) -> Document | None:
    if isinstance(declared, Value):
        if declared.type == "volume":
            return {"type": "shared", "name": name}
        document = _document(declared)
        if document is None and not declared.optional:
            raise UsageError(
                f"input {name!r} has no value", hint="give it a `with`, or an alias such as JOB.outputs.NAME"
            )
        return document
    if not declared.job:
        return run.get(declared.name)
    if not declared.gather:
        return _output(name, declared.job, declared.name, outputs)
    return {"type": "many", "of": {job: _output(name, job, declared.name, outputs) for job in declared.gather}}


def _output(name: str, job: str, output: str, outputs: Mapping[str, Mapping[str, Document]]) -> Document:
    try:
        return outputs[job][output]
    except KeyError:
        raise UsageError(
            f"input {name!r}: job {job!r} has made no output {output!r}",
            hint=f"list {job} in `needs` and {output} in its `outputs`",
        ) from None


def _committed(name: str, ref: str, resolve: Resolve) -> str:
    try:
        return resolve(ref)
    except NotFound as error:
        raise NotFound(f"input {name!r}: {error.message}", hint=error.hint) from None


def _document(value: Value) -> Document | None:
    if value.type == "dataset" and value.ref:
        return {"type": "dataset", "ref": value.ref}
    if value.type == "string" and value.value is not None:
        return {"type": "string", "value": value.value}
    return None


def _unwrapped(workflow: Workflow, given: Mapping[str, Any]) -> Mapping[str, Any]:
    if set(given) == {"inputs"} and "inputs" not in workflow.inputs and isinstance(given["inputs"], Mapping):
        return given["inputs"]
    return given


def _unknown(name: object, workflow: Workflow) -> str:
    near = difflib.get_close_matches(str(name), workflow.inputs, n=1)
    known = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(workflow.inputs) or 'none'}"
    return f"the workflow has no input {name!r} ({known})"


def _given(name: str, declared: Value, value: object) -> Document:
    key = "value" if declared.type == "string" else "ref"
    if declared.type == "volume":
        raise UsageError(f"input {name!r} is a volume, which cannot be given from outside the run")
    if isinstance(value, Mapping):
        value = _unfolded(name, declared, value)
    if not isinstance(value, str):
        raise UsageError(f"input {name!r} must be a string, not {_kind(value)}; quote it")
    if key == "ref" and not value:
        raise UsageError(f"input {name!r} needs a dataset reference, NAME or NAME:VERSION")
    return {"type": declared.type, key: value}


def _unfolded(name: str, declared: Value, value: Mapping[str, object]) -> object:
    """The one text in the short or the long form of a value."""
    asked = value.get("type", declared.type)
    if asked != declared.type:
        raise UsageError(f"input {name!r} is of type {declared.type}, not {asked}")
    inner = value.get("with", {key: item for key, item in value.items() if key not in ("type", "optional")})
    keys = ("value",) if declared.type == "string" else ("ref", "id")
    if not isinstance(inner, Mapping) or len(inner) != 1 or next(iter(inner)) not in keys:
        raise UsageError(f"input {name!r} of type {declared.type} is given as {{{keys[0]!r}: ...}}, not {value!r}")
    text: object = next(iter(inner.values()))
    return text


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")
