"""What differs between two moments of a workspace."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class FileChange(TypedDict):
    """One line of a diff. `path` is below the workspace's root; bytes that are not UTF-8 are `\\xNN`."""

    change: Literal["added", "removed", "changed", "renamed"]
    path: str
    was: NotRequired[str]
    """Of a rename: the path before."""
    kind: Literal["file", "directory", "link", "other"]
    note: NotRequired[str]
    """What differs beside the content: the mode, the owner."""
    before: int | None
    """Size in bytes; None where it was not there. Of a directory 0, of one that was renamed the size of its files."""
    after: int | None


class DiffEnd(TypedDict):
    """The last line of a diff. `cut` says why it is not whole, empty where it is."""

    end: Literal[True]
    cut: str
    changes: int
    entries: int
    """Files and directories that were compared."""


class Hunk(TypedDict):
    """Lines that differ, with some that do not around them. `before` and `after` are the first line's numbers."""

    before: int
    after: int
    lines: list[str]
    """Each begins with ` `, `-` or `+`, or with `\\` where the line before it ends the file without a newline."""


class CellChange(TypedDict):
    """One cell of a Jupyter notebook. `moved` cells have left the order that the others keep."""

    change: Literal["added", "removed", "changed", "moved"]
    type: str
    """`code`, `markdown` or `raw`."""
    id: str
    was: int | None
    """Its place, counted from 1; None where it was not there."""
    now: int | None
    hunks: list[Hunk]
    """Of the source."""
    outputs_before: str
    """In one line, such as `2 outputs: image/png 34.1 kB, stdout 12 lines`; empty where there are none."""
    outputs_after: str
    outputs_changed: bool
    notes: list[str]
    """What else differs: `metadata: tags`, `type markdown -> code`."""


class FileDiff(TypedDict):
    """One file at two moments. `note` says why something is not told, empty where all is."""

    kind: Literal["text", "notebook", "binary", "link", "other"]
    path: str
    was: str
    """The path in the older moment; another one where the file was renamed."""
    before: int | None
    """Size in bytes; None where it was not there."""
    after: int | None
    same: bool
    note: str
    hunks: list[Hunk]
    """Of a text, and of where a link points."""
    cells: list[CellChange]
    """Of a notebook."""
    unchanged: int
    """Cells that are the same."""
    metadata: list[str]
    """What differs in a notebook beside its cells."""
