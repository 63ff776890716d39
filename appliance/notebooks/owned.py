"""Who may change a notebook: what a watched file declares is changed in that file."""

from __future__ import annotations

from appliance.errors import Conflict
from appliance.state import resources
from appliance.state.db import Connection
from appliance.state.resources import Resource


def get(db: Connection, name: str) -> Resource:
    """Raises NotFound, Conflict while it is deleted."""
    notebook = resources.get(db, "notebook", name)
    if notebook.deleting:
        raise Conflict(f"notebook {name!r} is being deleted", hint="wait until it is gone")
    return notebook


def refuse_watched(notebook: Resource, hint: str) -> None:
    """Raises Conflict where a file of the watched folder declares it."""
    if notebook.source.startswith("file:"):
        file = notebook.source.removeprefix("file:")
        raise Conflict(
            f"notebook {notebook.name!r} is declared by {file} in the watched folder; nothing was changed", hint=hint
        )
