"""Which branch or tag `on.github` means. Pure. Globs as in GitHub Actions:

    *     any characters but `/`        **    any characters
    ?     the character before it, or not; [ab] [a-z] one of them; + the character before it, once or more
    \\x    the character x itself

A pattern comes from a repository, which may be anybody's, so it is matched in time that is the product of the two
lengths and not by a regular expression.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.spec.models import Patterns, Triggers

LONGEST = 255
HEADS, TAGS = "refs/heads/", "refs/tags/"


@dataclass(frozen=True, slots=True)
class _Step:
    """Characters that match, how often: from `least`, and once or without end."""

    allowed: frozenset[str] | None
    """None: any."""
    denied: str = ""
    least: int = 1
    endless: bool = False

    def takes(self, character: str) -> bool:
        return character not in self.denied and (self.allowed is None or character in self.allowed)


def starts(triggers: Triggers, ref: str) -> bool:
    """Whether a push of `ref`, a full name such as refs/heads/main, starts a run."""
    if ref.startswith(HEADS):
        return triggers.branches is not None and selects(triggers.branches, ref.removeprefix(HEADS))
    if ref.startswith(TAGS):
        return triggers.tags is not None and selects(triggers.tags, ref.removeprefix(TAGS))
    return False


def selects(patterns: Patterns, name: str) -> bool:
    """`only` or `include`, less `ignore`; where neither of the first two says anything, all names are meant."""
    wanted = (*((patterns.only,) if patterns.only else ()), *patterns.include)
    if wanted and not _any(wanted, name):
        return False
    return not _any(patterns.ignore, name)


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def matches(pattern: str, name: str) -> bool:
    """A name always matches itself, whatever its characters mean in a pattern."""
    if pattern == name:
        return True
    if len(pattern) > LONGEST or len(name) > LONGEST * 4:
        return False
    steps = _steps(pattern)
    reached = _skipping({0}, steps)
    for character in name:
        following: set[int] = set()
        for at in reached:
            if at < len(steps) and steps[at].takes(character):
                following.add(at + 1)
                if steps[at].endless:
                    following.add(at)
        reached = _skipping(following, steps)
        if not reached:
            return False
    return len(steps) in reached


def _skipping(reached: set[int], steps: list[_Step]) -> set[int]:
    """With the places that are reached without a further character."""
    for at in range(len(steps)):
        if at in reached and steps[at].least == 0:
            reached.add(at + 1)
    return reached


def _steps(pattern: str) -> list[_Step]:
    steps: list[_Step] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            double = pattern[at : at + 1] == "*"
            at += int(double)
            steps.append(_Step(None, "" if double else "/", least=0, endless=True))
        elif character in "?+" and steps:
            before = steps.pop()
            if character == "?":
                steps.append(_Step(before.allowed, before.denied, least=0, endless=before.endless))
            else:
                steps.append(_Step(before.allowed, before.denied, least=before.least, endless=True))
        elif character == "[" and (end := pattern.find("]", at)) > at:
            steps.append(_Step(_set(pattern[at:end])))
            at = end + 1
        elif character == "\\" and at < len(pattern):
            steps.append(_Step(frozenset(pattern[at])))
            at += 1
        else:
            steps.append(_Step(frozenset(character)))
    return steps


def _set(inside: str) -> frozenset[str]:
    found: set[str] = set()
    at = 0
    while at < len(inside):
        if at + 2 < len(inside) and inside[at + 1] == "-" and inside[at].isascii() and inside[at + 2].isascii():
            found.update(chr(code) for code in range(ord(inside[at]), ord(inside[at + 2]) + 1))
            at += 3
        else:
            found.add(inside[at])
            at += 1
    return frozenset(found)
