"""Text from a program or a person on its way to a terminal: shown, never obeyed."""

from __future__ import annotations

import re

SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
"""What a terminal obeys, ECMA-48: colours and cursor moves, titles and links, and the short ones."""
UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def clean(text: str, *, keep: str = "") -> str:
    """A name, a message, a cell: what cannot be printed is seen, so that two names never look the same."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character in keep else UNPRINTABLE for character in text)


def line(text: str) -> str:
    """A line that a program wrote: as a terminal without colours shows it, with its TABs."""
    return clean(SEQUENCE.sub("", text), keep="\t")
