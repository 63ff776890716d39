"""A progress bar on stderr, where that is a terminal; elsewhere nothing is drawn."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from appliance.cli import render

EVERY_S = 0.1
WIDTH = 24


class Bar:
    """`with Bar("sending", total) as bar: bar.to(done)`; bytes. The line is wiped at the end."""

    def __init__(self, title: str, total: int, *, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._title = title
        self._total = total
        self._first: tuple[float, int] | None = None
        self._drawn = 0.0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            print("\r\x1b[2K", end="", file=self._stream, flush=True)

    def to(self, done: int, note: str = "") -> None:
        """So many bytes are through. `note` is a name or a word, shown as it fits."""
        now = time.monotonic()
        self._first = self._first or (now, done)
        if not self._live or (now - self._drawn < EVERY_S and done < self._total):
            return
        self._drawn = now
        room = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[2K{self.line(done, now, note)[:room]}", end="", file=self._stream, flush=True)

    def grown(self, done: int) -> None:
        """The same, where nobody knows how many there will be."""
        now = time.monotonic()
        if self._live and now - self._drawn >= EVERY_S:
            self._drawn = now
            print(f"\r\x1b[2K{self._title} {render.size(done)}", end="", file=self._stream, flush=True)

    def line(self, done: int, now: float, note: str) -> str:
        """Speed and rest are told from what went through since the first call, not from what was there before."""
        share = min(1.0, done / self._total) if self._total else 1.0
        full = round(share * WIDTH)
        began, before = self._first or (now, done)
        speed = (done - before) / (now - began) if now > began else 0.0
        left = f"  {render.duration((self._total - done) / speed)} left" if speed > 0 and done < self._total else ""
        figures = f"{render.size(done)} of {render.size(self._total)}  {render.size(round(speed))}/s{left}"
        return f"{self._title} [{'#' * full}{'.' * (WIDTH - full)}] {share:4.0%}  {figures}  {render.clean(note)}"
