"""How answers look: tables, JSON and YAML on stdout, narration on stderr. Foreign text is shown, never obeyed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.client import Client
from appliance.foreign import clean as clean
from appliance.location import default_home

Row = Sequence[object]

GOOD = frozenset({"Running", "Ready", "Serving", "Succeeded"})
BAD = frozenset({"Failed", "Error", "Degraded", "Undone"})


def client() -> Client:
    return Client.from_environment(default_home(), via="cli")


def say(text: str) -> None:
    """Narration."""
    print(text, file=sys.stderr)


def data(value: Any, output: str) -> None:
    """`output` is json or yaml."""
    if output == "yaml":
        from appliance.spec.dump import to_yaml  # deferred: the YAML library takes longer to import than a call

        sys.stdout.write(to_yaml(value))
    else:
        json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")


def table(header: Sequence[str], rows: Sequence[Row], *, empty: str) -> None:
    """Columns as wide as their widest cell; the last one is free. `empty` goes to stderr where there is no row."""
    if not rows:
        say(empty)
        return
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(header), *cells]) for column in range(len(header))]
    colour = sys.stdout.isatty()
    for number, line in enumerate([[name.upper() for name in header], *cells]):
        padded = [cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)]
        text = "  ".join([*padded, line[-1]]).rstrip()
        print(_paint(text, line) if colour and number else text)


def positive(text: str) -> int:
    """Of an option: a number from 1 on."""
    return _count(text, least=1)


def count(text: str) -> int:
    """Of an option: a number from 0 on."""
    return _count(text, least=0)


def _count(text: str, *, least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} on")
    return int(text)


def one_line(message: str) -> str:
    """A message with its next step, which stands on a line of its own, on one line."""
    return "; ".join(line.strip() for line in message.splitlines())


def detail(phase: str, message: str) -> str:
    """What a message tells beside the phase: nothing, where it only says the phase again."""
    return "" if message.lower() == phase.lower() else message


def phase(row: Mapping[str, Any]) -> str:
    """A run or a job as `PHASE` or `PHASE: MESSAGE`."""
    told = detail(row["phase"], row["message"])
    return f"{row['phase']}: {told}" if told else str(row["phase"])


def took(row: Mapping[str, Any]) -> str:
    """How long a run or a job took, or takes so far; `-` for one that has not begun."""
    if not row["started"]:
        return "-"
    return duration((row["finished"] or time.time()) - row["started"])


def age(then: float | None, now: float | None = None) -> str:
    """`42s`, `5m`, `3h`, `2d`; `-` for never."""
    if not then:
        return "-"
    return duration((time.time() if now is None else now) - then)


def ahead(then: float | None, now: float | None = None) -> str:
    """`in 5m`; `now` for what is due; `-` for never."""
    if not then:
        return "-"
    left = then - (time.time() if now is None else now)
    return f"in {duration(left)}" if left > 0 else "now"


def duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for limit, unit, size in ((120, "s", 1), (7200, "m", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds / size)}{unit}"
    return f"{int(seconds / 86400)}d"


def size(count: int | None) -> str:
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _paint(text: str, line: Sequence[str]) -> str:
    for word in line:
        if word in BAD:
            return text.replace(word, f"\x1b[31m{word}\x1b[0m", 1)
        if word in GOOD:
            return text.replace(word, f"\x1b[32m{word}\x1b[0m", 1)
    return text
