"""Every setting in one table: name, default, help; from `config.toml`, then `APPLIANCE_*` variables.

Paths are derived from `home` on access, so a test gives a home and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import UsageError
from appliance.location import default_home

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    default: Value
    help: str
    least: float = 0
    most: float = 1e9
    """Of a number; both are allowed."""


SETTINGS = (
    Setting("host", "127.0.0.1", "Address of the front door and the API. Loopback unless you put TLS before it."),
    Setting("port", 7070, "TCP port of the front door and the API.", 1, 65_535),
    Setting(
        "push_port",
        9091,
        "TCP port at which containers push metrics, as to a Prometheus Pushgateway; 0: none.",
        0,
        65_535,
    ),
    Setting("docker_host", "", "Docker engine address, such as unix:///run/docker.sock; empty: the engine's default."),
    Setting("storage", "auto", "Volume store: zfs, directory, or auto (zfs where `zpool` is set, else directory)."),
    Setting("zpool", "", "Pool or dataset that holds the volumes of the zfs store, such as tank/appliance."),
    Setting("haproxy", "haproxy", "The HAProxy program (2.6 or newer) that serves the front door."),
    Setting("connections", 20_000, "Client connections that the front door has open at most.", 64),
    Setting("hold_most", 1000, "Requests of one deployment that wait for a replica at most; more are refused.", 1),
    Setting("base_image", "python:3.12-slim-bookworm", "Base of the built-in images, where a registry answers."),
    Setting("notebook_image", "appliance/notebook", "Image of a notebook that names none."),
    Setting("shm_mb", 1024, "Shared memory of a container, in MiB; PyTorch's data loaders need it."),
    Setting("stop_grace_s", 10.0, "Seconds between the polite stop of a container and the kill."),
    Setting("machine", "", "Machine type of a spec that names one nobody knows; empty: it runs without a GPU."),
    Setting("max_parallel_jobs", 4, "Workflow jobs that run at the same time on this machine.", 1),
    Setting("resync_s", 30.0, "Seconds between two full comparisons of what is declared with what runs."),
    Setting("watch_debounce_s", 0.3, "Seconds a spec file must be unchanged before it is read."),
    Setting("log_flush_s", 0.5, "Seconds a log line may wait before it is stored."),
    Setting("telemetry_memory_mb", 512, "Memory that the log and metric database may use, in MiB."),
    Setting("sql_timeout_s", 30.0, "Seconds that a query in SQL may take, where it asks for no other time.", 1, 600),
    Setting("deploy_deadline_s", 300.0, "Seconds a new deployment revision has to become ready."),
    Setting("drain_s", 120.0, "Seconds that requests of a replica that leaves are waited for, at most."),
    Setting("hold_s", 60.0, "Seconds that a request waits for a deployment without a ready replica.", 0, 86_400),
    Setting("keep_revisions", 50, "Revisions of a deployment that are kept, and those that serve or have lately.", 1),
    Setting("autoscale_every_s", 15.0, "Seconds between two looks at the load of deployments that scale by it.", 1),
    Setting("snapshot_interval_s", 600.0, "Seconds between two snapshots of a running notebook's changes; 0: none."),
    Setting("save_quiet_s", 5.0, "Seconds after the last save in Jupyter until a snapshot is taken.", 0, 3600),
    Setting("save_every_s", 60.0, "Seconds after which one is taken though saves go on; 0: none are.", 0, 86_400),
    Setting("idle_after_s", 0.0, "Seconds without activity after which a notebook's session is stopped; 0: never."),
    Setting("idle_warn_s", 300.0, "Seconds before that end at which it is said; at most half of it.", 0, 86_400),
    Setting(
        "idle_gpu_after_s", 1800.0, "Seconds after which a GPU that a notebook has and does not use is told; 0: never."
    ),
    Setting(
        "idle_gpu_stop_s", 0.0, "Seconds after which such a notebook is stopped for who waits for a GPU; 0: never."
    ),
    Setting("keep_deleted_days", 7.0, "Days for which a deleted notebook can be brought back; 0: not at all."),
    Setting("keep_recent_h", 24.0, "Hours for which snapshots stay; automatic ones after an hour: one in 10 minutes."),
    Setting("keep_hourly", 48, "Hours of which the newest snapshot is kept, of those that have one."),
    Setting("keep_daily", 30, "Days of which the newest snapshot is kept."),
    Setting("keep_weekly", 12, "Weeks of which the newest snapshot is kept."),
    Setting("keep_monthly", 12, "Months of which the newest snapshot is kept."),
    Setting("low_space_mb", 2048, "New work waits while less is free, in MiB; at most a tenth of the disk counts."),
    Setting("keep_cache_days", 7.0, "Days since it was made for which a job's output is given to equal jobs; 0: none."),
    Setting("cache_max_gb", 50.0, "Disk space for such outputs in volumes, in GB; least recently used go first."),
    Setting("keep_capsules_days", 7.0, "Days for which a failed run can be resumed and looked into; 0: never."),
    Setting("keep_runs", 500, "Newest runs of each workflow that are kept, and any that something names; 0: all."),
    Setting("keep_events_days", 90.0, "Days for which events are kept; 0: for ever."),
    Setting("keep_metrics_hours", 24.0, "Hours for which each sample of a metric is kept, then a mean; 0: for ever."),
    Setting("keep_metrics_days", 365.0, "Days for which metrics are kept at all; 0: for ever."),
    Setting("keep_logs_days", 30.0, "Days for which log lines are kept; 0: for ever."),
    Setting("keep_logs_gb", 10.0, "Disk space for log lines, in GB, as they are stored; oldest go first; 0: no end."),
    Setting("keep_failed_logs_days", 180.0, "Days for which a failed run's last lines are kept; 0: for ever."),
    Setting("reserve_mb", 512, "Disk space kept back for the appliance's own state, in MiB; 0 keeps none."),
)
MACHINES = "machines"
"""The one key of `config.toml` that holds tables."""
_TABLE = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path
    host: str
    port: int
    push_port: int
    docker_host: str
    storage: str
    zpool: str
    haproxy: str
    connections: int
    hold_most: int
    base_image: str
    notebook_image: str
    shm_mb: int
    stop_grace_s: float
    machine: str
    max_parallel_jobs: int
    resync_s: float
    watch_debounce_s: float
    log_flush_s: float
    telemetry_memory_mb: int
    sql_timeout_s: float
    deploy_deadline_s: float
    drain_s: float
    hold_s: float
    keep_revisions: int
    autoscale_every_s: float
    snapshot_interval_s: float
    save_quiet_s: float
    save_every_s: float
    idle_after_s: float
    idle_warn_s: float
    idle_gpu_after_s: float
    idle_gpu_stop_s: float
    keep_deleted_days: float
    keep_recent_h: float
    keep_hourly: int
    keep_daily: int
    keep_weekly: int
    keep_monthly: int
    low_space_mb: int
    keep_cache_days: float
    cache_max_gb: float
    keep_capsules_days: float
    keep_runs: int
    keep_events_days: float
    keep_metrics_hours: float
    keep_metrics_days: float
    keep_logs_days: float
    keep_logs_gb: float
    keep_failed_logs_days: float
    reserve_mb: int
    machines: Mapping[str, object] = field(default_factory=dict, hash=False)
    """The tables `[machines.NAME]` as they were written; `spec.machine_tables` reads them."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Setting name -> where its value came from: `default`, `config.toml` or the variable."""

    @property
    def config_file(self) -> Path:
        return self.home / "config.toml"

    @property
    def run_dir(self) -> Path:
        return self.home / "run"

    @property
    def socket(self) -> Path:
        """Trusted API socket: file permissions are the authentication."""
        return self.run_dir / "api.sock"

    @property
    def front_socket(self) -> Path:
        """API socket behind the front door: every request needs the token."""
        return self.run_dir / "front.sock"

    @property
    def push_socket(self) -> Path:
        """Where the front door hands on what containers push; nothing else is served there."""
        return self.run_dir / "push.sock"

    @property
    def pid_file(self) -> Path:
        return self.run_dir / "daemon.pid"

    @property
    def token_file(self) -> Path:
        return self.home / "token"

    @property
    def specs_dir(self) -> Path:
        return self.home / "specs"

    @property
    def state_file(self) -> Path:
        return self.home / "state.db"

    @property
    def telemetry_file(self) -> Path:
        return self.home / "telemetry.duckdb"

    @property
    def volumes_dir(self) -> Path:
        return self.home / "volumes"

    @property
    def uploads_dir(self) -> Path:
        return self.home / "uploads"

    @property
    def router_dir(self) -> Path:
        return self.home / "router"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def load(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> Settings:
    """Settings of this home. Raises UsageError that names the setting, its origin and the expected type."""
    home = home or default_home(environ)
    values: dict[str, Value] = {}
    origins: dict[str, str] = {}
    from_file = _read_config(home / "config.toml")
    for setting in SETTINGS:
        variable = f"APPLIANCE_{setting.name.upper()}"
        raw: object
        if variable in environ:
            raw, origin = environ[variable], variable
        elif setting.name in from_file:
            raw, origin = from_file[setting.name], str(home / "config.toml")
        else:
            raw, origin = setting.default, "default"
        values[setting.name] = _convert(setting, raw, origin)
        origins[setting.name] = origin
    if values["push_port"] == values["port"]:
        raise UsageError(
            f"settings port and push_port are both {values['port']}",
            where=origins["push_port"] if origins["push_port"] != "default" else origins["port"],
            hint="choose another push_port, or 0 for none",
        )
    machines = _machines(from_file.get(MACHINES, {}), home / "config.toml")
    return Settings(home=home, machines=machines, origins=origins, **values)  # type: ignore[arg-type]  # _convert keeps the types


def _read_config(path: Path) -> dict[str, object]:
    if not path.exists():
        return {}
    import tomllib  # deferred: the CLI starts without it where there is no file

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not valid TOML: {error}", where=str(path), hint="correct the file or remove it") from None
    unknown = sorted(set(found) - set(_TABLE) - {MACHINES})
    if unknown:
        raise UsageError(
            f"unknown setting {unknown[0]!r}", where=str(path), hint="`appliance config` lists the settings"
        )
    return found


def _machines(raw: object, path: Path) -> Mapping[str, object]:
    """Each table, unread: a wrong one stops the daemon, and not who asks it something."""
    if isinstance(raw, dict):
        return raw
    raise UsageError("machines must be tables", where=str(path), hint="such as [machines.small] with gpus = 1 below it")


def _convert(setting: Setting, raw: object, origin: str) -> Value:
    kind = type(setting.default)
    try:
        if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
            raise ValueError
        value = kind(raw)
        if not isinstance(value, str) and not setting.least <= value <= setting.most:
            raise UsageError(
                f"setting {setting.name} must be {setting.least:g} to {setting.most:g}, not {raw!r}",
                where=origin,
                hint=f"{setting.help} Default: {setting.default!r}",
            )
        return value
    except (ValueError, OverflowError):
        raise UsageError(
            f"setting {setting.name} must be of type {kind.__name__}, not {raw!r}",
            where=origin,
            hint=f"{setting.help} Default: {setting.default!r}",
        ) from None
