"""The tables of a question, documented: those of telemetry here, those of the state in `state/sql_tables.py`."""

from __future__ import annotations

from appliance.state.sql_tables import STATE_TABLES, Column

_WHOSE = (Column("kind", "VARCHAR", "notebook, run or deployment"), Column("name", "VARCHAR", "of a run: runs.name"))
_PART = Column("part", "VARCHAR", "a job, an execution, a replica; empty: the whole")
_MEASURED = (
    Column("kind", "VARCHAR", "notebook, run, deployment; machine for what is of the whole machine"),
    Column("name", "VARCHAR", "of a run: runs.name"),
    _PART,
    Column("container", "VARCHAR", "empty where it is of none"),
    Column("metric", "VARCHAR", "such as container_cpu_percent, or the program's own name for it"),
    Column("labels", "VARCHAR", "MAP(VARCHAR, VARCHAR): labels['fold']"),
)
_TELEMETRY: dict[str, tuple[str, tuple[Column, ...]]] = {
    "logs": (
        "what containers printed, line by line",
        (
            Column("seq", "BIGINT", "order in which lines were stored"),
            Column("ts", "TIMESTAMP"),
            *_WHOSE,
            _PART,
            Column("container", "VARCHAR"),
            Column("stream", "VARCHAR", "stdout or stderr"),
            Column("line", "VARCHAR", "secrets are blanked out"),
        ),
    ),
    "metrics": (
        "what was measured: samples as they came, and the means of those that were rolled up",
        (
            Column("ts", "TIMESTAMP"),
            *_MEASURED,
            Column("step", "BIGINT", "of a training; NULL: the program counts none"),
            Column("value", "DOUBLE"),
        ),
    ),
    "metric_rollups": (
        "older samples, a row for each minute or hour",
        (
            Column("ts", "TIMESTAMP", "`seconds` from it on"),
            Column("seconds", "BIGINT"),
            *_MEASURED,
            Column("samples", "BIGINT"),
            Column("mean", "DOUBLE"),
            Column("least", "DOUBLE"),
            Column("most", "DOUBLE"),
            Column("last", "DOUBLE"),
        ),
    ),
    "requests": (
        "requests at the front door, counted by the second; sum them: a second may have several rows",
        (
            Column("ts", "TIMESTAMP", "a second"),
            *_WHOSE,
            Column("target", "VARCHAR", "the replica's short container id"),
            Column("requests", "BIGINT"),
            Column("ok", "BIGINT", "answered 2xx"),
            Column("redirected", "BIGINT"),
            Column("refused", "BIGINT", "4xx"),
            Column("failed", "BIGINT", "5xx"),
            Column("cut", "BIGINT", "ended before they were whole"),
            Column("held", "BIGINT", "waited for a replica"),
            Column("held_ms", "BIGINT", "a sum, as the following"),
            Column("held_most_ms", "BIGINT", "the longest"),
            Column("wait_ms", "BIGINT", "until the answer began"),
            Column("total_ms", "BIGINT", "until it was whole"),
            Column("received", "BIGINT", "bytes"),
            Column("sent", "BIGINT", "bytes"),
        ),
    ),
    "failed_requests": (
        "single requests that failed; not all of a flood",
        (
            Column("ts", "TIMESTAMP"),
            *_WHOSE,
            Column("target", "VARCHAR"),
            Column("status", "BIGINT"),
            Column("cut", "BOOLEAN"),
            Column("held_ms", "BIGINT"),
            Column("wait_ms", "BIGINT"),
            Column("total_ms", "BIGINT"),
        ),
    ),
    "gpu_samples": (
        "what each GPU did, in rows of ten seconds; NULL: the driver does not tell",
        (
            Column("ts", "TIMESTAMP", "ten seconds from it on"),
            Column("device", "VARCHAR", "UUID"),
            Column("samples", "BIGINT", "looks in that time"),
            Column("busy", "DOUBLE", "percent of the time in which a kernel ran"),
            Column("busy_most", "DOUBLE"),
            Column("memory", "BIGINT", "bytes, at the most"),
            Column("power_w", "DOUBLE"),
            Column("temperature", "DOUBLE", "Celsius, the highest"),
            Column("sm_mhz", "DOUBLE"),
            Column("energy_j", "DOUBLE", "the card's counter"),
            Column("throttled", "VARCHAR", "thermal, power, hardware or empty"),
            Column("lost", "BOOLEAN"),
        ),
    ),
}
TABLES: dict[str, tuple[str, tuple[Column, ...]]] = {
    **_TELEMETRY,
    **{name: (table.about, table.columns) for name, table in STATE_TABLES.items()},
}
"""Name -> what a row is, and its columns. Times are UTC."""
STORED = frozenset(_TELEMETRY)
"""Those that are in the telemetry database."""
