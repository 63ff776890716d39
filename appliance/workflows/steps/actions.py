"""What a job's container runs, per action; the container's spec; what cannot run at all. Pure.

Variables that every job gets, under its own `env`:

    APPLIANCE_URL          the front door and API, as seen from the container
    APPLIANCE_WORKFLOW     the workflow's name
    APPLIANCE_RUN          the run, as WORKFLOW.NUMBER
    APPLIANCE_JOB          the job's name
    PROJECT_ID             Gradient's: this appliance, which is one project
    PAPERSPACE_CLUSTER_ID  Gradient's: this appliance, which is one cluster
    PS_JOBSPACE            Gradient's: /storage
    PS_MODEL_PATH          Gradient's: /storage/models/
    PAPERSPACE_METRIC_PUSHGATEWAY, _WORKLOAD_ID and _WORKLOAD_TYPE
                           Gradient's: where its gradient-utils pushes metrics, and as whom

Gradient's PAPERSPACE_API_KEY is not among them: a key in every job would let every image, package and repository that
a job loads do whatever its owner may do. A job that needs the API is given a key by name, `env: {KEY: secret:NAME}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from appliance.engine.labels import Owner
from appliance.engine.types import ContainerSpec, Mount
from appliance.errors import ApplianceError, UsageError
from appliance.fetching import git, programs
from appliance.fetching import s3 as bucket
from appliance.fetching.programs import FILES
from appliance.scheduler.leasing import LEASE
from appliance.scheduler.types import Answer
from appliance.spec.limits import Limits
from appliance.spec.models import (
    ContainerAction,
    DeployAction,
    GitCheckoutAction,
    Job,
    NotebookAction,
    S3DownloadAction,
    ScriptAction,
    Workflow,
)
from appliance.state.runs import Run
from appliance.telemetry.push import environment as pushing
from appliance.workflows.steps import checkout, deploying, notebook_step, s3
from appliance.workflows.steps.checkout import checkout_of
from appliance.workflows.steps.local import Place

NO_LEASE = Answer("unneeded")


@dataclass(frozen=True, slots=True)
class Task:
    """What runs. `files` (name -> content) are mounted read-only at `programs.FILES` and are gone after the job."""

    image: str
    entrypoint: Sequence[str] | None = None
    command: Sequence[str] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    secret: bool = False
    """The files hold credentials."""
    tells: bool = False
    """It leaves words for the daemon at `programs.TOLD`."""
    mounts: tuple[Mount, ...] = ()
    """Of this machine, beside its inputs and outputs."""


def task_of(
    job: Job,
    *,
    env: Mapping[str, str],
    event: Mapping[str, str],
    reveal: Callable[[str], str],
    notebook_image: str = "appliance/notebook",
    commit: str = "",
    place: Place | None = None,
    known_hosts: str = "",
) -> Task:
    """`env` is the job's, secrets in place; a checkout takes `commit`, where there is one, and not what its ref means.

    `place`: the repository of this machine that it may check out; `known_hosts`: the server's keys, over SSH.

    Raises UsageError, and what `reveal` raises for an unknown secret.
    """
    action = job.action
    if isinstance(action, ContainerAction):
        return Task(action.image, action.command, action.args)
    if isinstance(action, ScriptAction):
        # a file, since one argument holds 128 KiB at most; bash without -e, as in Gradient
        return Task(action.image, ("bash", f"{FILES}/script"), (), {"script": action.script})
    if isinstance(action, GitCheckoutAction):
        found = checkout_of(action, job, env, event)
        username = action.username or env.get(checkout.OLD_USER, "")
        password = action.password or env.get(checkout.OLD_PASSWORD, "")
        files = git.files_of(
            found, reveal(username), reveal(password), commit=commit, place=place, known_hosts=known_hosts
        )
        mounts = (Mount(place.path, git.BOUND, read_only=True),) if place else ()
        return replace(_program(git.IMAGE, git.PROGRAM, files, secret=True), tells=True, mounts=mounts)
    if isinstance(action, S3DownloadAction):
        files = s3.files_of(action, job, reveal(action.access_key), reveal(action.secret_access_key))
        return _program(bucket.IMAGE, bucket.PROGRAM, files, secret=True)
    if isinstance(action, NotebookAction):
        image = action.image or notebook_image
        return _program(image, notebook_step.PROGRAM, notebook_step.files_of(action, job), secret=False)
    raise UsageError(f"{action.uses} runs no container")


def _program(image: str, program: str, files: Mapping[str, str], *, secret: bool) -> Task:
    """One of ours."""
    return Task(image, programs.command_of(program), (), files, secret=secret)


def says_how_it_ended(job: Job) -> bool:
    """The last line of its log is the job's message: a program of ours has written it."""
    return isinstance(job.action, GitCheckoutAction | S3DownloadAction | NotebookAction)


def container_name(instance: str, run: Run, job: str, attempt: int = 1) -> str:
    """The same whenever this attempt of this job of this run is begun, and no other; below 190 characters."""
    again = f"-{attempt}" if attempt > 1 else ""
    return f"appliance-{instance}-run-{run.workflow}.{run.number}-{job}-{run.id[:12]}{again}"


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
    push_port: int = 0,
    limits: Limits,
    attempt: int = 1,
    lease: Answer = NO_LEASE,
) -> ContainerSpec:
    """The container of job `name`. `image` is what `task.image` stands for on this engine."""
    owner = Owner(instance=instance, kind="run", name=subject(run), uid=run.id, part=name)
    given = {
        "APPLIANCE_URL": f"http://host.docker.internal:{port}",
        "APPLIANCE_WORKFLOW": run.workflow,
        "APPLIANCE_RUN": subject(run),
        "APPLIANCE_JOB": name,
        "PROJECT_ID": f"p{instance}",
        "PAPERSPACE_CLUSTER_ID": f"cl{instance}",
        "PS_JOBSPACE": "/storage",
        "PS_MODEL_PATH": "/storage/models/",
        **pushing.environment("workflow", run.id, push_port),
    }
    return ContainerSpec(
        name=container_name(instance, run, name, attempt),
        image=image,
        labels={**owner.to_labels(), **({LEASE: lease.lease} if lease.state == "granted" else {})},
        entrypoint=task.entrypoint,
        command=task.command,
        env={**given, **env},
        mounts=mounts,
        cpus=limits.cpus,
        memory_bytes=limits.memory_bytes,
        shm_bytes=limits.shm_bytes,
        gpus=lease.cards if lease.state == "granted" else (),
    )


def problems(workflow: Workflow) -> list[str]:
    """What this version cannot run although the spec is valid, each with its job. Empty: it may be submitted."""
    found = []
    for name, job in workflow.jobs.items():
        found += [f"job {name}: {problem}" for problem in _job_problems(job, workflow)]
    return found


def _job_problems(job: Job, workflow: Workflow) -> list[str]:
    action = job.action
    try:
        if isinstance(action, S3DownloadAction):
            s3.files_of(action, job, "", "")
        elif isinstance(action, NotebookAction):
            notebook_step.files_of(action, job)
        elif isinstance(action, DeployAction):
            deploying.check(action, job)
        elif isinstance(action, GitCheckoutAction) and not _has_secret_address(action, job):
            checkout_of(action, job, job.env, workflow.event)
    except ApplianceError as error:
        return [error.message + (f"; {error.hint}" if error.hint else "")]
    return []


def _has_secret_address(action: GitCheckoutAction, job: Job) -> bool:
    """What it expands to may be known at the start only."""
    secret = any(value.lower().startswith("secret:") for value in job.env.values())
    return secret and "$" in action.url + action.ref
