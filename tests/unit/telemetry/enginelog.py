"""A stand-in for the engine's json-file log driver: the same records, pieces and renames."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

PIECE = 16 * 1024
_START = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


class EngineLog:
    """Writes `path` as Docker does with `max-size` and `max-file`; every record has a time of its own."""

    def __init__(self, path: Path, *, max_size: int = 0, max_file: int = 3) -> None:
        self.path = path
        self.rotations = 0
        self._max_size = max_size
        self._max_file = max_file
        self._count = 0
        self._start = _START
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def print(self, text: str, stream: str = "stdout") -> None:
        """What a container prints: cut at newlines, and at 16 KiB."""
        for line in text.splitlines(keepends=True) if "\r" not in text else [text]:
            data = line.encode()
            for start in range(0, len(data), PIECE):
                self.record(data[start : start + PIECE].decode(errors="replace"), stream)

    def later(self, seconds: float) -> None:
        """What is printed from now on is printed so much later."""
        self._start += timedelta(seconds=seconds)

    def record(self, text: str, stream: str = "stdout") -> None:
        self._count += 1
        at = self._start + timedelta(microseconds=self._count)
        time = at.strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{self._count % 1000:03d}Z"
        self.write(json.dumps({"log": text, "stream": stream, "time": time}).encode() + b"\n")

    def write(self, record: bytes) -> None:
        if self._max_size and self._file.tell() >= self._max_size:
            self.rotate()
        self._file.write(record)

    def rotate(self) -> None:
        self._file.close()
        for number in range(self._max_file - 1, 1, -1):
            older, newer = Path(f"{self.path}.{number}"), Path(f"{self.path}.{number - 1}")
            if newer.exists():
                os.rename(newer, older)
        if self._max_file > 1:
            os.rename(self.path, f"{self.path}.1")
        self._file = self.path.open("wb", buffering=0)
        self.rotations += 1

    def close(self) -> None:
        self._file.close()
