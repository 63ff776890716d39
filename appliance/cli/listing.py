"""What is in a directory of a volume, and where a version comes from, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli import render

if TYPE_CHECKING:
    from appliance import wire

_KINDS = {"file": "-", "directory": "d", "link": "l", "other": "?"}


def show(found: wire.Entries, output: str) -> int:
    if output != "table":
        render.data(found["items"], output)
    else:
        rows = [
            (
                _KINDS[entry["kind"]],
                render.size(entry["size"]) if entry["kind"] == "file" else "",
                render.clock(entry["modified"]),
                entry["name"] + (f" -> {entry['target']}" if "target" in entry else ""),
            )
            for entry in found["items"]
        ]
        render.table(("kind", "size", "modified", "name"), rows, empty="the folder is empty")
    if (more := found["total"] - len(found["items"])) > 0:
        render.say(f"{more} more are not shown")
    return 0


def lineage(found: wire.Lineage, *, indent: str = "") -> None:
    """A line for each thing that is known."""
    _line(indent, "version", found["ref"])
    _line(indent, "made by", f"run {found['run']}, job {found['job']}" if found["run"] else "hand")
    for name, ref in found["inputs"].items():
        _line(indent, "from", f"{ref} (input {name})")
    _line(indent, "branched from", found["parent"])
    for reader in found["readers"]:
        made = f", made {' '.join(reader['made'])}" if reader["made"] else ""
        _line(indent, "read by", f"run {reader['run']}, job {reader['job']}: {reader['phase']}{made}")
    for child in found["children"]:
        _line(indent, "branch", child)
    for model in found["models"]:
        _line(indent, "model", f"{model['name']} ({model['id']}, {model['type']})")
    for who in found["used_by"]:
        _line(indent, "in use by", who)


def _line(indent: str, what: str, text: str) -> None:
    if text:
        print(f"{indent}{what:<14} {render.clean(text)}")
