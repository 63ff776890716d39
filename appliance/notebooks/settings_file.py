"""`.gradient/settings.yaml` in a workspace: what it wants mounted below /datasets, beside what the spec says.

The file is hostile and its mistakes hold up nothing: what cannot be had is told in words, and the session begins
without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import ApplianceError, NotFound
from appliance.spec.names import NAME, NAME_RULE
from appliance.spec.problems import printable, quoted
from appliance.spec.tree import Node
from appliance.spec.yaml import read_yaml
from appliance.storage.trees.tree import open_file

PLACE = ".gradient/settings.yaml"
MOST_BYTES = 64 * 1024
MOST_MOUNTS = 64
MOST_WORDS = 10
"""Things that one event tells of; the rest is counted."""
_ELSEWHERE = "fetch it in a cell, or put it into a dataset: `appliance dataset put NAME FOLDER`"
_CORRECT = f"correct {PLACE}"


@dataclass(slots=True)
class Wanted:
    datasets: dict[str, str] = field(default_factory=dict)
    """Name below /datasets -> reference."""
    words: list[str] = field(default_factory=list)
    """What of the file is not followed, why, and what to do."""


def look(workspace: Path) -> Wanted:
    """What the workspace's file asks for. Blocking; raises nothing of the file's."""
    try:
        with open_file(workspace, PLACE) as file:
            data = file.read(MOST_BYTES + 1)
    except NotFound:
        return Wanted()
    except (ApplianceError, OSError) as error:
        return Wanted(words=[f"{PLACE} cannot be read: {error}; {_CORRECT}"])
    if len(data) > MOST_BYTES:
        return Wanted(words=[f"{PLACE} is larger than {MOST_BYTES // 1024} KiB; make it shorter"])
    return read(data)


def read(data: bytes) -> Wanted:
    """Pure."""
    found = Wanted()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Wanted(words=[f"{PLACE} is not UTF-8 text; save it as UTF-8"])
    documents = read_yaml(text, PLACE)
    for document in documents[:1]:
        if document.root is None:
            said = document.problems.in_order()
            what = f"line {said[0].line}: {said[0].message}" if said else "it is no YAML"
            found.words.append(f"{PLACE}: {what}; {_CORRECT}")
        elif isinstance(document.root.value, dict):
            _integrations(document.root.value.get("integrations"), found)
        elif document.root.value is not None:
            found.words.append(f"{PLACE} is not a map; begin it with `integrations:`")
    return found


def _integrations(node: Node | None, found: Wanted) -> None:
    if node is None or node.value is None:
        return
    if not isinstance(node.value, dict):
        found.words.append(f"{PLACE}: `integrations` is not a map of names; {_CORRECT}")
        return
    for name, entry in node.value.items():
        if words := _one(name, entry, found.datasets):
            found.words.append(f"{PLACE}: {quoted(name)} is not mounted: {words}")


def _one(name: str, entry: Node, datasets: dict[str, str]) -> str:
    """Why it is not mounted; empty: it is noted in `datasets`."""
    if not NAME.fullmatch(name):
        return f"this cannot be a folder's name; use {NAME_RULE}"
    if not isinstance(entry.value, dict):
        return "it is not a map; write `type: dataset` and `ref: NAME`"
    texts = {key: _text(value) for key, value in entry.value.items()}
    kind = texts.get("type", "dataset")
    if kind != "dataset":
        return f"integrations of type {quoted(kind)} are not mounted in notebooks; {_ELSEWHERE}"
    ref = texts.get("ref", "")
    if not ref and (ref := texts.get("id", "")) and texts.get("version"):
        ref = f"{ref}:{texts['version']}"
    if not ref:
        return "it names no dataset; write `ref: NAME` or `ref: NAME:VERSION`"
    if len(datasets) >= MOST_MOUNTS:
        return f"there are more than {MOST_MOUNTS} before it; remove some"
    datasets[name] = ref
    return ""


def _text(node: Node) -> str:
    if isinstance(node.value, str):
        return node.value
    return node.plain


def pinned(wanted: Wanted, resolve: Callable[[str], str]) -> Mapping[str, str]:
    """Name -> `NAME:VERSION` of those that there are; `words` tells of the others. `resolve` raises ApplianceError."""
    found = {}
    for name, ref in wanted.datasets.items():
        try:
            found[name] = resolve(ref)
        except ApplianceError as error:
            hint = f"; {error.hint}" if error.hint else ""
            wanted.words.append(f"{PLACE}: {quoted(name)} is not mounted: {error.message}{hint}")
    return found


def told(words: list[str]) -> str:
    """All of it as one event's message."""
    shown = [printable(line) for line in words[:MOST_WORDS]]
    if len(words) > MOST_WORDS:
        shown.append(f"and {len(words) - MOST_WORDS} more")
    return "; ".join(shown)
