"""A Gradient workflow: the top-level keys, `defaults`, `inputs` and the event; and its jobs, a matrix unrolled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

from appliance.spec.env import check_amount, check_together, read_env_map, size_of
from appliance.spec.fields import Fields
from appliance.spec.jobs import Reading, check_part, read_job, read_timeout, read_value
from appliance.spec.lease import Terms, read_terms
from appliance.spec.links import Jobs, check_links
from appliance.spec.matrix import Names, Values, inputs_of, needs_of
from appliance.spec.models import Job, Triggers, Value, Workflow
from appliance.spec.problems import Problems, quoted
from appliance.spec.tree import Node, child_path
from appliance.spec.triggers import read_triggers

Concurrency = Literal["", "queue", "skip", "cancel"]

_TOP_HINTS = {
    "name": "a Gradient workflow has no name: the file's name counts; or add `kind: workflow`",
    "version": "remove it",
    "apiVersion": "remove it; only deployments have one",
    "env": "write `defaults: {env: ...}`",
    "resources": "write `defaults: {resources: ...}`",
    "steps": "write `jobs`",
    "workflows": "one workflow a file: write `jobs` at the top",
    "runs-on": "write `defaults: {resources: {instance-type: ...}}`",
    "strategy": "it belongs to a job: `jobs: {NAME: {strategy: {matrix: ...}}}`",
    "retry": "it belongs to a job: `jobs: {NAME: {retry: 3}}`",
    "cache": "it belongs to a job: `jobs: {NAME: {cache: false}}`",
    "schedule": "write `on: {schedule: ...}`",
    "owner": "write `defaults: {owner: ...}`",
    "priority": "write `defaults: {priority: ...}`",
    "preemptible": "write `defaults: {preemptible: ...}`",
}
_REGISTRY_HINT = "save the credentials once, and name them in `defaults.resources.container-registries`"
_DEFAULTS_HINTS = {
    "image": "each job names its image under `with`",
    "username": _REGISTRY_HINT,
    "password": _REGISTRY_HINT,
    "instance-type": "write `resources: {instance-type: ...}`",
}


def read_workflow(name: str, root: Node, problems: Problems) -> Workflow | None:
    """None: there are problems."""
    top = Fields(root, "", problems)
    _read_kind(top)
    env, machine, registries, terms = _defaults(top)
    inputs = _inputs(top)
    jobs = _jobs(top)
    on, triggers = read_triggers(top)
    concurrency = _concurrency(top)
    event = _event(top)
    timeout_s = read_timeout(top)
    top.close(_TOP_HINTS)
    names = check_links(jobs, inputs, problems)
    _check_circle(jobs, triggers, problems)
    _check_env(jobs, env, problems)
    if problems.errors:
        return None
    return Workflow(
        name=name,
        inputs=inputs,
        jobs=dict(_unrolled(jobs, names, env, machine, terms)),
        registries=registries,
        timeout_s=timeout_s,
        event=event,
        on=on,
        triggers=triggers,
        concurrency=concurrency,
        extensions=tuple(sorted({extension.path for extension in problems.extensions})),
    )


def _unrolled(jobs: Jobs, names: Names, env: dict[str, str], machine: str, terms: Terms) -> Iterator[tuple[str, Job]]:
    for job in jobs.values():
        for name, values in zip(names.get(job.name, (job.name,)), job.matrix or ({},), strict=True):
            yield name, _job(job, names, env, machine, terms, values)


def _job(job: Reading, names: Names, env: dict[str, str], machine: str, terms: Terms, values: Values) -> Job:
    assert job.action is not None  # a missing action is a problem
    own = job.terms.over(terms)
    return Job(
        action=job.action,
        env={**env, **job.env, **values},
        needs=needs_of(job.needs, names),
        inputs=inputs_of(job.inputs, names),
        outputs=job.outputs,
        machine=job.machine or machine,
        timeout_s=job.timeout_s,
        retry=job.retry,
        cache=job.cache,
        matrix=values,
        owner=own.owner,
        priority=own.priority,
        preemptible=own.preemptible,
    )


def _read_kind(top: Fields) -> None:
    """`kind: workflow` and `name` go together; both are ours, Gradient has neither."""
    kind = top.node("kind")
    if kind and kind.value == "workflow":
        top.node("name")
        for key in ("kind", "name"):
            top.extension(key, "remove it: `jobs` tells a workflow, and the file's name counts")


def _concurrency(top: Fields) -> Concurrency:
    top.extension("concurrency", "remove it: in Gradient runs of a workflow go on side by side")
    node = top.node("concurrency")
    if node and isinstance(node.value, (dict, list)):
        top.error(
            "concurrency", "must be one of `queue`, `skip` and `cancel`", "for the whole workflow, without groups"
        )
        return ""
    return cast(Concurrency, top.choice("concurrency", ("queue", "skip", "cancel")))


def _check_circle(jobs: Jobs, triggers: Triggers, problems: Problems) -> None:
    """A run that makes a new version of what starts the workflow would start the next one, for ever."""
    for job in jobs.values():
        for name, output in job.outputs.items():
            if output.ref and output.ref in triggers.datasets:
                path = child_path(child_path(child_path(job.path, "outputs"), name), "with")
                message = f"makes a new version of {quoted(output.ref)}, which starts this workflow again: a circle"
                problems.error(job.mark, path, message, "write another dataset, or remove it from `on.dataset`")


def _check_env(jobs: Jobs, defaults: dict[str, str], problems: Problems) -> None:
    """Each job, and each job that a matrix makes, has all its variables in memory."""
    together = 0
    for job in jobs.values():
        env = {**defaults, **job.env}
        size = size_of(env)
        if not check_amount(len(env), size, job.env_mark, child_path(job.path, "env"), problems):
            continue
        together += len(env) * max(1, len(job.matrix)) + sum(map(len, job.matrix))
        if not check_together(together, job.mark, job.path, problems):
            break
        for values in job.matrix:
            more = size_of(values) - size_of({name: env[name] for name in values if name in env})
            path = child_path(job.path, "strategy")
            if not check_amount(len(env | values), size + more, job.matrix_mark, path, problems):
                break


def _defaults(top: Fields) -> tuple[dict[str, str], str, tuple[str, ...], Terms]:
    defaults = top.map("defaults")
    if defaults is None:
        return {}, "", (), Terms()
    env = read_env_map(defaults)
    if not check_amount(len(env), size_of(env), defaults.key_mark("env"), defaults.at("env"), defaults.problems):
        env = {}  # said once, and not at every job
    machine = ""
    registries: tuple[str, ...] = ()
    if resources := defaults.map("resources"):
        machine = resources.text("instance-type")
        registries = resources.texts("container-registries") or ()
        resources.close({"container": "each job names its image under `with.image`"})
    defaults.text("clusterId")
    terms = read_terms(defaults)
    defaults.close(_DEFAULTS_HINTS)
    return env, machine, registries, terms


def _inputs(top: Fields) -> dict[str, Value]:
    inputs: dict[str, Value] = {}
    found = top.map("inputs")
    for name, path, mark, node in found.entries() if found else ():
        check_part(name, path, mark, top.problems, what="an input")
        inputs[name] = read_value(node, path, top.problems, default_needed=False)
        if inputs[name].type == "volume":
            message = (
                "a volume cannot be given from outside: it is empty at first, and shared by the jobs that alias it"
            )
            top.problems.warn(node.mark, path, message, "for files that exist use `type: dataset`")
    return inputs


def _jobs(top: Fields) -> dict[str, Reading]:
    found = top.map("jobs", required=True)
    if found is None:
        return {}
    jobs = {name: read_job(name, path, mark, node, top.problems) for name, path, mark, node in found.entries()}
    if not jobs:
        top.error("jobs", "must have at least one job")
    return jobs


def _event(top: Fields) -> dict[str, str]:
    context = top.map("context")
    event = context.map("event") if context else None
    github = event.map("github") if event else None
    given = {key: github.text(key) for key in ("url", "ref")} if github else {}
    for fields in (context, event, github):
        if fields:
            fields.close()
    return {key: value for key, value in given.items() if value}
