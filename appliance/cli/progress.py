"""Progress of a list of steps: one line a step, redrawn in place on a terminal, a line per change elsewhere."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

from appliance.cli import render

QUIET_S = 10.0
"""Off a terminal, a detail is told at most this often."""


class Progress:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._title = ""
        self._began = 0.0
        self._told = ("", 0.0)

    def start(self, title: str) -> None:
        self._title, self._began, self._told = title, time.monotonic(), ("", time.monotonic())
        if self._live:
            self._draw("...")
        else:
            print(f"{title} ...", file=self._stream, flush=True)

    def detail(self, text: str) -> None:
        """What goes on within the step."""
        now = time.monotonic()
        if self._live:
            self._draw(f"{now - self._began:4.0f} s  {text}")
        elif text != self._told[0] and now - self._told[1] >= QUIET_S:
            print(f"    {now - self._began:.0f} s: {render.clean(text)}", file=self._stream, flush=True)
            self._told = (text, now)

    def done(self, result: str) -> None:
        took = time.monotonic() - self._began
        lead = "\r\x1b[2K" + self._title if self._live else self._title
        print(f"{lead}: {took:.1f} s\n    {render.clean(result)}", file=self._stream, flush=True)

    def failed(self) -> None:
        print(
            f"\r\x1b[2K{self._title}: FAILED" if self._live else f"{self._title}: FAILED", file=self._stream, flush=True
        )

    def _draw(self, text: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        line = f"{self._title}  {render.clean(text)}"
        print(f"\r\x1b[2K{line[:room]}", end="", file=self._stream, flush=True)
