"""Collects the mistakes and the warnings of one document, so that a user sees all of them at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from appliance.errors import Problem

MOST = 100
"""Mistakes listed per document; what follows is counted only."""
LONGEST = 80
"""Characters of the user's text that a message quotes."""
EXTENSION = "is an extension of the appliance; Gradient refuses it"


class Mark(NamedTuple):
    """A place in a file, counted from 1; 0 where there is none, as in a stored document."""

    line: int
    column: int


NOWHERE = Mark(0, 0)
START = Mark(1, 1)
LINE_END = re.compile(r"\r\n|\n|\r")


def mark_at(text: str, position: int) -> Mark:
    ends = [match.end() for match in LINE_END.finditer(text, 0, position)]
    return Mark(len(ends) + 1, position - (ends[-1] if ends else 0) + 1)


class Problems:
    def __init__(self, file: str) -> None:
        self.file = file
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self.extensions: list[Problem] = []
        """What is valid here and nowhere else; a mistake for who asks for Gradient's own dialect."""
        self._left_out = 0

    @property
    def full(self) -> bool:
        return len(self.errors) >= MOST

    def error(self, mark: Mark, path: str, message: str, hint: str = "") -> None:
        if self.full:
            self._left_out += 1
            return
        self.errors.append(self._problem(mark, path, message, hint))

    def warn(self, mark: Mark, path: str, message: str, hint: str = "") -> None:
        if len(self.warnings) < MOST:
            self.warnings.append(self._problem(mark, path, message, hint))

    def extension(self, mark: Mark, path: str, hint: str = "") -> None:
        """`hint` says what to write for Gradient."""
        self.extensions.append(self._problem(mark, path, EXTENSION, hint))

    def nearest(self, word: str, known: Iterable[str]) -> str:
        """A hint that names the nearest known word; empty where none is near, or where nobody would read it."""
        return "" if self.full else did_you_mean(word, known)

    def in_order(self) -> tuple[Problem, ...]:
        """The mistakes from the top of the file to its end."""
        found = sorted(dict.fromkeys(self.errors), key=_place)
        if self._left_out:
            last = Mark(found[-1].line, found[-1].column)
            found.append(self._problem(last, "", f"and {self._left_out} more problems", "correct these first"))
        return tuple(found)

    def extensions_in_order(self) -> tuple[Problem, ...]:
        return tuple(sorted(dict.fromkeys(self.extensions), key=_place))

    def _problem(self, mark: Mark, path: str, message: str, hint: str) -> Problem:
        return Problem(self.file, mark.line, mark.column, printable(path), printable(message), printable(hint))


def _place(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.column


def printable(text: str) -> str:
    """`text` on one line, with control characters escaped: it may come from a stranger and go to a terminal."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def quoted(text: str) -> str:
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return f"`{short}`"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    if len(word) > LONGEST:
        return ""
    import difflib  # deferred: only a mistake needs it

    candidates = sorted(known)[:200]  # comparing costs microseconds each, and a hostile file has many
    folded = {_folded(candidate): candidate for candidate in reversed(candidates)}
    if same := folded.get(_folded(word)):
        return f"did you mean {quoted(same)}?"
    near = difflib.get_close_matches(word, candidates, n=1, cutoff=0.65)
    return f"did you mean {quoted(near[0])}?" if near else ""


def _folded(word: str) -> str:
    return word.casefold().replace("-", "").replace("_", "")
