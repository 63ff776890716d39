"""Questions to a large database, beside grep and SQLite over the same lines and samples, in one run.

    python -m tests.bench.bench_telemetry [LINES [METRICS]]

Default: 5,000,000 lines of 50 sources and 10,000,000 samples of 200 series. The lines lie in a text file for grep, and
in a table of SQLite with an index on (source, time), as have the samples there. Each question is asked in turn of
each, so that a slow moment of the machine meets all; medians. Then the newest lines of a source are read again and
again while 10,000 rows a second come in.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.telemetry.database import LINES, METRICS
from appliance.telemetry.metrics.types import MetricQuery
from appliance.telemetry.store import Batch, Store
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogQuery

SOURCES, SERIES, ROUNDS, BUSY_S, RATE = 50, 200, 5, 15.0, 10_000
BEGUN = datetime(2026, 1, 2, tzinfo=UTC)
PATTERN = "loss=0[.]99[0-9]7 "
"""A regular expression in all three; about one line in a thousand."""
TEXT = (
    "'step ' || i || ' loss=' || printf('%.4f', (i * 7919 % 10000) / 10000.0) || ' lr=0.001 some more of a usual line'"
)


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    samples = int(sys.argv[2]) if len(sys.argv) > 2 else 2 * lines
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.monotonic()
        fill(folder, lines, samples)
        fill_sqlite(folder, lines, samples)
        print(f"{lines:,} lines and {samples:,} samples; made in {time.monotonic() - begun:.0f} s")
        for file in sorted(folder.iterdir()):
            print(f"    {file.name:<20} {file.stat().st_size / 1e6:>9,.0f} MB")
        asyncio.run(ask(folder, lines, samples))


def fill(folder: Path, lines: int, samples: int) -> None:
    store = open_store(folder)
    try:
        at = f"TIMESTAMP '{BEGUN:%Y-%m-%d}' + to_milliseconds(i * {spacing_ms(lines)})"
        store.chore(
            lambda connection: connection.execute(
                "INSERT INTO store.sources SELECT i, 'run', 'bench.' || i, 'train', 'c' || i"
                f" FROM range({SOURCES}) t(i)"
            ).fetchall()
        ).result()
        store.chore(
            lambda connection: connection.execute(
                "INSERT INTO store.series SELECT i, 'run', 'bench.' || (i % 50), 'train', 'c', 'metric_' || i, MAP {}"
                f" FROM range({SERIES}) t(i)"
            ).fetchall()
        ).result()
        with store.held() as connection:
            text = TEXT.replace("printf", "format").replace("'%.4f'", "'{:.4f}'")
            connection.execute(
                f"INSERT INTO {LINES} SELECT i + 1, {at}, i % {SOURCES}, i % 7 = 0, {text} FROM range({lines}) t(i)"
            ).fetchall()
            at = f"TIMESTAMP '{BEGUN:%Y-%m-%d}' + to_milliseconds(i * {spacing_ms(samples)})"
            connection.execute(
                f"INSERT INTO {METRICS} SELECT {at}, i % {SERIES}, i // {SERIES}, sin(i / 1000.0)"
                f" FROM range({samples}) t(i)"
            ).fetchall()
        store.checkpoint()
    finally:
        store.stop()


def fill_sqlite(folder: Path, lines: int, samples: int) -> None:
    db = sqlite3.connect(folder / "sqlite.db")
    db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
    db.execute("CREATE TABLE logs (seq INTEGER PRIMARY KEY, ts REAL, source INTEGER, line TEXT)")
    db.execute("CREATE TABLE metrics (ts REAL, series INTEGER, value REAL)")
    count = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {} - 1)"
    begun = BEGUN.timestamp()
    db.execute(
        f"INSERT INTO logs {count.format(lines)} SELECT i + 1, {begun} + i * {spacing_ms(lines)} / 1000.0,"
        f" i % {SOURCES}, {TEXT} FROM n"
    )
    db.execute(
        f"INSERT INTO metrics {count.format(samples)} SELECT {begun} + i * {spacing_ms(samples)} / 1000.0,"
        f" i % {SERIES}, (i % 6283) / 1000.0 FROM n"
    )
    db.execute("CREATE INDEX by_source ON logs (source, ts)")
    db.execute("CREATE INDEX by_series ON metrics (series, ts)")
    db.commit()
    with (folder / "lines.txt").open("w") as file:
        file.writelines(f"{source} {line}\n" for source, line in db.execute("SELECT source, line FROM logs"))
    db.close()


async def ask(folder: Path, lines: int, samples: int) -> None:
    telemetry = Telemetry(folder / "telemetry.duckdb", flush_s=0.5, memory_mb=512)
    await telemetry.start()
    db = sqlite3.connect(folder / "sqlite.db", check_same_thread=False)
    db.create_function("matches", 1, regular_expression(), deterministic=True)
    text = str(folder / "lines.txt")
    ends = BEGUN.timestamp() + samples * spacing_ms(samples) / 1000
    hour = MetricQuery(kind="run", metric="metric_7", since=ends - 3600, until=ends, every_s=10)
    try:
        await row(
            "last 1000 lines of a source",
            lambda: telemetry.logs(LogQuery(kind="run", name="bench.7", limit=1000)),
            lambda: db.execute("SELECT line FROM logs WHERE source = 7 ORDER BY ts DESC LIMIT 1000").fetchall(),
            lambda: shell(f"grep '^7 ' {text} | tail -n 1000"),
        )
        await row(
            "regular expression, all lines",
            lambda: telemetry.sql(f"SELECT count(*) FROM logs WHERE regexp_matches(line, '{PATTERN}')", timeout_s=120),
            lambda: db.execute("SELECT count(*) FROM logs WHERE matches(line)").fetchall(),
            lambda: shell(f"LC_ALL=C grep -cE '{PATTERN}' {text}"),
        )
        await row(
            "one hour of a series by 10 s",
            lambda: telemetry.metrics(hour),
            lambda: db.execute(
                "SELECT CAST(ts / 10 AS INTEGER), avg(value) FROM metrics WHERE series = 7 AND ts >= ? GROUP BY 1",
                [ends - 3600],
            ).fetchall(),
            None,
        )
        await busy(telemetry, lines)
    finally:
        db.close()
        await telemetry.stop()


async def row(name: str, ours: Callable[[], Any], sqlite: Callable[[], Any], grep: Callable[[], Any] | None) -> None:
    took: dict[str, list[float]] = {"duckdb": [], "sqlite": [], "grep": []}
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await ours()
        took["duckdb"].append(time.perf_counter() - begun)
        for way, question in (("sqlite", sqlite), ("grep", grep)):
            if question is not None:
                begun = time.perf_counter()
                await asyncio.to_thread(question)
                took[way].append(time.perf_counter() - begun)
    said = ", ".join(f"{way} {1000 * statistics.median(times):,.1f} ms" for way, times in took.items() if times)
    print(f"{name:<32} {said}")


async def busy(telemetry: Telemetry, lines: int) -> None:
    """The newest 1,000 lines of a source, again and again, while rows come in through the same writer as ever."""
    query = LogQuery(kind="run", name="bench.7", limit=1000)

    async def latencies(seconds: float) -> list[float]:
        found: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            begun = time.perf_counter()
            await telemetry.logs(query)
            found.append(1000 * (time.perf_counter() - begun))
        return sorted(found)

    quiet = await latencies(BUSY_S / 3)
    ended = threading.Event()
    writing = asyncio.create_task(asyncio.to_thread(write, telemetry._store, lines + 1, ended))
    loaded = await latencies(BUSY_S)
    ended.set()
    written = await writing
    for name, found in (("quiet", quiet), (f"{written / BUSY_S:,.0f} rows/s come in", loaded)):
        p99 = found[int(0.99 * (len(found) - 1))]
        print(
            f"reader, {name:<24} median {statistics.median(found):.1f} ms, p99 {p99:.1f} ms of {len(found)} questions"
        )


def write(store: Store, seq: int, ended: threading.Event) -> int:
    first, begun = seq, time.monotonic()
    while not ended.is_set():
        due = first + int(RATE * (time.monotonic() - begun))
        if due > seq:
            at = datetime.now(UTC).replace(tzinfo=None)
            store.submit(
                Batch(
                    {LINES: [(n, at, n % SOURCES, False, f"line {n} of a usual length or so") for n in range(seq, due)]}
                )
            )
            seq = due
        ended.wait(0.05)
    return seq - first


def regular_expression() -> Callable[[str], bool]:
    pattern = re.compile(PATTERN)
    return lambda text: pattern.search(text) is not None


def shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


def spacing_ms(rows: int) -> int:
    """So that all lie within about 28 hours."""
    return max(1, 100_000_000 // rows)


def open_store(folder: Path) -> Store:
    store = Store(
        folder / "telemetry.duckdb", memory_mb=512, flush_s=0.5, on_commit=lambda _: None, warn=lambda said: print(said)
    )
    store.start()
    return store


if __name__ == "__main__":
    main()
