"""Whose a notebook's files are: the user that they were given to last, as a note beside the workspace tells.

The files are what a session has made of them: one that runs as root gives single ones, the top directory too, to users
of its own, as a database does. So they are handed over where the spec names another user than the note, and not
because of what lies there. The note belongs to one head: of files that a rollback has brought, the top tells.
"""

from __future__ import annotations

from pathlib import Path

from appliance.history.workspaces import Workspaces
from appliance.notebooks.beside import Beside
from appliance.notebooks.owning import Owner, give, owner_of, told
from appliance.spec.models import Notebook
from appliance.state.resources import Resource
from appliance.storage.threads import in_thread

NOTE = "owner"
_GIVING = "giving"
"""In the note: the files may be partly one user's and partly another's."""


class Ownership:
    """The caller holds the notebook's lock."""

    def __init__(self, workspaces: Workspaces, beside: Beside) -> None:
        self._workspaces = workspaces
        self._beside = beside

    def of(self, notebook: Resource) -> Owner | None:
        """Whose the files are; None: not known, or half given."""
        owner, _, head = self._beside.note(notebook.uid, NOTE).partition(" ")
        known = owner not in ("", _GIVING) and head == self._workspaces.head(notebook.uid)
        return owner_of(owner) if known else None

    def other(self, notebook: Resource, spec: Notebook) -> str:
        """The user whose the files are known to be and who is not the spec's; empty: there is none."""
        owner = self.of(notebook)
        return "" if owner in (None, owner_of(spec.user)) else f"{owner[0]}:{owner[1]}"

    async def settle(self, notebook: Resource, spec: Notebook) -> Path:
        """The files, given to the spec's user where they are another's. Raises StorageError."""
        owner = owner_of(spec.user)
        path = await self._workspaces.open(notebook.uid, owner=owner)
        head = self._workspaces.head(notebook.uid)
        with told():
            await in_thread(self._settle, notebook.uid, head, path, owner)
        return path

    def _settle(self, uid: str, head: str, path: Path, owner: Owner) -> None:
        note = f"{owner[0]}:{owner[1]} {head}"
        before, _, known = self._beside.note(uid, NOTE).partition(" ")
        if (before, known) == tuple(note.split(" ")):
            return
        if before and known == head:
            self._beside.write_note(uid, NOTE, f"{_GIVING} {head}")
            give(path, owner, again=True)
        elif owner[0] != 0:  # root reads and writes what is anybody's
            give(path, owner)
        self._beside.write_note(uid, NOTE, note)
