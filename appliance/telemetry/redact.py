"""Secrets are replaced by value before a line is stored, so they reach neither the disk nor a reader."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MASK = "***"
SHORTEST = 4
"""Characters. Anything shorter would blank out half of every log and protects nothing."""


class Redactor:
    """The known secrets, as one value that never changes; `adding` makes the next one.

    A secret of several lines is looked for line by line, as it arrives.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        parts = {line.strip() for secret in secrets for line in secret.splitlines()}
        self._values = tuple(sorted((part for part in parts if len(part) >= SHORTEST), key=_longest_first))
        self._pattern = re.compile("|".join(map(re.escape, self._values))) if self._values else None
        self.keep = len(self._values[0]) - 1 if self._values else 0
        """Characters at the end of an unfinished text that may be the beginning of a secret."""

    def adding(self, secrets: Iterable[str]) -> Redactor:
        """Values are only ever added: a secret that was changed may still be printed by what runs."""
        found = Redactor((*self._values, *secrets))
        return self if found._values == self._values else found

    def scrub(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text

    def scrub_all(self, lines: Sequence[str]) -> Sequence[str]:
        """The same lines, scrubbed. One search over all of them first: most hold no secret at all."""
        if self._pattern is None or not lines:
            return lines
        joined = "\n".join(lines)
        if not any(value in joined for value in self._values):
            return lines
        return [self.scrub(line) for line in lines]

    def split(self, text: str) -> tuple[str, str]:
        """An unfinished text: the part that can be stored now, scrubbed, and the rest that must wait.

        The cut never falls inside a secret, neither a whole one nor one whose end has yet to come.
        """
        cut = max(0, len(text) - self.keep)
        if self._pattern:
            for match in self._pattern.finditer(text):
                if match.start() < cut < match.end():
                    cut = match.start()
                    break
        return self.scrub(text[:cut]), text[cut:]


def _longest_first(value: str) -> tuple[int, str]:
    return -len(value), value
