"""What a command in a replica writes, on a terminal and into a pipe."""

from __future__ import annotations

import base64
import io
import sys

import pytest

from appliance.cli.execute import show


class Output(io.TextIOWrapper):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def written(self) -> bytes:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


PIECES = [b"caf\xc3", b"\xa9\r\n", b"\x1b[31mred\x1b[0m\x1b]0;title\x07\ta\x07\xff\n"]


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> bytes:
    out = Output(terminal=terminal)
    monkeypatch.setattr(sys, "stdout", out)
    lines = [{"stream": "stdout", "data": base64.b64encode(piece).decode()} for piece in PIECES]
    assert show([*lines, {"exit_code": 3}]) == 3
    return out.written


def test_a_pipe_gets_every_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False) == b"".join(PIECES)


def test_a_terminal_is_shown_it_and_obeys_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True).decode()
    assert text == "caf\u00e9\nred\ta\ufffd\ufffd\n"
    assert "\x1b" not in text
