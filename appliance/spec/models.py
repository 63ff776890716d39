"""What a spec means, free of dialects: frozen models that the controllers read.

`load.py` makes them from what a user wrote; both Gradient deployment dialects end in the one Deployment here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

KINDS = ("dataset", "deployment", "notebook", "repository", "workflow")
Kind = Literal["dataset", "deployment", "notebook", "repository", "workflow"]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Value(Model):
    """A workflow input's default or given value, or an inline job input."""

    type: Literal["dataset", "string", "volume"]
    ref: str = ""
    """Dataset reference, `NAME[:VERSION_OR_TAG]`; empty: none given."""
    value: str | None = None
    """String value; None: none given."""
    optional: bool = False


class Alias(Model):
    """`workflow.inputs.NAME` (job is empty) or `JOB.outputs.NAME`."""

    type: Literal["alias"] = "alias"
    job: str = ""
    name: str
    gather: tuple[str, ...] = ()
    """The jobs that a matrix made of `job`, whose outputs are given side by side; empty: `job` is one job."""


class Output(Model):
    type: Literal["dataset", "string", "volume"]
    ref: str = ""
    """The dataset that gets a new version; no version suffix. Empty unless type is dataset."""


class ContainerAction(Model):
    uses: Literal["container@v1"] = "container@v1"
    image: str
    command: tuple[str, ...] | None = None
    """Replaces the image's entrypoint; None keeps it."""
    args: tuple[str, ...] | None = None
    """Replaces the image's command; None keeps it."""


class ScriptAction(Model):
    uses: Literal["script@v1"] = "script@v1"
    image: str
    script: str


class GitCheckoutAction(Model):
    uses: Literal["git-checkout@v1"] = "git-checkout@v1"
    url: str
    ref: str = ""
    username: str = ""
    password: str = ""
    """`secret:NAME` or empty."""
    path: str = ""
    """Absolute, below /outputs; empty: the single volume or dataset output."""


class S3DownloadAction(Model):
    uses: Literal["s3-download@v1"] = "s3-download@v1"
    url: str
    access_key: str
    secret_access_key: str
    region: str = ""
    endpoint: str = ""
    path: str = ""


class CreateModelAction(Model):
    uses: Literal["create-model@v1"] = "create-model@v1"
    name: str
    type: Literal["Tensorflow", "ONNX", "Custom"]


class DeployAction(Model):
    """Ours: create or update a deployment, with the model of the input `model`, and wait until it is ready."""

    uses: Literal["deploy@v1"] = "deploy@v1"
    name: str
    spec: dict[str, Any] = {}
    """A deployment's document; empty: the one of that name, with its model exchanged."""
    path: str = "/opt/models"
    """Where the model is mounted."""
    ready_s: float = 600.0
    """Seconds within which it must be ready."""


class NotebookAction(Model):
    """Ours: execute a notebook file with parameters; the executed file is kept in the output."""

    uses: Literal["notebook@v1"] = "notebook@v1"
    notebook: str
    """Absolute, such as /inputs/repo/train.ipynb."""
    image: str = ""
    """Empty: the setting `notebook_image`."""
    parameters: dict[str, Any] = {}
    kernel: str = ""
    """Empty: the one that the file names."""
    path: str = ""
    """Of the executed notebook, below /outputs; empty: in the single volume or dataset output, under its own name."""


Action = (
    ContainerAction
    | ScriptAction
    | GitCheckoutAction
    | S3DownloadAction
    | CreateModelAction
    | DeployAction
    | NotebookAction
)


class Retry(Model):
    """Ours: how often a job that failed is tried again."""

    limit: int = 0
    """Attempts after the first."""
    delay_s: float = 10.0
    """Before the second attempt, seconds; doubled for each further one, up to an hour."""


class Job(Model):
    action: Action = Field(discriminator="uses")
    env: dict[str, str] = {}
    """Already merged over `defaults.env`."""
    needs: tuple[str, ...] = ()
    inputs: dict[str, Alias | Value] = {}
    outputs: dict[str, Output] = {}
    machine: str = ""
    """`resources.instance-type`, with the default filled in; empty: none named."""
    timeout_s: float | None = None
    retry: Retry = Retry()
    cache: bool = True
    """False: it always runs, and what it made is given to no other run."""
    matrix: dict[str, str] = {}
    """The values that this job of a `strategy.matrix` stands for; they are in `env` too."""
    owner: str = ""
    """Ours, as the next two are, with the defaults filled in. Whose GPU time it is; empty: nobody is named."""
    priority: int | None = None
    """-100 to 100: the higher gets a GPU first; None: as the machine type has it."""
    preemptible: bool | None = None
    """It makes way for a higher priority and is tried again, without an attempt lost; None: as the machine type has it.
    A job without `retry` never does."""


class Patterns(Model):
    """Names of branches or tags: `only` or `include`, less `ignore`; globs, as in GitHub Actions."""

    only: str = ""
    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


class Schedule(Model):
    cron: str
    """Five fields: minute, hour, day of month, month, day of week."""
    timezone: str
    """IANA name, such as Europe/Berlin."""


class Triggers(Model):
    """What starts a run by itself. Gradient has `github` only, the rest is ours."""

    branches: Patterns | None = None
    tags: Patterns | None = None
    schedule: tuple[Schedule, ...] = ()
    datasets: tuple[str, ...] = ()
    """A new version of one of these."""
    folders: tuple[str, ...] = ()
    """Absolute host paths whose content is looked at."""
    spec: bool = False
    """Its own file in the watched folder has changed."""
    webhook: str = ""
    """`secret:NAME` of the signature's key; empty: no webhook."""

    @property
    def github(self) -> bool:
        return self.branches is not None or self.tags is not None


class Workflow(Model):
    """`jobs` keeps the order of the file, a matrix unrolled, and is free of cycles and dangling references."""

    name: str
    inputs: dict[str, Value] = {}
    jobs: dict[str, Job] = {}
    registries: tuple[str, ...] = ()
    timeout_s: float | None = None
    event: dict[str, str] = {}
    """`context.event.github`: url and ref."""
    on: dict[str, Any] = {}
    """The trigger as it was written; `triggers` is what it means."""
    triggers: Triggers = Triggers()
    concurrency: Literal["", "queue", "skip", "cancel"] = ""
    """Ours: what a new run does while an older one of the same workflow goes on; empty: they run side by side."""
    extensions: tuple[str, ...] = ()
    """Paths of what Gradient does not know, such as `jobs.train.strategy`."""


class Probe(Model):
    """HTTP where `path` is set, a connection where `tcp` is set, else exec. Defaults as in Kubernetes."""

    path: str = ""
    tcp: bool = False
    """Ours: it is enough that `port` accepts a connection."""
    port: int | None = None
    """None: the deployment's first port."""
    host: str = ""
    headers: dict[str, str] = {}
    command: tuple[str, ...] = ()
    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    failure_threshold: int = 3


class ModelMount(Model):
    id: str
    """Model id (`mo...`) or model name; a name means its newest version."""
    path: str = "/opt/models"


class Metric(Model):
    """What the number of replicas follows."""

    kind: Literal["cpu", "memory", "requestDuration"]
    value: float
    """The average aimed at: percent of what a replica may use; of requestDuration seconds over five minutes."""


class Autoscaling(Model):
    """`replicas` of the deployment is the least."""

    most: int
    metrics: tuple[Metric, ...]


class Sleep(Model):
    """Ours, `resources.scaleToZero`: without requests no replica runs; the next request wakes it."""

    after_s: float = 900.0
    """Without a request, seconds."""
    hold_s: float | None = None
    """How long a request waits for the first replica, seconds; None: the setting `hold_s`."""


class Rollout(Model):
    """Ours: how one revision takes over from another."""

    strategy: Literal["auto", "surge", "swap"] = "auto"
    """surge: the new one beside the old; swap: the old one stops first, requests wait; auto: surge where both fit."""
    hold_s: float | None = None
    """Longest that a request waits during a swap, seconds; None: the setting `hold_s`."""
    drain_s: float | None = None
    """Longest that requests of a leaving replica are waited for, seconds; None: the setting `drain_s`."""
    on_failure: Literal["back", "keep"] = "back"
    """back: a revision that does not become ready is undone; keep: it is tried again for ever."""


class Endpoint(Model):
    """Ours: what the front door asks of a request before a replica sees it."""

    keys: tuple[str, ...] = ()
    """`secret:NAME` each; one of them has to be sent as `Authorization: Bearer`. Empty: nobody is asked."""
    requests: int = 0
    """Most requests of one client in `window_s`; 0: no limit."""
    window_s: float = 10.0
    body: int = 0
    """Largest body, bytes; 0: no limit."""
    timeout_s: float | None = None
    """Longest silence of a replica, seconds; None: the front door's own."""


class Integration(Model):
    """What is fetched once for a revision and mounted into all its replicas."""

    type: Literal["git-lfs", "s3", "spaces", "volume", "dataset"]
    name: str
    path: str
    """Where it is mounted."""
    url: str = ""
    ref: str = ""
    """Of a dataset, `NAME[:VERSION_OR_TAG]`; of a repository a branch, tag or commit; empty: its default branch."""
    username: str = ""
    password: str = ""
    """Of a repository, `secret:NAME` or empty."""
    region: str = ""
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""
    """`secret:NAME` or empty, as `access_key` is."""


class Clone(Model):
    url: str
    name: str
    """Of its folder."""
    ref: str = ""
    username: str = ""
    password: str = ""
    """`secret:NAME` or empty."""


class Repositories(Model):
    """Cloned into a new version of `dataset`, which is mounted at `path`."""

    dataset: str
    path: str = "/opt/repos"
    clones: tuple[Clone, ...] = ()


class Deployment(Model):
    name: str
    image: str
    enabled: bool = True
    command: tuple[str, ...] | None = None
    env: dict[str, str] = {}
    ports: tuple[int, ...] = (80,)
    """The first one is served."""
    replicas: int = 1
    machine: str = ""
    region: str = ""
    registry: str = ""
    basic_auth: str = ""
    """`secret:NAME` or empty."""
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    models: tuple[ModelMount, ...] = ()
    integrations: tuple[Integration, ...] = ()
    repositories: Repositories | None = None
    autoscaling: Autoscaling | None = None
    sleep: Sleep | None = None
    rollout: Rollout = Rollout()
    endpoint: Endpoint = Endpoint()
    owner: str = ""
    """Ours, as the next two are. Whose GPU time it is; empty: nobody is named."""
    priority: int | None = None
    """-100 to 100: the higher gets a GPU first; None: what deployments have, before notebooks and jobs."""
    preemptible: bool | None = None
    """Kept, and says nothing: replicas make way for nobody, since somebody may wait for their answer."""
    extensions: tuple[str, ...] = ()
    """Paths of what Gradient does not know, such as `rollout`."""


class DatasetMount(Model):
    ref: str


class History(Model):
    """What a notebook's history keeps, in place of the settings; None: as the settings say."""

    interval_s: float | None = None
    """Between two snapshots of files that change, seconds; 0: none are taken."""
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None


class Workspace(Model):
    """What a notebook's files begin from: a repository, cloned once, before the first session."""

    url: str
    """Of a repository, or of one notebook in it, as a page of GitHub shows it: `.../blob/BRANCH/FILE.ipynb`."""
    ref: str = ""
    username: str = ""
    password: str = ""
    """`secret:NAME` or empty."""


class Idle(Model):
    """When a session that nobody uses is stopped; None: as the settings say."""

    after_s: float | None = None
    """Without any activity, seconds; 0: never."""
    warn_s: float | None = None
    """How long before the end it is said, seconds."""
    gpu: bool = True
    """Work on the session's GPUs is activity, whatever Jupyter says."""


class Notebook(Model):
    name: str
    image: str = ""
    """Empty: the setting `notebook_image`."""
    registry: str = ""
    """`containerRegistry`: whose login the image is pulled with; empty: none is named."""
    user: str = "0:0"
    """`UID:GID` that the session runs as; it owns the workspace."""
    workspace: Workspace | None = None
    command: tuple[str, ...] | None = None
    """None: JupyterLab on port 8888 as the appliance starts it."""
    env: dict[str, str] = {}
    machine: str = ""
    gpus: int = 0
    datasets: dict[str, DatasetMount] = {}
    """Mounted read-only at /datasets/NAME."""
    models: dict[str, str] = {}
    """Name -> model id or name, mounted read-only at /models/NAME."""
    secrets: tuple[str, ...] = ()
    """Names; each is a file below /run/secrets."""
    shm: int | None = None
    """Shared memory, bytes; None: the setting `shm_mb`."""
    idle: Idle = Idle()
    shutdown_s: float = 0.0
    """The session ends so long after it began, whatever it does, seconds; 0: never."""
    history: History = History()
    quota: int | None = None
    """Bytes that the workspace's files may take, its history apart; None: as many as there are."""
    owner: str = ""
    """Whose GPU time it is; empty: nobody is named."""
    priority: int | None = None
    """-100 to 100: the higher gets a GPU first; None: as the machine type has it, or what notebooks have."""
    preemptible: bool | None = None
    """Its session makes way for a higher priority, after a snapshot, and begins again when its turn comes; None: as the
    machine type has it."""


class Dataset(Model):
    name: str
    description: str = ""


class Repository(Model):
    """Ours: a git repository that is polled; its `.gradient/workflows/*` run as their `on.github` says."""

    name: str
    url: str
    username: str = ""
    password: str = ""
    """`secret:NAME` or empty."""
    interval_s: float = 60.0
    webhook: str = ""
    """`secret:NAME` of the key that a push notification is signed with; empty: none is taken."""
    secrets: tuple[str, ...] = ()
    """Names of the secrets and registry credentials that its workflows may use; `password` is not among them."""
    deployments: tuple[str, ...] = ()
    """Names of the deployments that its workflows may make and change."""


Spec = Workflow | Deployment | Notebook | Dataset | Repository
