"""What a spec means, free of dialects: frozen models that the controllers read.

`load.py` makes them from what a user wrote; both Gradient deployment dialects end in the one Deployment here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

KINDS = ("dataset", "deployment", "notebook", "workflow")
Kind = Literal["dataset", "deployment", "notebook", "workflow"]


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


Action = ContainerAction | ScriptAction | GitCheckoutAction | S3DownloadAction | CreateModelAction


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


class Workflow(Model):
    """`jobs` keeps the order of the file and is free of cycles and dangling references."""

    name: str
    inputs: dict[str, Value] = {}
    jobs: dict[str, Job] = {}
    registries: tuple[str, ...] = ()
    timeout_s: float | None = None
    event: dict[str, str] = {}
    """`context.event.github`: url and ref."""
    on: dict[str, Any] = {}


class Probe(Model):
    """HTTP where `path` is set, else exec. Defaults as in Kubernetes."""

    path: str = ""
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
    unsupported: tuple[str, ...] = ()
    """Paths of fields that are valid and stored but not acted on by this version, such as `resources.autoscaling`."""


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


class Notebook(Model):
    name: str
    image: str = ""
    """Empty: the setting `notebook_image`."""
    command: tuple[str, ...] | None = None
    """None: JupyterLab on port 8888 as the appliance starts it."""
    env: dict[str, str] = {}
    machine: str = ""
    gpus: int = 0
    datasets: dict[str, DatasetMount] = {}
    """Mounted read-only at /datasets/NAME."""
    history: History = History()
    quota: int | None = None
    """Bytes that the workspace's files may take, its history apart; None: as many as there are."""


class Dataset(Model):
    name: str
    description: str = ""


Spec = Workflow | Deployment | Notebook | Dataset
