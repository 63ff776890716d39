"""Schema changes in order. Each runs once, in its own transaction; `user_version` counts them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

from appliance.errors import ApplianceError


def m001_initial(db: sqlite3.Connection) -> None:
    for statement in _INITIAL.split(";"):
        if statement.strip():
            db.execute(statement)


def m002_history(db: sqlite3.Connection) -> None:
    for statement in _HISTORY.split(";"):
        if statement.strip():
            db.execute(statement)
    # What was said by nesting, an `undo` takes back the innermost open `rollback`, becomes a mark on the row.
    still_open: dict[str, list[str]] = {}
    for uid, snapshot, cause in db.execute("SELECT uid, id, cause FROM snapshots ORDER BY rowid").fetchall():
        if cause == "rollback":
            still_open.setdefault(uid, []).append(snapshot)
        elif cause == "undo" and still_open.get(uid):
            db.execute("UPDATE snapshots SET undone = 1 WHERE id = ?", (still_open[uid].pop(),))


def m003_workflows(db: sqlite3.Connection) -> None:
    for statement in _WORKFLOWS.split(";"):
        if statement.strip():
            db.execute(statement)


def m004_keeping(db: sqlite3.Connection) -> None:
    for statement in _KEEPING.split(";"):
        if statement.strip():
            db.execute(statement)


def m005_interrupted(db: sqlite3.Connection) -> None:
    # when `stop --all` stopped its container, and how many attempts ended for no fault of the program
    db.execute("ALTER TABLE jobs ADD COLUMN stopped REAL")
    db.execute("ALTER TABLE jobs ADD COLUMN interrupted INTEGER NOT NULL DEFAULT 0")


def m006_deployments(db: sqlite3.Connection) -> None:
    for statement in _DEPLOYMENTS.split(";"):
        if statement.strip():
            db.execute(statement)
    # What a deployment ran was known from its status document alone: of two generations at most.
    rows = db.execute("SELECT uid, generation, updated, status FROM resources WHERE kind = 'deployment'").fetchall()
    for uid, newest, updated, text in rows:
        status = json.loads(text)
        pins, stable = status.get("pins", {}), status.get("stable") or {}
        known = {stable["generation"]: stable["digest"]} if stable.get("replicas") else {}
        since = status.get("since", {})
        under_way = [digest for digest in pins if digest != stable.get("digest")]
        if under_way and since.get("generation") == newest:
            known[newest] = under_way[-1]
        for generation, digest in known.items():
            ready = generation == stable.get("generation")
            began = since.get("at") if since.get("generation") == generation else updated
            db.execute(
                "INSERT INTO rollouts (uid, generation, digest, cause, pin, phase, created, began, ready)"
                " VALUES (?, ?, ?, 'applied', ?, ?, ?, ?, ?)",
                (
                    *(uid, generation, digest, json.dumps(pins[digest]) if digest in pins else None),
                    *("Serving" if ready else "Rolling", updated, began, updated if ready else None),
                ),
            )


def m007_registries(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE registries (name TEXT PRIMARY KEY, url TEXT NOT NULL, username TEXT NOT NULL, "
        "sealed BLOB NOT NULL, updated REAL NOT NULL)"
    )


def m008_trash(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE trash (uid TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, resource TEXT NOT NULL, "
        "revisions TEXT NOT NULL, deleted REAL NOT NULL, until REAL NOT NULL, bytes INTEGER, "
        "going INTEGER NOT NULL DEFAULT 0)"
    )


def m009_executions(db: sqlite3.Connection) -> None:
    # `notebook` is a uid that may be in the trash, so nothing refers to a row of resources
    db.execute(
        "CREATE TABLE executions (id TEXT PRIMARY KEY, notebook TEXT NOT NULL, number INTEGER NOT NULL, "
        "name TEXT NOT NULL, file TEXT NOT NULL, output TEXT NOT NULL, parameters TEXT NOT NULL, "
        "kernel TEXT NOT NULL, author TEXT NOT NULL, generation INTEGER NOT NULL, spec TEXT NOT NULL, "
        "phase TEXT NOT NULL, message TEXT NOT NULL DEFAULT '', canceled TEXT NOT NULL DEFAULT '', "
        "datasets TEXT NOT NULL DEFAULT '{}', models TEXT NOT NULL DEFAULT '{}', created REAL NOT NULL, "
        "started REAL, finished REAL, exit_code INTEGER, cleared INTEGER NOT NULL DEFAULT 0, "
        "UNIQUE (notebook, number))"
    )


def m010_job_gpus(db: sqlite3.Connection) -> None:
    """A job that makes way for a more urgent one, and what befell the GPU that it works on."""
    for column in ("preempted", "fault", "lost"):
        db.execute(f"ALTER TABLE jobs ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")


def m011_gpus(db: sqlite3.Connection) -> None:
    for statement in _GPUS.split(";"):
        if statement.strip():
            db.execute(statement)


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_initial,
    m002_history,
    m003_workflows,
    m004_keeping,
    m005_interrupted,
    m006_deployments,
    m007_registries,
    m008_trash,
    m009_executions,
    m010_job_gpus,
    m011_gpus,
)


def migrate(db: sqlite3.Connection) -> None:
    """Bring the schema to the newest version. Raises where the file is from a newer appliance."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise ApplianceError(
            f"the state file has schema version {version}, this program knows up to {len(MIGRATIONS)}",
            hint="install the newer appliance again; nothing was changed",
        )
    for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            migration(db)
            db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise


_INITIAL = """
CREATE TABLE resources (
    uid TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    spec TEXT NOT NULL,
    source TEXT NOT NULL,
    desired TEXT NOT NULL,
    deleting INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    phase TEXT NOT NULL DEFAULT 'Pending',
    message TEXT NOT NULL DEFAULT '',
    observed INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT '{}',
    UNIQUE (kind, name)
);
CREATE TABLE revisions (
    uid TEXT NOT NULL REFERENCES resources ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    spec TEXT NOT NULL,
    source TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (uid, generation)
);
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    workflow_uid TEXT NOT NULL,
    workflow TEXT NOT NULL,
    spec TEXT NOT NULL,
    inputs TEXT NOT NULL,
    phase TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    cancel INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    UNIQUE (workflow_uid, number)
);
CREATE INDEX runs_by_time ON runs (created);
CREATE INDEX runs_open ON runs (finished) WHERE finished IS NULL;
CREATE TABLE jobs (
    run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    phase TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    container TEXT NOT NULL DEFAULT '',
    exit_code INTEGER,
    started REAL,
    finished REAL,
    inputs TEXT NOT NULL DEFAULT '{}',
    outputs TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (run, name)
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    level TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX events_by_subject ON events (kind, name, id);
CREATE TABLE versions (
    dataset TEXT NOT NULL REFERENCES resources ON DELETE CASCADE,
    version TEXT NOT NULL,
    volume TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL,
    committed REAL,
    bytes INTEGER NOT NULL DEFAULT 0,
    run TEXT NOT NULL DEFAULT '',
    job TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (dataset, version)
);
CREATE TABLE tags (
    dataset TEXT NOT NULL REFERENCES resources ON DELETE CASCADE,
    tag TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (dataset, tag)
);
CREATE TABLE models (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    dataset TEXT NOT NULL,
    version TEXT NOT NULL,
    run TEXT NOT NULL DEFAULT '',
    job TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL
);
CREATE INDEX models_by_name ON models (name, created);
CREATE TABLE workspaces (
    uid TEXT PRIMARY KEY,
    volume TEXT NOT NULL
);
CREATE TABLE snapshots (
    id TEXT PRIMARY KEY,
    uid TEXT NOT NULL,
    volume TEXT NOT NULL,
    cause TEXT NOT NULL,
    message TEXT NOT NULL,
    created REAL NOT NULL
);
CREATE INDEX snapshots_by_owner ON snapshots (uid, created);
CREATE TABLE spec_files (
    path TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    problem TEXT NOT NULL,
    declares TEXT NOT NULL,
    updated REAL NOT NULL
);
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    sealed BLOB NOT NULL,
    updated REAL NOT NULL
)
"""

_HISTORY = """
ALTER TABLE snapshots ADD COLUMN author TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN subject TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN bytes INTEGER;
ALTER TABLE snapshots ADD COLUMN undone INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN parent TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN digest TEXT NOT NULL DEFAULT '';
CREATE TABLE holds (
    target TEXT NOT NULL,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (target, owner)
);
CREATE TABLE backups (
    id TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    phase TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    bytes INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    finished REAL
)
"""

_WORKFLOWS = """
ALTER TABLE runs ADD COLUMN cause TEXT NOT NULL DEFAULT 'manual';
ALTER TABLE runs ADD COLUMN parent TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN mode TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN cache INTEGER NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE jobs ADD COLUMN not_before REAL;
ALTER TABLE jobs ADD COLUMN image TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN cache_key TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN reused TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN begun TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN pins TEXT NOT NULL DEFAULT '{}';
ALTER TABLE jobs ADD COLUMN commit_id TEXT NOT NULL DEFAULT '';
CREATE INDEX jobs_active ON jobs (phase, run) WHERE phase IN ('Starting', 'Running');
CREATE INDEX runs_by_workflow ON runs (workflow, number);
CREATE INDEX runs_kept ON runs (kept) WHERE kept;
CREATE TABLE step_cache (
    key TEXT PRIMARY KEY,
    run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    job TEXT NOT NULL,
    created REAL NOT NULL,
    used REAL NOT NULL,
    bytes INTEGER
);
CREATE INDEX step_cache_by_run ON step_cache (run);
CREATE TABLE capsules (
    run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    job TEXT NOT NULL,
    created REAL NOT NULL,
    reason TEXT NOT NULL,
    log TEXT NOT NULL,
    inputs TEXT NOT NULL,
    outputs TEXT NOT NULL,
    PRIMARY KEY (run, job)
);
CREATE TABLE trigger_marks (
    subject TEXT NOT NULL,
    trigger TEXT NOT NULL,
    mark TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    updated REAL NOT NULL,
    PRIMARY KEY (subject, trigger)
)
"""

_KEEPING = """
CREATE TABLE run_numbers (
    workflow TEXT PRIMARY KEY,
    last INTEGER NOT NULL
);
INSERT INTO run_numbers (workflow, last) SELECT workflow, max(number) FROM runs GROUP BY workflow;
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent != '';
CREATE INDEX versions_by_run ON versions (run) WHERE run != '';
CREATE INDEX models_by_run ON models (run) WHERE run != '';
CREATE INDEX events_by_time ON events (at)
"""

_DEPLOYMENTS = """
CREATE TABLE rollouts (
    uid TEXT NOT NULL REFERENCES resources ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    digest TEXT NOT NULL,
    cause TEXT NOT NULL,
    copies INTEGER,
    pin TEXT,
    phase TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    words TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL,
    began REAL,
    ready REAL,
    ended REAL,
    PRIMARY KEY (uid, generation)
);
CREATE TABLE scales (
    uid TEXT PRIMARY KEY REFERENCES resources ON DELETE CASCADE,
    replicas INTEGER NOT NULL,
    asleep INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    since REAL NOT NULL,
    last_request REAL,
    opinions TEXT NOT NULL DEFAULT '[]'
)
"""

# `uid` may be of what is gone already, so nothing of the leases refers to a row of another table
_GPUS = """
CREATE TABLE leases (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    part TEXT NOT NULL,
    owner TEXT NOT NULL,
    machine TEXT NOT NULL,
    gpus INTEGER NOT NULL,
    shape TEXT NOT NULL,
    priority INTEGER NOT NULL,
    preemptible INTEGER NOT NULL,
    bound_s REAL,
    state TEXT NOT NULL,
    asked REAL NOT NULL,
    ready REAL,
    granted REAL,
    released REAL,
    counted REAL,
    container TEXT NOT NULL DEFAULT '',
    follows TEXT NOT NULL DEFAULT '',
    told INTEGER NOT NULL DEFAULT 0,
    preempted INTEGER NOT NULL DEFAULT 0,
    message TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX leases_live ON leases (kind, uid, part) WHERE state != 'Freeing';
CREATE TABLE lease_cards (
    card TEXT NOT NULL,
    lease TEXT NOT NULL REFERENCES leases ON DELETE CASCADE,
    number INTEGER NOT NULL,
    alone INTEGER NOT NULL,
    PRIMARY KEY (lease, card)
);
CREATE UNIQUE INDEX lease_cards_alone ON lease_cards (card) WHERE alone;
CREATE TABLE gpu_cards (
    uuid TEXT PRIMARY KEY,
    why TEXT NOT NULL,
    since REAL NOT NULL
);
CREATE TABLE gpu_faults (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    uuid TEXT NOT NULL,
    kind TEXT NOT NULL,
    xid INTEGER,
    gi INTEGER,
    words TEXT NOT NULL
);
CREATE INDEX gpu_faults_by_card ON gpu_faults (uuid, id);
CREATE TABLE gpu_durations (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    seconds REAL NOT NULL
);
CREATE INDEX gpu_durations_by_key ON gpu_durations (key, id);
CREATE TABLE gpu_ledger (
    hour INTEGER NOT NULL,
    device TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    part TEXT NOT NULL,
    owner TEXT NOT NULL,
    held_s REAL NOT NULL DEFAULT 0,
    used_s REAL,
    memory_gb_s REAL,
    energy_j REAL,
    measured INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (hour, device, kind, uid, part, owner)
)
"""
