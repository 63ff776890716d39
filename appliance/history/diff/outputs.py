"""The outputs of a notebook cell: folded to one line, and in a form that compares. Pure; any JSON may come in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MOST = 4
"""Outputs that are named; the rest are counted."""
SHORT = 60
"""Characters of a text that is told itself."""
_VOLATILE = frozenset({"execution_count", "prompt_number", "transient"})
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,16}\b")
_RICHEST = ("image/", "video/", "audio/", "application/vnd.", "text/html", "text/markdown", "text/latex")
_OLD_FORMAT = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "svg": "image/svg+xml",
    "html": "text/html",
    "text": "text/plain",
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def joined(value: Any) -> str:
    """A text that may be kept as a list of its lines."""
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def plain(outputs: Iterable[Any]) -> list[Any]:
    """What makes two lists of outputs the same for a person: without counters and addresses, texts in one piece.

    Pieces of one stream that follow each other are one: how a run cut them is chance.
    """
    found: list[Any] = []
    for output in outputs:
        each = {key: value for key, value in as_dict(output).items() if key not in _VOLATILE}
        if "data" in each:
            each["data"] = {mime: _value(value) for mime, value in as_dict(each["data"]).items()}
        if "text" in each:
            each["text"] = _value(joined(each["text"]))
        last = found[-1] if found else {}
        if each.get("output_type") == "stream" == last.get("output_type") and each.get("name") == last.get("name"):
            last["text"] = last.get("text", "") + each.get("text", "")
            continue
        found.append(each)
    return found


def describe(outputs: Iterable[Any]) -> str:
    """`2 outputs: image/png 34.1 kB, stdout 12 lines`; empty where there are none."""
    every = plain(outputs)
    if not every:
        return ""
    named = [_describe(output) for output in every[:MOST]]
    if len(every) > MOST:
        named.append(f"{len(every) - MOST} more")
    return f"{len(every)} output{'s' if len(every) > 1 else ''}: {', '.join(named)}"


def _describe(output: Mapping[str, Any]) -> str:
    match output.get("output_type"):
        case "stream":
            return _text(str(output.get("name") or output.get("stream") or "stdout"), output.get("text", ""))
        case "error" | "pyerr":
            return _clip(f"error {output.get('ename', '')}: {output.get('evalue', '')}")
    data = as_dict(output.get("data"))
    if not data:  # format 3 keeps them beside the type
        data = {mime: output[old] for old, mime in _OLD_FORMAT.items() if old in output}
    if not data:
        return str(output.get("output_type") or "an output")
    mime = min(data, key=_rank)
    value = data[mime]
    if mime == "text/plain":
        return _text("text", joined(value))
    text = value if isinstance(value, str) else joined(value) or str(value)
    encoded = mime.startswith(("image/", "video/", "audio/")) and not mime.endswith("xml")
    return f"{mime} {size(len(text) * 3 // 4 if encoded else len(text.encode('utf-8', 'replace')))}"


def _text(name: str, text: str) -> str:
    lines = text.rstrip("\n").split("\n")
    if len(lines) == 1 and len(text) <= SHORT:
        return f"{name} {text.strip()!r}"
    return f"{name} {len(lines)} lines" if len(lines) > 1 else f"{name} {size(len(text))}"


def _value(value: Any) -> Any:
    """A list of lines as one text, without where in memory an object was: `<Figure at 0x7f48...>`."""
    text = joined(value) if isinstance(value, list) else value
    return _ADDRESS.sub(" at 0x", text) if isinstance(text, str) else text


def _rank(mime: str) -> tuple[int, str]:
    place = next((number for number, start in enumerate(_RICHEST) if mime.startswith(start)), len(_RICHEST))
    return place + (mime == "text/plain"), mime


def _clip(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 2 * SHORT else f"{line[: 2 * SHORT]}…"


def size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
