"""From the engine's json-file records to lines: decoding, and joining the pieces of long lines. Pure.

A record is `{"log": "text\\n", "stream": "stdout", "time": "2025-01-02T03:04:05.678901234Z"}` and a newline. The
engine cuts what a container prints into pieces of 16 KiB; a piece that lacks its "\\n" goes on in the next record of
the same stream. (A character that lies across such a cut has been spoilt by the engine already: it shows as U+FFFD.)

What becomes of a line:
- A progress bar that redraws itself with "\\r" keeps its last state only, as a terminal would show it.
- ANSI colours and all other control characters stay as they are.
- A line longer than `LONGEST` goes on in a further line; nothing of it is dropped.
- Its time is that of the record which completed it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from appliance.telemetry.redact import Redactor

LONGEST = 1024 * 1024
"""Characters of one line."""

Line = tuple[datetime, bool, str]
"""Time in UTC without a zone (DuckDB's appender takes a time with one at half the speed), is it stderr, text."""

_HEAD = b'{"log":'
_NO_TIME = datetime(1970, 1, 1)  # noqa: DTZ001
"""Of damaged records, until one with a time comes."""


@dataclass(slots=True)
class Piece:
    """The beginning of a line whose end has not been printed yet."""

    at: datetime
    text: str


class Joiner:
    """The records of one container, in order, become lines. Keeps at most `LONGEST` characters per stream."""

    def __init__(self, pending: str = "") -> None:
        """`pending`: what `pending()` of the Joiner before this one answered."""
        self.damaged = 0
        """Records that were no valid JSON; their text is kept as far as it can be read."""
        self._open: dict[bool, Piece] = {}
        self._last = _NO_TIME
        if pending:
            for is_error, at, text in orjson.loads(pending):
                self._open[is_error] = Piece(datetime.fromisoformat(at), text)

    def pending(self, redactor: Redactor) -> str:
        """The unfinished lines, for storing beside the position up to which the file was read; usually empty."""
        if not self._open:
            return ""
        pieces = [
            (is_error, piece.at.isoformat(), redactor.scrub(piece.text)) for is_error, piece in self._open.items()
        ]
        return orjson.dumps(pieces).decode()

    def feed(self, block: bytes, redactor: Redactor) -> list[Line]:
        """Lines that whole records complete. `block` ends with a newline."""
        lines: list[Line] = []
        opened = self._open
        parse_time = datetime.fromisoformat
        at = self._last
        for record in _decode(block):
            try:
                text = record["log"]
                whole = text.endswith("\n")
                is_error = record["stream"] == "stderr"
                time = record["time"]
                at = parse_time(time[:-1]) if time[-1] == "Z" else _in_utc(time)
            except (TypeError, LookupError, ValueError, AttributeError, OverflowError):
                self.damaged += 1
                text, whole, is_error = _salvage(record), True, True
                if text == "\n":
                    continue
            if whole and not opened and "\r" not in text:  # nearly always
                lines.append((at, is_error, text[:-1]))
                continue
            self._join(lines, at, is_error, text, whole, redactor)
        if self._last is _NO_TIME and lines and lines[0][0] is _NO_TIME:
            lines = _dated(lines)
        self._last = at
        return _scrubbed(lines, redactor)

    def finish(self, redactor: Redactor) -> list[Line]:
        """The lines that were left without a newline when the container ended."""
        lines: list[Line] = [(piece.at, is_error, last_state(piece.text)) for is_error, piece in self._open.items()]
        self._open.clear()
        return _scrubbed(lines, redactor)

    def _join(
        self, lines: list[Line], at: datetime, is_error: bool, text: str, whole: bool, redactor: Redactor
    ) -> None:
        before = self._open.pop(is_error, None)
        if before is not None:
            text = before.text + text
        if whole:
            lines.append((at, is_error, last_state(text[:-1])))
            return
        text = _open_state(text)
        while len(text) >= LONGEST:
            done, text = redactor.split(text)
            if not done:
                break
            lines.append((at, is_error, done))
        if text:
            self._open[is_error] = Piece(at, text)


def _dated(lines: list[Line]) -> list[Line]:
    """Damaged records at the very beginning of a log are as old as what comes behind them, not from 1970."""
    first = next((at for at, _, _ in lines if at is not _NO_TIME), _NO_TIME)
    return [(first if at is _NO_TIME else at, is_error, text) for at, is_error, text in lines]


def _in_utc(time: str) -> datetime:
    return datetime.fromisoformat(time).astimezone(UTC).replace(tzinfo=None)


def last_state(text: str) -> str:
    """What a terminal would show of a line that was redrawn with "\\r"."""
    if "\r" not in text:
        return text
    return text.rstrip("\r").rpartition("\r")[2]


def _open_state(text: str) -> str:
    """The same for a line that is still being drawn: a "\\r" at its end clears it only when more text follows."""
    if "\r" not in text:
        return text
    shown = text.rstrip("\r")
    return text[shown.rfind("\r") + 1 :]


def _scrubbed(lines: list[Line], redactor: Redactor) -> list[Line]:
    texts = [line[2] for line in lines]
    scrubbed = redactor.scrub_all(texts)
    if scrubbed is texts:
        return lines
    return [(at, is_error, text) for (at, is_error, _), text in zip(lines, scrubbed, strict=True)]


def _decode(block: bytes) -> Iterable[Any]:
    """All records at once as one JSON array, which is twice as fast; one by one if any of them is damaged."""
    try:
        return orjson.loads(b"[" + block[:-1].replace(b"\n", b",") + b"]")  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:
        return [record for line in block.split(b"\n") if line for record in _decode_line(line)]


def _decode_line(line: bytes) -> list[Any]:
    try:
        return [orjson.loads(line)]
    except orjson.JSONDecodeError:
        pass
    start = line.rfind(_HEAD)
    if start > 0:  # the engine died while it wrote a record, and went on behind it when it came back
        return [line[:start], *_decode_line(line[start:])]
    try:
        record = json.loads(line.decode(errors="replace"))
        record["log"] = record["log"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [line]
    return [record]


def _salvage(record: object) -> str:
    """What can be read of a damaged record. A power cut leaves NULs, which say nothing."""
    raw = record if isinstance(record, bytes) else json.dumps(record).encode(errors="replace")
    return raw.strip(b"\0").decode(errors="replace") + "\n"
