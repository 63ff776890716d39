"""The connection: WAL, synchronous=FULL, explicit BEGIN IMMEDIATE transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import ApplianceError, NoSpace
from appliance.state.migrations import migrate

Connection = sqlite3.Connection
Row = sqlite3.Row


class StateError(ApplianceError):
    code = "state"


class Database:
    """The state file of one daemon. Not for several threads: everything runs on the event loop's thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=5)
            self._connection.row_factory = sqlite3.Row
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            migrate(self._connection)
        except sqlite3.Error as error:
            raise StateError(
                f"the state file cannot be used: {error}",
                where=str(path),
                hint="restore it from a backup, or move it aside to start empty",
            ) from error
        path.chmod(0o600)

    @property
    def read(self) -> Connection:
        """For reading outside a transaction; each statement sees the newest committed state."""
        return self._connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all or nothing. Joins the transaction that is already open, if there is one."""
        connection = self._connection
        if connection.in_transaction:
            yield connection
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                raise NoSpace(
                    "the disk that holds the appliance's state is full; nothing was changed",
                    hint="free some space, then repeat the command",
                ) from error
            raise

    def close(self) -> None:
        self._connection.close()


def copy_database(source: Path, target: Path) -> None:
    """A copy of the committed state in one file, as of one moment, while a daemon may go on writing. Any thread.

    `target` must not exist.
    """
    try:
        reading = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        writing = sqlite3.connect(target, isolation_level=None)
        try:
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode=DELETE")
            (verdict,) = writing.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            writing.close()
            reading.close()
    except sqlite3.Error as error:
        if "full" in str(error):
            raise NoSpace("the disk is full", where=str(target), hint="free some space, then try again") from error
        raise StateError(f"the state cannot be copied: {error}", where=str(source), hint="look at the disk") from error
    if verdict != "ok":
        raise StateError(
            f"the state file is damaged: {verdict}", where=str(source), hint="restore an older backup of it"
        )
    target.chmod(0o600)
