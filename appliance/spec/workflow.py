"""A Gradient workflow: the top-level keys, `defaults`, `inputs`, the trigger and the event."""

from __future__ import annotations

from typing import Any

from appliance.spec.env import read_env_map
from appliance.spec.fields import Fields, read_text
from appliance.spec.jobs import Reading, check_part, read_job, read_timeout, read_value
from appliance.spec.links import check_links
from appliance.spec.models import Job, Value, Workflow
from appliance.spec.problems import Problems
from appliance.spec.tree import Node, to_plain

ON_KEYS = ("on", "true", "True")
"""`on` is true for YAML 1.1, and what passed through such a reader has that for a key."""

_TOP_HINTS = {
    "name": "a Gradient workflow has no name: the file's name counts; or add `kind: workflow`",
    "version": "remove it",
    "apiVersion": "remove it; only deployments have one",
    "env": "write `defaults: {env: ...}`",
    "resources": "write `defaults: {resources: ...}`",
    "steps": "write `jobs`",
    "workflows": "one workflow a file: write `jobs` at the top",
    "runs-on": "write `defaults: {resources: {instance-type: ...}}`",
    "strategy": "Gradient has no matrix; write one job each",
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
    env, machine, registries = _defaults(top)
    inputs = _inputs(top)
    jobs = _jobs(top)
    on = _trigger(top)
    event = _event(top)
    timeout_s = read_timeout(top)
    top.close(_TOP_HINTS)
    check_links(jobs, inputs, problems)
    if problems.errors:
        return None
    return Workflow(
        name=name,
        inputs=inputs,
        jobs={job.name: _job(job, env, machine) for job in jobs.values()},
        registries=registries,
        timeout_s=timeout_s,
        event=event,
        on=on,
    )


def _job(job: Reading, env: dict[str, str], machine: str) -> Job:
    assert job.action is not None  # a missing action is a problem
    return Job(
        action=job.action,
        env={**env, **job.env},
        needs=tuple(job.needs),
        inputs=job.inputs,
        outputs=job.outputs,
        machine=job.machine or machine,
        timeout_s=job.timeout_s,
    )


def _read_kind(top: Fields) -> None:
    """`kind: workflow` and `name` go together; both are ours, Gradient has neither."""
    kind = top.node("kind")
    if kind and kind.value == "workflow":
        top.node("name")


def _defaults(top: Fields) -> tuple[dict[str, str], str, tuple[str, ...]]:
    defaults = top.map("defaults")
    if defaults is None:
        return {}, "", ()
    env = read_env_map(defaults)
    machine = ""
    registries: tuple[str, ...] = ()
    if resources := defaults.map("resources"):
        machine = resources.text("instance-type")
        registries = resources.texts("container-registries") or ()
        resources.close({"container": "each job names its image under `with.image`"})
    defaults.text("clusterId")
    defaults.close(_DEFAULTS_HINTS)
    return env, machine, registries


def _inputs(top: Fields) -> dict[str, Value]:
    inputs: dict[str, Value] = {}
    found = top.map("inputs")
    for name, path, mark, node in found.entries() if found else ():
        check_part(name, path, mark, top.problems, what="an input")
        inputs[name] = read_value(node, path, top.problems, default_needed=False)
        if inputs[name].type == "volume":
            message = "a workflow cannot be given a volume"
            top.problems.error(node.mark, path, message, "use `type: dataset`")
    return inputs


def _jobs(top: Fields) -> dict[str, Reading]:
    found = top.map("jobs", required=True)
    if found is None:
        return {}
    jobs = {name: read_job(name, path, mark, node, top.problems) for name, path, mark, node in found.entries()}
    if not jobs:
        top.error("jobs", "must have at least one job")
    return jobs


def _trigger(top: Fields) -> dict[str, Any]:
    given = [key for key in ON_KEYS if key in top]
    if not given:
        top.node("on")
        return {}
    for other in given[1:]:
        top.node(other)
        top.error(other, f"the trigger is given as `{given[0]}` already", "keep one")
    node, on = top.node(given[0]), top.map(given[0])
    if node is None or on is None:
        return {}
    if github := on.map("github", required=on.empty, hint="such as `on: {github: {branches: {only: main}}}`"):
        _patterns(github, "branches")
        _patterns(github, "tags")
        github.close({"branch": "write `branches: {only: ...}`"})
    on.close({"push": "Gradient starts on `github` only: `github: {branches: {only: main}}`"})
    top.warn(given[0], "is kept, but a push does not start the workflow yet", "`appliance workflow run` does")
    found = to_plain(node)
    return dict(found) if isinstance(found, dict) else {}


def _patterns(github: Fields, key: str) -> None:
    patterns = github.map(key, hint="such as `only: main`")
    if patterns is None:
        return
    patterns.text("only")
    for name in ("include", "ignore"):
        for path, node in patterns.items(name, what="a list of names"):
            read_text(node, path, github.problems)
    patterns.close()


def _event(top: Fields) -> dict[str, str]:
    context = top.map("context")
    event = context.map("event") if context else None
    github = event.map("github") if event else None
    given = {key: github.text(key) for key in ("url", "ref")} if github else {}
    for fields in (context, event, github):
        if fields:
            fields.close()
    return {key: value for key, value in given.items() if value}
