"""What a job's container runs, per action; the container's spec; what cannot run at all. Pure.

Variables that every job gets, under its own `env`:

    APPLIANCE_URL       the front door and API, as seen from the container
    APPLIANCE_WORKFLOW  the workflow's name
    APPLIANCE_RUN       the run, as WORKFLOW.NUMBER
    APPLIANCE_JOB       the job's name
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.engine.labels import Owner
from appliance.engine.types import ContainerSpec, Mount
from appliance.errors import ApplianceError, UsageError
from appliance.spec.models import (
    ContainerAction,
    GitCheckoutAction,
    Job,
    S3DownloadAction,
    ScriptAction,
    Workflow,
)
from appliance.state.runs import Run
from appliance.workflows.checkout import FILES, IMAGE, checkout_of, files_of

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Task:
    """What runs. `files` (name -> content) are mounted read-only at `checkout.FILES` and are gone after the job."""

    image: str
    entrypoint: Sequence[str] | None = None
    command: Sequence[str] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    secret: bool = False
    """The files hold credentials."""


def task_of(job: Job, *, env: Mapping[str, str], event: Mapping[str, str], reveal: Callable[[str], str]) -> Task:
    """`env` is the job's, secrets in place. Raises UsageError, and what `reveal` raises for an unknown secret."""
    action = job.action
    if isinstance(action, ContainerAction):
        return Task(action.image, action.command, action.args)
    if isinstance(action, ScriptAction):
        # a file, since one argument holds 128 KiB at most; bash without -e, as in Gradient
        return Task(action.image, ("bash", f"{FILES}/script"), (), {"script": action.script})
    if isinstance(action, GitCheckoutAction):
        checkout = checkout_of(action, job, env, event)
        files = files_of(checkout, reveal(action.username), reveal(action.password))
        return Task(IMAGE, ("bash", f"{FILES}/checkout"), (), files, secret=True)
    raise UsageError(f"{action.uses} runs no container")


def container_name(instance: str, run: Run, job: str) -> str:
    """The same for every attempt to start this job of this run, and no other; below 180 characters."""
    return f"appliance-{instance}-run-{run.workflow}.{run.number}-{job}-{run.id[:12]}"


def subject(run: Run) -> str:
    """The run as users name it."""
    return f"{run.workflow}.{run.number}"


def container_spec(
    run: Run,
    name: str,
    task: Task,
    *,
    instance: str,
    image: str,
    env: Mapping[str, str],
    mounts: Sequence[Mount],
    port: int,
    shm_mb: int,
) -> ContainerSpec:
    """The container of job `name`. `image` is what `task.image` stands for on this engine."""
    owner = Owner(instance=instance, kind="run", name=subject(run), uid=run.id, part=name)
    given = {
        "APPLIANCE_URL": f"http://host.docker.internal:{port}",
        "APPLIANCE_WORKFLOW": run.workflow,
        "APPLIANCE_RUN": subject(run),
        "APPLIANCE_JOB": name,
    }
    return ContainerSpec(
        name=container_name(instance, run, name),
        image=image,
        labels=owner.to_labels(),
        entrypoint=task.entrypoint,
        command=task.command,
        env={**given, **env},
        mounts=mounts,
        shm_bytes=shm_mb * MEBIBYTE,
    )


def problems(workflow: Workflow) -> list[str]:
    """What this version cannot run although the spec is valid, each with its job. Empty: it may be submitted."""
    found = []
    for name, job in workflow.jobs.items():
        found += [f"job {name}: {problem}" for problem in _job_problems(job, workflow)]
    return found


def _job_problems(job: Job, workflow: Workflow) -> list[str]:
    action = job.action
    if isinstance(action, S3DownloadAction):
        return ["s3-download@v1 is not supported yet; download in a script@v1 job, for example with `aws s3 cp`"]
    if isinstance(action, GitCheckoutAction):
        if "$" in action.url + action.ref and any(_is_secret(value) for value in job.env.values()):
            return []  # what it expands to is known at the start only
        try:
            checkout_of(action, job, job.env, workflow.event)
        except ApplianceError as error:
            return [error.message + (f"; {error.hint}" if error.hint else "")]
    return []


def _is_secret(text: str) -> bool:
    return text.lower().startswith("secret:")
