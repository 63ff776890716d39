"""Where the rows of an answer go: a list, or a file as JSON or CSV, batch by batch as they come."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import IO, Any, Protocol

import orjson

Row = tuple[Any, ...]
_WIDEST = 2**63


@dataclass(frozen=True, slots=True)
class Heading:
    """Of a column of an answer."""

    name: str
    type: str
    """As DuckDB writes it, such as `TIMESTAMP` or `VARCHAR[]`."""


@dataclass
class Ending:
    """What is known of an answer once all of its rows are there."""

    rows: int = 0
    truncated: bool = False
    """There were more rows than the limit allows."""
    notes: list[str] = field(default_factory=list)
    """In words: what else is not whole."""


class Sink(Protocol):
    """Called by one thread at a time, `begin` and `end` once each."""

    def begin(self, headings: Sequence[Heading]) -> None: ...

    def add(self, rows: Sequence[Row]) -> int:
        """How many bytes, about, have come in all."""

    def end(self, ending: Ending) -> None: ...

    def close(self) -> None:
        """Nobody takes the answer. Safe to call twice."""


class Rows:
    """In memory."""

    def __init__(self) -> None:
        self.headings: Sequence[Heading] = ()
        self.rows: list[Row] = []

    def begin(self, headings: Sequence[Heading]) -> None:
        self.headings = headings

    def add(self, rows: Sequence[Row]) -> int:
        self.rows.extend(rows)
        return 0

    def end(self, ending: Ending) -> None:
        pass

    def close(self) -> None:
        pass


class Json:
    """`{"columns", "types", "rows", "truncated", "notes"}`; a number that JSON has not is null."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._first = True

    def begin(self, headings: Sequence[Heading]) -> None:
        names, types = [one.name for one in headings], [one.type for one in headings]
        self._file.write(b'{"columns":%s,"types":%s,"rows":[' % (orjson.dumps(names), orjson.dumps(types)))

    def add(self, rows: Sequence[Row]) -> int:
        for row in rows:
            self._file.write((b"" if self._first else b",\n") + orjson.dumps([plain(cell) for cell in row]))
            self._first = False
        return self._file.tell()

    def end(self, ending: Ending) -> None:
        truncated, notes = orjson.dumps(ending.truncated), orjson.dumps(ending.notes)
        self._file.write(b'],"truncated":%s,"notes":%s}' % (truncated, notes))

    def close(self) -> None:
        self._file.close()


class Csv:
    """With a line of names; NULL is an empty cell, a list or a map is JSON."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def begin(self, headings: Sequence[Heading]) -> None:
        self._write([[one.name for one in headings]])

    def add(self, rows: Sequence[Row]) -> int:
        self._write([_cell(cell) for cell in row] for row in rows)
        return self._file.tell()

    def end(self, ending: Ending) -> None:
        pass

    def close(self) -> None:
        self._file.close()

    def _write(self, rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8", "replace"))


def plain(cell: Any) -> Any:
    """As JSON has it. Times are `2026-01-31 12:00:00`, bytes hexadecimal, numbers beyond 64 bits text."""
    if cell is None or isinstance(cell, (bool, str)):
        return cell
    if isinstance(cell, int):
        return cell if -_WIDEST <= cell < _WIDEST else str(cell)
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, Decimal):
        return float(cell)
    if isinstance(cell, (datetime, date, time, timedelta)):
        return str(cell)
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell).hex()
    if isinstance(cell, dict):
        return {str(key): plain(value) for key, value in cell.items()}
    if isinstance(cell, (list, tuple)):
        return [plain(item) for item in cell]
    return str(cell)


def _cell(cell: Any) -> Any:
    if isinstance(cell, (list, tuple, dict)):
        return orjson.dumps(plain(cell)).decode()
    if isinstance(cell, Decimal):
        return str(cell)
    return "" if cell is None else cell if isinstance(cell, (int, float, str)) else plain(cell)
