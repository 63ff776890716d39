"""What a command in a replica writes, on this terminal."""

from __future__ import annotations

import base64
import codecs
import sys
from collections.abc import Iterable
from typing import IO, Any

from appliance import foreign


class Shown:
    """As it is into a pipe or file; on a terminal what would move the cursor is replaced."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._text = codecs.getincrementaldecoder("utf-8")("replace") if out.isatty() else None

    def write(self, data: bytes) -> None:
        if self._text is None:
            self._out.buffer.write(data)  # type: ignore[attr-defined]  # a text stream over bytes
        else:
            text = foreign.SEQUENCE.sub("", self._text.decode(data).replace("\r\n", "\n"))
            self._out.write(foreign.clean(text, keep="\n\t"))
        self._out.flush()


def shown() -> dict[str, Shown]:
    return {"stdout": Shown(sys.stdout), "stderr": Shown(sys.stderr)}


def show(answer: Iterable[Any]) -> int:
    """The exit code of the command."""
    streams = shown()
    for line in answer:
        if "exit_code" in line:
            return int(line["exit_code"])
        streams[line["stream"]].write(base64.b64decode(line["data"]))
    raise AssertionError("unreachable: an answer without an end is an error of the client")
