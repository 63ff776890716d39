"""What crosses the API: the shapes of its JSON. Shared by the API, the client, the CLI and the TUI.

Documents stay plain dicts: nothing to decode. The client imports this package for types only, so that the CLI
starts without it.
Times are unix seconds, sizes bytes. A list answer is `{"items": [...]}`.
"""

from __future__ import annotations

from appliance.wire.answers import Page, Problem
from appliance.wire.backups import Backup, BackupProgress, BackupRequest, ForgetRequest, Forgotten
from appliance.wire.datasets import (
    BranchRequest,
    CommitRequest,
    Missing,
    OpenVersion,
    Packed,
    PackRequest,
    TagRequest,
    Version,
    VersionRequest,
)
from appliance.wire.deployments import (
    ExecEnd,
    ExecOutput,
    ExecRequest,
    ReplicaTraffic,
    Revision,
    RevisionDiff,
    RevisionRequest,
    Rollout,
    Scale,
    ScaleRequest,
    Traffic,
    TrafficStep,
)
from appliance.wire.diff import CellChange, DiffEnd, FileChange, FileDiff, Hunk
from appliance.wire.lineage import Lineage, ModelLineage, VersionReader
from appliance.wire.models import Model, ModelRequest
from appliance.wire.notebooks import (
    Access,
    Entries,
    Entry,
    ForkRequest,
    HoldRequest,
    PruneRequest,
    Pruning,
    RestoreRequest,
    RollbackRequest,
    Snapshot,
    SnapshotRequest,
    Verdict,
)
from appliance.wire.records import Event, LogLine, SqlAnswer, SqlRequest
from appliance.wire.registries import Registry, RegistryRequest
from appliance.wire.resources import ApplyRequest, Change, Item, SpecFile
from appliance.wire.runs import DeletedRun, HookAnswer, Job, JobNotebook, JobNotebookRequest, Run, RunRequest
from appliance.wire.secrets import Secret, SecretRequest
from appliance.wire.space import DiskPlace, Space, SpaceGrowth, SpaceHolder, SpaceOwner, SpaceProgress
from appliance.wire.status import Brief, Part, Status

__all__ = [
    "Access",
    "ApplyRequest",
    "Backup",
    "BackupProgress",
    "BackupRequest",
    "BranchRequest",
    "Brief",
    "CellChange",
    "Change",
    "CommitRequest",
    "DeletedRun",
    "DiffEnd",
    "DiskPlace",
    "Entries",
    "Entry",
    "Event",
    "ExecEnd",
    "ExecOutput",
    "ExecRequest",
    "FileChange",
    "FileDiff",
    "ForgetRequest",
    "Forgotten",
    "ForkRequest",
    "HoldRequest",
    "HookAnswer",
    "Hunk",
    "Item",
    "Job",
    "JobNotebook",
    "JobNotebookRequest",
    "Lineage",
    "LogLine",
    "Missing",
    "Model",
    "ModelLineage",
    "ModelRequest",
    "OpenVersion",
    "PackRequest",
    "Packed",
    "Page",
    "Part",
    "Problem",
    "PruneRequest",
    "Pruning",
    "Registry",
    "RegistryRequest",
    "ReplicaTraffic",
    "RestoreRequest",
    "Revision",
    "RevisionDiff",
    "RevisionRequest",
    "RollbackRequest",
    "Rollout",
    "Run",
    "RunRequest",
    "Scale",
    "ScaleRequest",
    "Secret",
    "SecretRequest",
    "Snapshot",
    "SnapshotRequest",
    "Space",
    "SpaceGrowth",
    "SpaceHolder",
    "SpaceOwner",
    "SpaceProgress",
    "SpecFile",
    "SqlAnswer",
    "SqlRequest",
    "Status",
    "TagRequest",
    "Traffic",
    "TrafficStep",
    "Verdict",
    "Version",
    "VersionReader",
    "VersionRequest",
]
