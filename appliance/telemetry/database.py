"""Opening the DuckDB file: configuration, schema, and what is done with a file that does not open."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import duckdb

from appliance.errors import TelemetryError

LINES, SOURCES, CURSORS = "store.log_lines", "store.sources", "store.cursors"
REQUESTS, FAILURES = "store.requests", "store.failed_requests"
GPU_SAMPLES = "store.gpu_samples"
SERIES, METRICS, ROLLUPS = "store.series", "store.metrics", "store.metric_rollups"
TABLES = {
    LINES: False,
    SOURCES: False,
    CURSORS: True,
    REQUESTS: False,
    FAILURES: False,
    GPU_SAMPLES: False,
    SERIES: False,
    METRICS: False,
    ROLLUPS: False,
}
"""Every table that is appended to -> whether only the newest row of each first column counts.

There is no index and no key: an upsert costs four times an append. What is out of date is pruned now and then.
"""
THREADS = 2
CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": THREADS,
    "checkpoint_threshold": "64MB",  # each checkpoint stalls a commit for up to half a second: rarely, then
    "max_temp_directory_size": "4GB",
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # SQL must not see the daemon's Python variables
}
MIGRATIONS = (
    """
CREATE TABLE store.log_lines (
    seq BIGINT NOT NULL, ts TIMESTAMP NOT NULL, source INTEGER NOT NULL, is_error BOOLEAN NOT NULL,
    line VARCHAR NOT NULL
);
CREATE TABLE store.sources (
    id INTEGER NOT NULL, kind VARCHAR NOT NULL, name VARCHAR NOT NULL, part VARCHAR NOT NULL,
    container VARCHAR NOT NULL
);
CREATE TABLE store.cursors (
    container VARCHAR NOT NULL, seq BIGINT NOT NULL, inode UBIGINT NOT NULL, position UBIGINT NOT NULL,
    mark BLOB NOT NULL, pending VARCHAR NOT NULL
);
CREATE VIEW logs AS
    SELECT l.seq, l.ts, s.kind, s.name, s.part, s.container,
           CASE WHEN l.is_error THEN 'stderr' ELSE 'stdout' END AS stream, l.line
    FROM store.log_lines l JOIN store.sources s ON s.id = l.source
""",
    """
CREATE TABLE store.requests (
    ts TIMESTAMP NOT NULL, kind VARCHAR NOT NULL, name VARCHAR NOT NULL, target VARCHAR NOT NULL,
    requests UINTEGER NOT NULL, ok UINTEGER NOT NULL, redirected UINTEGER NOT NULL, refused UINTEGER NOT NULL,
    failed UINTEGER NOT NULL, cut UINTEGER NOT NULL, held UINTEGER NOT NULL, held_ms UBIGINT NOT NULL,
    held_most_ms UBIGINT NOT NULL, wait_ms UBIGINT NOT NULL, total_ms UBIGINT NOT NULL, received UBIGINT NOT NULL,
    sent UBIGINT NOT NULL, waits UINTEGER[] NOT NULL, totals UINTEGER[] NOT NULL
);
CREATE TABLE store.failed_requests (
    ts TIMESTAMP NOT NULL, kind VARCHAR NOT NULL, name VARCHAR NOT NULL, target VARCHAR NOT NULL,
    status USMALLINT NOT NULL, cut BOOLEAN NOT NULL, held_ms BIGINT NOT NULL, wait_ms BIGINT NOT NULL,
    total_ms BIGINT NOT NULL
);
CREATE VIEW requests AS
    SELECT ts, kind, name, target, requests, ok, redirected, refused, failed, cut, held, held_ms, held_most_ms,
           wait_ms, total_ms, received, sent
    FROM store.requests;
CREATE VIEW failed_requests AS SELECT * FROM store.failed_requests
""",
    """
CREATE TABLE store.gpu_samples (
    ts TIMESTAMP NOT NULL, device VARCHAR NOT NULL, samples UINTEGER NOT NULL, busy DOUBLE, busy_most DOUBLE,
    memory UBIGINT, power_w DOUBLE, temperature DOUBLE, sm_mhz DOUBLE, energy_j DOUBLE, throttled VARCHAR NOT NULL,
    lost BOOLEAN NOT NULL
);
CREATE VIEW gpu_samples AS SELECT * FROM store.gpu_samples
""",
    """
CREATE TABLE store.series (
    id INTEGER NOT NULL, kind VARCHAR NOT NULL, name VARCHAR NOT NULL, part VARCHAR NOT NULL,
    container VARCHAR NOT NULL, metric VARCHAR NOT NULL, labels MAP(VARCHAR, VARCHAR) NOT NULL
);
CREATE TABLE store.metrics (ts TIMESTAMP NOT NULL, series INTEGER NOT NULL, step BIGINT, value DOUBLE NOT NULL);
CREATE TABLE store.metric_rollups (
    ts TIMESTAMP NOT NULL, seconds UINTEGER NOT NULL, series INTEGER NOT NULL, samples UINTEGER NOT NULL,
    mean DOUBLE NOT NULL, least DOUBLE NOT NULL, most DOUBLE NOT NULL, last DOUBLE NOT NULL
);
CREATE VIEW metrics AS
    SELECT m.ts, s.kind, s.name, s.part, s.container, s.metric, s.labels, m.step, m.value
    FROM (
        SELECT ts, series, step, value FROM store.metrics
        UNION ALL SELECT ts, series, NULL, mean FROM store.metric_rollups
    ) m JOIN store.series s ON s.id = m.series;
CREATE VIEW metric_rollups AS
    SELECT r.ts, r.seconds, s.kind, s.name, s.part, s.container, s.metric, s.labels, r.samples, r.mean, r.least,
           r.most, r.last
    FROM store.metric_rollups r JOIN store.series s ON s.id = r.series
""",
)
"""Each leads from the version before it. Tables live in the schema `store`; `main` holds what SQL users see:

logs(seq BIGINT, ts TIMESTAMP in UTC, kind, name, part, container, stream, line VARCHAR)
requests(ts: a second, kind, name, target: a replica's short container id, requests, of those by status ok (2xx),
    redirected, refused (4xx), failed (5xx); cut: ended before they were whole, held: waited for a replica; the sums
    held_ms, wait_ms until an answer began, total_ms until it was whole; received, sent: bytes). Sum over seconds:
    there may be more than one row of each.
failed_requests(ts, kind, name, target, status, cut, held_ms, wait_ms, total_ms): single ones, not all
gpu_samples(ts: ten seconds from it on, device: UUID, samples: looks in that time, busy: mean percent of the time in
    which a kernel ran, busy_most, memory: bytes at the most, power_w: mean, temperature: the highest, in Celsius,
    sm_mhz: mean, energy_j: the card's counter at the end, throttled: thermal, power, hardware or empty, lost). NULL:
    the driver does not tell.
metrics(ts, kind, name, part, container: empty where a metric is of no container, metric, labels MAP, step: NULL where
    the program counts none, value): raw ones, and the means of those that retention has rolled up
metric_rollups(ts: seconds from it on, seconds, kind, name, part, container, metric, labels, samples, mean, least,
    most, last)

Times are TIMESTAMP, not TIMESTAMP WITH TIME ZONE: the session is in UTC, so both compare alike, and a Python client
needs no further package to read them.
"""

_NOT_DAMAGE = re.compile(
    "set lock on file|Permission denied|No space left|Is a directory|Read-only file system|Cannot open file"
    "|Too many open files|Out of Memory",
    re.IGNORECASE,
)


class _FromTheFuture(Exception):
    """Written by a later version of this program."""


def open_database(file: Path, *, memory_mb: int) -> tuple[duckdb.DuckDBPyConnection, list[str]]:
    """The open database, and one warning for each time that something had to be moved aside. Nothing is deleted.

    A damaged write-ahead log is moved aside alone first: what it held is read again from the engine's files.
    Raises TelemetryError where the file is not to blame: another process has it, no permission, a full disk.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(_spill(file), ignore_errors=True)  # left by a process that was killed
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    warnings: list[str] = []
    while True:
        try:
            return _connect(file, memory_mb), warnings
        except (duckdb.Error, _FromTheFuture) as error:
            reason = str(error).partition("\n")[0]
            moved = None
            if not _NOT_DAMAGE.search(str(error)):
                moved = _move_aside(file, stamp, everything=isinstance(error, _FromTheFuture))
            if moved is None:
                raise TelemetryError(
                    f"the log and metric database cannot be opened: {reason}",
                    where=str(file),
                    hint="end the other process that uses it, make its folder writable, or free disk space",
                ) from error
            warnings.append(f"the log and metric database did not open and was moved aside to {moved}: {reason}")


def _connect(file: Path, memory_mb: int) -> duckdb.DuckDBPyConnection:
    limits = {"memory_limit": f"{memory_mb}MiB", "temp_directory": str(_spill(file))}
    connection = duckdb.connect(str(file), config={**CONFIG, **limits})
    try:
        file.chmod(0o600)
        connection.execute("SET enable_progress_bar = false")
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        connection.execute("SET GLOBAL lock_configuration = true")
        _migrate(connection)
        connection.execute(f"SELECT max(seq) FROM {LINES}").fetchall()
        connection.execute(f"SELECT count(*), max(id) FROM {SOURCES}").fetchall()
        connection.execute(f"SELECT count(*), max(position) FROM {CURSORS}").fetchall()
        connection.execute(f"SELECT count(*), max(ts) FROM {REQUESTS}").fetchall()
        connection.execute(f"SELECT count(*), max(ts) FROM {GPU_SAMPLES}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: duckdb.DuckDBPyConnection) -> None:
    connection.begin()
    connection.execute("CREATE SCHEMA IF NOT EXISTS store")
    connection.execute("CREATE TABLE IF NOT EXISTS store.schema_version (version INTEGER NOT NULL)")
    row = connection.execute("SELECT max(version) FROM store.schema_version").fetchone()
    version = (row and row[0]) or 0
    if version > len(MIGRATIONS):
        raise _FromTheFuture(f"its version is {version}, this program knows {len(MIGRATIONS)}")
    for migration in MIGRATIONS[version:]:
        connection.execute(migration)
    if version < len(MIGRATIONS):
        connection.execute("DELETE FROM store.schema_version")
        connection.execute("INSERT INTO store.schema_version VALUES (?)", [len(MIGRATIONS)])
    connection.commit()


def _spill(file: Path) -> Path:
    return file.with_name(f"{file.name}.tmp")


def _move_aside(file: Path, stamp: str, *, everything: bool) -> Path | None:
    """The write-ahead log if there is one, else the database itself, or both; None if neither exists."""
    wal = file.with_name(f"{file.name}.wal")
    aside = file.with_name(f"{file.name}.damaged-{stamp}")
    if wal.exists():
        aside_wal = _unused(file.with_name(f"{aside.name}.wal"))
        wal.rename(aside_wal)
        if not everything:
            return aside_wal
    if not file.exists():
        return None
    aside = _unused(aside)
    file.rename(aside)
    return aside


def _unused(path: Path) -> Path:
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
