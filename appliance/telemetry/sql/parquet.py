"""An answer as a Parquet file, written by a database of its own that holds nothing else and reaches one file.

The telemetry database has no access to files at all, and keeps it that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import duckdb

from appliance.telemetry.sql.sinks import Ending, Heading, Row

MEMORY_MB = 128
_TABLE = "answer"


class Parquet:
    """`file` is a real one, open for writing; it may have no name any more. It is written to at the end only."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._bytes = 0
        self._database: duckdb.DuckDBPyConnection | None = None
        self._appender: duckdb.Appender | None = None

    def begin(self, headings: Sequence[Heading]) -> None:
        self._database = duckdb.connect(
            config={"threads": 1, "memory_limit": f"{MEMORY_MB}MiB", "python_enable_replacements": False}
        )
        for setting in (
            "temp_directory = ''",
            f"allowed_paths = ['{self._path}']",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._database.execute(f"SET {setting}")
        names = zip(_unique(headings), headings, strict=True)
        columns = ", ".join(f"{_quoted(name)} {heading.type}" for name, heading in names)
        self._database.execute(f"CREATE TABLE {_TABLE} ({columns})")
        self._appender = self._database.appender(_TABLE)

    def add(self, rows: Sequence[Row]) -> int:
        assert self._appender is not None
        if rows:
            self._appender.append_rows(rows)
        self._bytes += sum(len(cell) if isinstance(cell, (str, bytes)) else 8 for row in rows for cell in row)
        return self._bytes

    def end(self, ending: Ending) -> None:
        assert self._appender is not None
        assert self._database is not None
        self._appender.flush()
        self._database.execute(
            f"COPY {_TABLE} TO '{self._path}' (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
        )
        self._end()

    def close(self) -> None:
        self._end()
        self._file.close()

    @property
    def _path(self) -> str:
        return f"/proc/self/fd/{self._file.fileno()}"

    def _end(self) -> None:
        if self._appender is not None:
            self._appender.clear()  # else it would write its rest when it is collected
            self._appender = None
        if self._database is not None:
            self._database.close()
            self._database = None


def _unique(headings: Sequence[Heading]) -> list[str]:
    """Two columns of a file may not have one name, in whatever case."""
    taken: set[str] = set()
    names = []
    for heading in headings:
        name, number = heading.name or "column", 1
        while name.lower() in taken:
            number += 1
            name = f"{heading.name}_{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))
