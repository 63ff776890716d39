"""The text format of Prometheus, version 0.0.4, as a push brings it. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/. Help, types and other comments are left out: the series of
a histogram or a summary have names of their own. Names in quotes, as Prometheus 3 writes them, are read too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from appliance.errors import TooLarge, UsageError
from appliance.telemetry.metrics.numbering import MOST_LABELS, MOST_TEXT

MOST_MEASURES = 10_000
"""Of one push."""
_SHOWN = 80

_TEXT = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(rf"(?:([a-zA-Z_][a-zA-Z0-9_]*)|{_TEXT})[ \t]*=[ \t]*{_TEXT}[ \t]*")
_QUOTED = re.compile(rf"{_TEXT}[ \t]*(?=[,}}])")
_BLANK = re.compile(r"[ \t]*")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|inf|nan)", re.I)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_MEANS = {"\\": "\\", '"': '"', "n": "\n"}


@dataclass(frozen=True, slots=True)
class Measure:
    metric: str
    labels: tuple[tuple[str, str], ...]
    """Sorted by key."""
    value: float
    """May be infinite or no number."""


class _Wrong(Exception):
    """In words, of one line."""


def parse(text: str) -> list[Measure]:
    """Every sample, in their order.

    Raises UsageError with the number of the line for what is no such text, for a sample that is there twice, and for
    one with a time: those of a push are of when it comes, as at a Pushgateway. TooLarge for too many.
    """
    found: list[Measure] = []
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        try:
            measure = _measure(stripped)
            if (measure.metric, measure.labels) in seen:
                raise _Wrong("this sample was given above already")
        except _Wrong as wrong:
            raise UsageError(
                f"line {number}: {wrong}: {stripped[:_SHOWN]!r}",
                where="metrics",
                hint="send lines such as `loss 0.25`, in Prometheus' text format 0.0.4",
            ) from None
        seen.add((measure.metric, measure.labels))
        found.append(measure)
        if len(found) > MOST_MEASURES:
            raise TooLarge(f"more than {MOST_MEASURES} samples in one push", where="metrics", hint="push them in parts")
    return found


def is_label(name: str) -> bool:
    """Whether a label may have this name. Those that begin with two underscores are Prometheus' own."""
    plain = re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name)
    return plain is not None and not name.startswith("__") and len(name) <= MOST_TEXT


def _measure(line: str) -> Measure:
    name, at = "", 0
    if match := _METRIC.match(line):
        name, at = match.group(), match.end()
    at = _past_blank(line, at)
    labels: dict[str, str] = {}
    if line.startswith("{", at):
        quoted, labels, at = _braces(line, at + 1)
        if name and quoted:
            raise _Wrong("a second name")
        name = name or quoted
        at = _past_blank(line, at)
    if not name:
        raise _Wrong("no name of a metric")
    if len(name) > MOST_TEXT or not name.isprintable():
        raise _Wrong(f"the name is longer than {MOST_TEXT} characters, or cannot be printed")
    words = line[at:].split()
    if len(words) > 1:
        raise _Wrong("more than a value; a pushed sample has no time")
    return Measure(name, tuple(sorted(labels.items())), _value(words[0] if words else ""))


def _braces(line: str, at: int) -> tuple[str, dict[str, str], int]:
    """The metric's name where it stands here, the labels, and the place after the closing brace."""
    name, labels = "", dict[str, str]()
    at = _past_blank(line, at)
    while not line.startswith("}", at):
        if match := _LABEL.match(line, at):
            key = match[1] or _unescaped(match[2])
            if key in labels:
                raise _Wrong(f"label {key} twice")
            labels[key] = _unescaped(match[3])
            _check_label(key, labels[key])
            if len(labels) > MOST_LABELS:
                raise _Wrong(f"more than {MOST_LABELS} labels")
        elif not name and not labels and (match := _QUOTED.match(line, at)):
            name = _unescaped(match[1])
        else:
            raise _Wrong("labels are not as in {name='value'}, with double quotes")
        at = match.end()
        if line.startswith(",", at):
            at = _past_blank(line, at + 1)
        elif not line.startswith("}", at):
            raise _Wrong("no closing brace after the labels")
    return name, labels, at + 1


def _check_label(key: str, value: str) -> None:
    if not key or len(key) > MOST_TEXT or not key.isprintable() or key.startswith("__"):
        raise _Wrong(f"{key[:_SHOWN]!r} cannot be the name of a label")
    if len(value) > MOST_TEXT:
        raise _Wrong(f"the value of label {key} is longer than {MOST_TEXT} characters")


def _value(word: str) -> float:
    """What Go's ParseFloat takes of what programs write; Python's own takes further alphabets and underscores."""
    if not _NUMBER.fullmatch(word):
        raise _Wrong("no value" if not word else "the value is no number")
    return float(word)


def _unescaped(text: str) -> str:
    def meaning(match: re.Match[str]) -> str:
        if match[1] not in _MEANS:
            raise _Wrong(f"\\{match[1]} means nothing in a label's value")
        return _MEANS[match[1]]

    return _ESCAPE.sub(meaning, text) if "\\" in text else text


def _past_blank(line: str, at: int) -> int:
    match = _BLANK.match(line, at)
    return match.end() if match else at
