from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from appliance.errors import TelemetryError
from appliance.telemetry import database
from appliance.telemetry.database import CURSORS, LINES, SOURCES, open_database
from appliance.telemetry.query import read_cursor
from appliance.telemetry.store import FULL_BYTES, Batch, Store
from appliance.telemetry.tail import Position

AT = datetime(2025, 1, 2, 3, 4, 5)  # noqa: DTZ001


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "telemetry.duckdb"


class Commits:
    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.warnings: list[str] = []

    def __call__(self, batches: list[Batch]) -> None:
        self.batches += batches


@pytest.fixture
def commits() -> Commits:
    return Commits()


@pytest.fixture
def store(file: Path, commits: Commits) -> Iterator[Store]:
    store = make(file, commits)
    store.start()
    yield store
    store.stop()


def make(file: Path, commits: Commits, flush_s: float = 0.05) -> Store:
    return Store(file, memory_mb=128, flush_s=flush_s, on_commit=commits, warn=commits.warnings.append)


def line(seq: int, text: str = "x") -> tuple[Any, ...]:
    return (seq, AT, 1, False, text)


def cursor(offset: int, pending: str = "") -> tuple[Any, ...]:
    return ("c1", offset, 7, offset, b"\x00\xffmark", pending)


def write(store: Store, rows: dict[str, Any]) -> BaseException | None:
    """Submit and wait until it is committed."""
    done = threading.Event()
    answers: list[BaseException | None] = []

    def written(error: BaseException | None) -> None:
        answers.append(error)
        done.set()

    store.submit(Batch(rows, written=written))
    assert done.wait(120)
    return answers[0]


def ask(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.reading() as connection:
        return connection.execute(sql).fetchall()


def resume(store: Store, container: str) -> tuple[int | None, Position | None, str]:
    with store.reading() as connection:
        return read_cursor(connection, container)


def eventually(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.01)


def test_rows_and_cursor_are_stored_together(store: Store) -> None:
    assert write(store, {LINES: [line(1)], CURSORS: [cursor(10)], SOURCES: [(1, "run", "w.1", "job", "c1")]}) is None
    assert ask(store, "SELECT kind, name, part, container, stream, line FROM logs") == [
        ("run", "w.1", "job", "c1", "stdout", "x")
    ]
    assert ask(store, f"SELECT * FROM {CURSORS}") == [("c1", 10, 7, 10, b"\x00\xffmark", "")]


def test_the_latest_cursor_counts(store: Store, commits: Commits) -> None:
    for offset in range(1, 6):
        store.submit(Batch({LINES: [line(offset)], CURSORS: [cursor(offset)]}))
    write(store, {CURSORS: [cursor(99)]})
    assert resume(store, "c1") == (None, Position(7, 99, b"\x00\xffmark"), "")
    assert resume(store, "c2") == (None, None, "")
    assert ask(store, f"SELECT seq FROM {LINES} ORDER BY seq") == [(seq,) for seq in range(1, 6)]
    assert len(commits.batches) == 6


def test_old_cursors_are_pruned(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.telemetry.store.PRUNE_ROWS", 10)
    for offset in range(1, 100):
        write(store, {CURSORS: [cursor(offset), ("c2", offset, 1, offset * 2, b"", "")]})
    assert ask(store, f"SELECT count(*) FROM {CURSORS}")[0][0] <= 12
    assert resume(store, "c1") == (None, Position(7, 99, b"\x00\xffmark"), "")
    assert resume(store, "c2") == (None, Position(1, 198, b""), "")


def test_quiet_batches_are_written_without_being_urged(store: Store, commits: Commits) -> None:
    store.submit(Batch({LINES: [line(1)]}))
    eventually(lambda: len(commits.batches) == 1)
    store.submit(Batch({LINES: [line(2)]}))
    eventually(lambda: len(commits.batches) == 2)


def test_a_full_store_says_so_until_it_has_written(file: Path, commits: Commits) -> None:
    store = make(file, commits)
    store.submit(Batch({LINES: [line(1)]}, size=FULL_BYTES))
    assert store.full
    store.start()
    eventually(lambda: not store.full)
    store.stop()


def test_any_text_is_stored_as_it_is(store: Store) -> None:
    strange = ["", "a\0b", "\ufffd", "🦆" * 5000, "'; DROP TABLE logs; --", "\x1b[31mred\x1b[0m", "tab\tend"]
    write(store, {LINES: [line(seq, text) for seq, text in enumerate(strange)]})
    assert [row[0] for row in ask(store, f"SELECT line FROM {LINES} ORDER BY seq")] == strange


def test_stop_writes_what_waits(file: Path, commits: Commits) -> None:
    store = make(file, commits, flush_s=60)
    store.start()
    store.submit(Batch({LINES: [line(1)]}))
    store.submit(Batch({LINES: [line(2)]}))
    store.stop()
    again = make(file, commits)
    again.start()
    assert ask(again, f"SELECT count(*) FROM {LINES}") == [(2,)]
    assert again.next_seq == 3
    again.stop()


def test_numbers_of_an_empty_database_begin_with_the_clock(store: Store) -> None:
    assert abs(store.next_seq / 1e6 - time.time()) < 60
    assert store.next_seq < 2**53


def test_not_open(file: Path, commits: Commits) -> None:
    with pytest.raises(TelemetryError), make(file, commits).reading():
        pass


def test_the_database_is_readable_by_its_owner_only(store: Store, file: Path) -> None:
    assert file.stat().st_mode & 0o077 == 0


def test_a_failed_commit_is_tried_again_and_nothing_is_lost_or_doubled(
    store: Store, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store._appender
    failures = iter([duckdb.IOException("disk full"), duckdb.FatalException("instance is invalid"), None])

    class Failing:
        def __init__(self, appender: Any) -> None:
            self.appender = appender
            self.append_rows, self.clear = appender.append_rows, appender.clear

        def flush(self) -> None:
            self.appender.flush()
            if failure := next(failures, None):
                raise failure

    def appender(connection: Any, table: str) -> Any:
        return Failing(real(connection, table))

    monkeypatch.setattr(store, "_appender", appender)
    monkeypatch.setattr("appliance.telemetry.store.RETRY_FIRST_S", 0.01)
    store.submit(Batch({LINES: [line(1), line(2)]}))
    assert write(store, {LINES: [line(3)]}) is None
    assert ask(store, f"SELECT seq FROM {LINES} ORDER BY seq") == [(1,), (2,), (3,)]
    assert ["cannot be written" in warning for warning in commits.warnings] == [True]


def test_a_commit_that_failed_behind_its_back_is_not_repeated(
    store: Store, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store._commit
    failures = iter([duckdb.FatalException("failed to create checkpoint")])

    def commit(batches: list[Batch]) -> None:
        real(batches)
        if failure := next(failures, None):
            raise failure

    monkeypatch.setattr(store, "_commit", commit)
    monkeypatch.setattr("appliance.telemetry.store.RETRY_FIRST_S", 0.01)
    assert write(store, {LINES: [line(1), line(2)], CURSORS: [cursor(1)]}) is None
    assert write(store, {LINES: [line(3)], CURSORS: [cursor(2)]}) is None
    assert ask(store, f"SELECT seq FROM {LINES} ORDER BY seq") == [(1,), (2,), (3,)]
    assert len(commits.batches) == 2


def test_stopping_while_nothing_can_be_written_says_so(
    file: Path, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(file, commits)
    store.start()
    failing = threading.Event()

    def fail(batches: list[Batch]) -> None:
        failing.set()
        raise duckdb.IOException("disk full")

    monkeypatch.setattr(store, "_commit", fail)
    answers: list[BaseException | None] = []
    store.submit(Batch({LINES: [line(1)]}, written=answers.append))
    assert failing.wait(120)
    store.stop()
    assert isinstance(answers[0], duckdb.IOException)


def filled(file: Path) -> None:
    """A closed database with two lines, and a WAL beside it that holds a third."""
    commits = Commits()
    store = make(file, commits)
    store.start()
    write(store, {LINES: [line(1), line(2)], CURSORS: [cursor(20)]})
    store.stop()
    store = make(file, commits)
    store.start()
    write(store, {LINES: [line(3)], CURSORS: [cursor(30)]})
    wal = Path(f"{file}.wal")
    kept = wal.read_bytes()
    database_bytes = file.read_bytes()
    store.stop()
    file.write_bytes(database_bytes)
    wal.write_bytes(kept)


def restarted(file: Path) -> tuple[list[tuple[Any, ...]], list[str]]:
    commits = Commits()
    store = make(file, commits)
    store.start()
    try:
        write(store, {LINES: [line(store.next_seq)]})
        return ask(store, f"SELECT seq FROM {LINES} ORDER BY seq"), commits.warnings
    finally:
        store.stop()


def test_a_sound_wal_is_replayed(file: Path) -> None:
    filled(file)
    rows, warnings = restarted(file)
    assert rows[:3] == [(1,), (2,), (3,)]
    assert rows[3] == (31,)
    assert warnings == []


def test_a_damaged_wal_is_moved_aside_alone(file: Path) -> None:
    filled(file)
    wal = Path(f"{file}.wal")
    data = bytearray(wal.read_bytes())
    for index in range(len(data) // 2, len(data) // 2 + 20):
        data[index] ^= 0xFF
    wal.write_bytes(data)
    rows, [warning] = restarted(file)
    assert rows[:2] == [(1,), (2,)]
    assert rows[2][0] > 10**15  # numbers that were given to lost lines are not given again
    [aside] = file.parent.glob("*.damaged-*.wal")
    assert aside.read_bytes() == bytes(data)
    assert str(aside) in warning


@pytest.mark.parametrize("damage", [b"", b"not a database" * 1000, None])
def test_a_damaged_database_is_moved_aside_with_its_wal(file: Path, damage: bytes | None) -> None:
    filled(file)
    data = file.read_bytes() if damage is None else damage
    if damage is None:
        data = data[:5000]
    file.write_bytes(data)
    rows, warnings = restarted(file)
    assert len(rows) == 1
    assert warnings
    kept = {path.read_bytes() for path in file.parent.glob("*.damaged-*")}
    assert data in kept
    assert len(kept) == 2


def test_a_database_from_the_future_is_moved_aside(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, "CREATE TABLE store.fresh (a INTEGER)"))
        connection, _ = open_database(file, memory_mb=64)
        connection.close()
    rows, [warning] = restarted(file)
    assert len(rows) == 1
    assert f"version is {len(database.MIGRATIONS) + 1}" in warning
    [aside] = file.parent.glob("*.damaged-*")
    assert str(aside) in warning


def test_a_second_time_has_a_name_of_its_own(file: Path) -> None:
    for _ in range(2):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"not a database")
        restarted(file)
    assert len(list(file.parent.glob("*.damaged-*"))) == 2


def test_migrations_continue_where_an_older_program_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(file)
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, "CREATE TABLE store.fresh (a INTEGER)"))
    connection, warnings = open_database(file, memory_mb=64)
    assert warnings == []
    assert connection.execute("SELECT count(*) FROM store.fresh").fetchall() == [(0,)]
    connection.close()


def test_a_database_in_use_is_left_alone(store: Store, file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from appliance.errors import TelemetryError\n"
        "from appliance.telemetry.database import open_database\n"
        "try: open_database(Path(sys.argv[1]), memory_mb=64)\n"
        "except TelemetryError as error: print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert "set lock" in answer.stdout
    assert list(file.parent.glob("*damaged*")) == []


def test_a_folder_in_its_place_is_left_alone(file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.raises(TelemetryError):
        open_database(file, memory_mb=64)
    assert file.is_dir()


def test_what_a_killed_process_spilt_is_removed(file: Path) -> None:
    filled(file)
    spilt = Path(f"{file}.tmp")
    spilt.mkdir()
    (spilt / "duckdb_temp_storage.tmp").write_bytes(b"x" * 100)
    restarted(file)
    assert not spilt.exists() or not any(spilt.iterdir())


def test_a_copy_taken_while_open_keeps_whole_batches(store: Store, file: Path, tmp_path: Path) -> None:
    for number in range(20):
        write(store, {LINES: [line(number * 10 + k) for k in range(10)], CURSORS: [cursor(number)]})
    copy = tmp_path / "copy.duckdb"
    shutil.copy(file, copy)
    shutil.copy(f"{file}.wal", f"{copy}.wal")
    connection, warnings = open_database(copy, memory_mb=64)
    assert warnings == []
    assert connection.execute(f"SELECT count(*) FROM {LINES}").fetchall() == [(200,)]
    assert connection.execute(f"SELECT max(position) FROM {CURSORS}").fetchall() == [(19,)]
    connection.close()


def test_a_chore_is_done_by_the_writer_between_batches(store: Store) -> None:
    store.submit(Batch({LINES: [line(1)]}))
    names = store.chore(lambda connection: threading.current_thread().name)
    assert names.result(10) == "telemetry-writer"
    gone = store.chore(lambda connection: connection.execute(f"DELETE FROM {LINES} RETURNING seq").fetchall())
    store.submit(Batch({LINES: [line(2)]}))
    gone.result(10)
    assert store.chore(lambda connection: connection.execute("SELECT 1").fetchall()).result(10) == [(1,)]


def test_a_chore_that_fails_leaves_nothing_and_hinders_nobody(store: Store) -> None:
    def bad(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"INSERT INTO {LINES} VALUES (7, now()::TIMESTAMP, 1, false, 'half')")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.chore(bad).result(10)
    written = threading.Event()
    store.submit(Batch({LINES: [line(1)]}, written=lambda error: written.set()))
    assert written.wait(10)
    with store.reading() as connection:
        assert connection.execute(f"SELECT seq FROM {LINES}").fetchall() == [(1,)]


def test_chores_that_come_too_late_are_told_so(file: Path, commits: Commits) -> None:
    store = make(file, commits)
    store.start()
    begun, go = threading.Event(), threading.Event()

    def slow(connection: duckdb.DuckDBPyConnection) -> None:
        begun.set()
        go.wait(10)

    first, second = store.chore(slow), store.chore(lambda connection: None)
    assert begun.wait(10)
    stopping = threading.Thread(target=store.stop)
    stopping.start()
    while not store._stopping:
        time.sleep(0.01)
    go.set()
    stopping.join(10)
    assert first.result(0) is None
    with pytest.raises(TelemetryError, match="is being closed"):
        second.result(0)
    with pytest.raises(TelemetryError, match="is being closed"):
        store.chore(lambda connection: None).result(0)
