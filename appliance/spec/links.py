"""Checks what the jobs of a workflow say about each other: needs, aliases, and what an action expects of its inputs."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.spec.graph import Ancestry, in_order
from appliance.spec.jobs import Reading
from appliance.spec.models import Alias, CreateModelAction, GitCheckoutAction, S3DownloadAction, Value
from appliance.spec.problems import Problems, quoted
from appliance.spec.tree import child_path

Jobs = Mapping[str, Reading]
LONGEST_CIRCLE = 10
"""Jobs of a circle that a message names."""


def check_links(jobs: Jobs, inputs: Mapping[str, Value], problems: Problems) -> None:
    needs = {name: list(job.needs) for name, job in jobs.items()}
    for job in jobs.values():
        _check_needs(job, jobs, problems)
    order, circles = in_order(needs)
    for circle in circles:
        job = jobs[circle[-1]]
        path, mark = job.needs[circle[0]]
        problems.error(mark, path, f"the jobs wait for each other: {_circle(circle)}", "remove one of these `needs`")
    ancestry = None if circles else Ancestry(needs, order)
    for job in jobs.values():
        for name, value in job.inputs.items():
            if isinstance(value, Alias):
                _check_alias(job, name, value, jobs, inputs, ancestry, problems)
            elif value.type == "volume":
                _refuse_shared_volume(job, name, jobs, problems)
        if isinstance(job.action, CreateModelAction):
            _check_model_input(job, jobs, inputs, problems)


def _circle(jobs: list[str]) -> str:
    shown = jobs if len(jobs) <= LONGEST_CIRCLE else [*jobs[: LONGEST_CIRCLE - 1], "..."]
    return " -> ".join([*shown, jobs[0]])


def _check_needs(job: Reading, jobs: Jobs, problems: Problems) -> None:
    for name, (path, mark) in job.needs.items():
        if name not in jobs:
            problems.error(mark, path, f"there is no job {quoted(name)}", problems.nearest(name, jobs))


def _check_alias(
    job: Reading,
    name: str,
    alias: Alias,
    jobs: Jobs,
    inputs: Mapping[str, Value],
    ancestry: Ancestry | None,
    problems: Problems,
) -> None:
    mark, path = job.input_marks[name], _input_path(job, name)
    if not alias.job:
        if alias.name not in inputs:
            message = f"the workflow has no input {quoted(alias.name)}"
            problems.error(mark, path, message, problems.nearest(alias.name, inputs))
        return
    producer = jobs.get(alias.job)
    if producer is None:
        problems.error(mark, path, f"there is no job {quoted(alias.job)}", problems.nearest(alias.job, jobs))
        return
    if alias.name not in producer.outputs:
        message = f"job {quoted(alias.job)} has no output {quoted(alias.name)}"
        problems.error(mark, path, message, problems.nearest(alias.name, producer.outputs))
    if ancestry and not ancestry.waits_for(job.name, alias.job):
        message = f"{quoted(job.name)} does not wait for {quoted(alias.job)}"
        problems.error(mark, path, message, f"add {quoted(alias.job)} to `needs`")


def _refuse_shared_volume(job: Reading, name: str, jobs: Jobs, problems: Problems) -> None:
    """The dialect of early 2021: every job that names a volume input shares one writable volume."""
    mark, path = job.input_marks[name], _input_path(job, name)
    message = "a volume that jobs share as an input is the dialect of 2021, which is not supported"
    if isinstance(job.action, (GitCheckoutAction, S3DownloadAction)) or job.action is None:
        problems.error(mark, path, message, f"this job fills it: write `outputs: {{{name}: {{type: volume}}}}` instead")
        return
    fillers = [
        other.name
        for other in jobs.values()
        if name in other.inputs and isinstance(other.action, (GitCheckoutAction, S3DownloadAction))
    ]
    filler = fillers[0] if fillers else "JOB"
    hint = (
        f"let {filler} declare `outputs: {{{name}: {{type: volume}}}}` and write `{name}: {filler}.outputs.{name}` here"
    )
    problems.error(mark, path, message, hint)


def _check_model_input(job: Reading, jobs: Jobs, inputs: Mapping[str, Value], problems: Problems) -> None:
    model = job.inputs.get("model")
    if model is None:
        message = "create-model@v1 takes its files from an input that is called `model`"
        problems.error(job.mark, child_path(job.path, "inputs"), message, "such as `model: TRAIN.outputs.model`")
        return
    kind = ""
    if isinstance(model, Value):
        kind = model.type
    elif not model.job:
        kind = inputs[model.name].type if model.name in inputs else ""
    elif model.job in jobs and model.name in jobs[model.job].outputs:
        kind = jobs[model.job].outputs[model.name].type
    if kind not in ("", "dataset"):
        message = f"a model is made from a dataset, and this is a {kind}"
        hint = "let the job that makes the files write a dataset output"
        problems.error(job.input_marks["model"], _input_path(job, "model"), message, hint)


def _input_path(job: Reading, name: str) -> str:
    return child_path(child_path(job.path, "inputs"), name)
