"""Checks what the jobs of a workflow say about each other: needs, aliases, and what an action expects of its inputs."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.spec.graph import Ancestry, in_order
from appliance.spec.jobs import Reading
from appliance.spec.matrix import Names, names_of
from appliance.spec.models import (
    Alias,
    CreateModelAction,
    DeployAction,
    GitCheckoutAction,
    S3DownloadAction,
    Value,
)
from appliance.spec.problems import Mark, Problems, quoted
from appliance.spec.tree import child_path

Jobs = Mapping[str, Reading]
LONGEST_CIRCLE = 10
"""Jobs of a circle that a message names."""


def check_links(jobs: Jobs, inputs: Mapping[str, Value], problems: Problems) -> Names:
    """The jobs that each matrix makes."""
    names = names_of(
        {job.name: (job.matrix_mark, child_path(job.path, "strategy"), len(job.matrix)) for job in jobs.values()},
        problems,
    )
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
                _warn_of_shared_volume(job, name, jobs, problems)
        if isinstance(job.action, CreateModelAction):
            _check_model_input(job, jobs, inputs, problems)
        elif isinstance(job.action, DeployAction):
            _check_deployed_model(job, job.action, jobs, inputs, problems)
    return names


def _circle(jobs: list[str]) -> str:
    shown = jobs if len(jobs) <= LONGEST_CIRCLE else [*jobs[: LONGEST_CIRCLE - 1], "..."]
    return " -> ".join([*shown, jobs[0]])


def _check_needs(job: Reading, jobs: Jobs, problems: Problems) -> None:
    for name, (path, mark) in job.needs.items():
        if name not in jobs:
            _no_such_job(name, jobs, mark, path, problems)


def _no_such_job(name: str, jobs: Jobs, mark: Mark, path: str, problems: Problems) -> None:
    whole, _, number = name.rpartition("-")
    hint = problems.nearest(name, jobs)
    if whole in jobs and jobs[whole].matrix and number.isdecimal():
        hint = f"write {quoted(whole)}, which means all jobs of its matrix"
    problems.error(mark, path, f"there is no job {quoted(name)}", hint)


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
        _no_such_job(alias.job, jobs, mark, path, problems)
        return
    if alias.name not in producer.outputs:
        message = f"job {quoted(alias.job)} has no output {quoted(alias.name)}"
        problems.error(mark, path, message, problems.nearest(alias.name, producer.outputs))
    if ancestry and not ancestry.waits_for(job.name, alias.job):
        message = f"{quoted(job.name)} does not wait for {quoted(alias.job)}"
        problems.error(mark, path, message, f"add {quoted(alias.job)} to `needs`")


def _warn_of_shared_volume(job: Reading, name: str, jobs: Jobs, problems: Problems) -> None:
    """The dialect of early 2021: every job that names a volume input shares one writable volume of the run."""
    mark, path = job.input_marks[name], _input_path(job, name)
    declared = f"`outputs: {{{name}: {{type: volume}}}}`"
    message = f"is the dialect of 2021: one volume {quoted(name)} for all jobs that name it"
    if _fills(job):
        problems.warn(mark, path, message, f"this job fills it: write {declared} instead")
        return
    makers = [other.name for other in jobs.values() if other.name != job.name and _makes(other, name)]
    if not makers and not any(name in other.shared for other in jobs.values() if other.name != job.name):
        problems.warn(
            mark, path, f"{message}, and no other job does, so it is empty", f"write `{name}: JOB.outputs.NAME`"
        )
        return
    maker = makers[0] if makers else "JOB"
    hint = f"let {maker} declare {declared}, and write `{name}: {maker}.outputs.{name}` here"
    problems.warn(mark, path, message, hint)


def _fills(job: Reading) -> bool:
    return job.action is None or isinstance(job.action, (GitCheckoutAction, S3DownloadAction))


def _makes(job: Reading, name: str) -> bool:
    """Whether it is the one that a user means to take the volume from."""
    return (name in job.shared and _fills(job)) or (name in job.outputs and job.outputs[name].type == "volume")


def _check_model_input(job: Reading, jobs: Jobs, inputs: Mapping[str, Value], problems: Problems) -> None:
    if "model" not in job.inputs:
        message = "create-model@v1 takes its files from an input that is called `model`"
        problems.error(job.mark, child_path(job.path, "inputs"), message, "such as `model: TRAIN.outputs.model`")
        return
    _check_type(job, ("dataset",), "a model is made from a dataset", jobs, inputs, problems)


def _check_deployed_model(
    job: Reading, action: DeployAction, jobs: Jobs, inputs: Mapping[str, Value], problems: Problems
) -> None:
    if job.matrix:
        message = f"all {len(job.matrix)} jobs would make the same deployment {quoted(action.name)}"
        hint = "let a job between them choose one, and deploy that"
        problems.error(job.matrix_mark, child_path(job.path, "strategy"), message, hint)
    if "model" in job.inputs:
        message = "what is deployed is a model's id or a dataset"
        _check_type(job, ("dataset", "string"), message, jobs, inputs, problems)
    elif not action.spec:
        message = "deploy@v1 needs an input that is called `model`, or a `spec`"
        problems.error(job.mark, child_path(job.path, "inputs"), message, "such as `model: REGISTER.outputs.model-id`")


def _check_type(
    job: Reading, types: tuple[str, ...], message: str, jobs: Jobs, inputs: Mapping[str, Value], problems: Problems
) -> None:
    """Of the input `model`."""
    model, mark, path = job.inputs["model"], job.input_marks["model"], _input_path(job, "model")
    kind = ""
    if isinstance(model, Value):
        kind = model.type
    elif not model.job:
        kind = inputs[model.name].type if model.name in inputs else ""
    elif model.job in jobs and model.name in jobs[model.job].outputs:
        kind = jobs[model.job].outputs[model.name].type
    if kind and kind not in types:
        hint = "let the job that makes the files write a dataset output"
        problems.error(mark, path, f"{message}, and this is a {kind}", hint)
    elif isinstance(model, Alias) and model.job in jobs and jobs[model.job].matrix:
        hint = "let a job between them choose one, and alias its output"
        problems.error(
            mark, path, f"{quoted(model.job)} is a matrix and makes {len(jobs[model.job].matrix)} of them", hint
        )


def _input_path(job: Reading, name: str) -> str:
    return child_path(child_path(job.path, "inputs"), name)
