"""Notebooks: their doors, workspaces and history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from appliance.client.kinds import Kinds
from appliance.client.transport import WORK_S

if TYPE_CHECKING:
    from appliance import wire


class Notebooks(Kinds):
    """`notebook` is a name, a moment the id of a snapshot."""

    def access(self, notebook: str) -> wire.Access:
        return cast("wire.Access", self._json("GET", f"/v1/notebooks/{quote(notebook, safe='')}/access"))

    def history(self, notebook: str) -> list[wire.Snapshot]:
        """Newest first."""
        return self.items(f"notebooks/{quote(notebook, safe='')}/history")

    def entries(self, notebook: str, path: str = "", *, at: str = "", limit: int = 0) -> wire.Entries:
        """What lies in a directory of the workspace, now or at a snapshot. Paths are as `paths.encode` writes them."""
        query = {"path": path, "at": at, "limit": limit or ""}
        return cast("wire.Entries", self._json("GET", f"/v1/notebooks/{quote(notebook, safe='')}/files", query))

    def read_file(self, notebook: str, path: str, *, at: str = "") -> Iterator[bytes]:
        """The content of a file of the workspace in pieces, now or at a snapshot."""
        return self.download(f"/v1/notebooks/{quote(notebook, safe='')}/file", {"path": path, "at": at})

    def restore(self, notebook: str, snapshot: str, path: str, to: str = "") -> wire.Snapshot:
        """The moment before, which holds what was replaced."""
        body = {"snapshot": snapshot, "path": path, "to": to}
        return cast("wire.Snapshot", self.act("notebooks", notebook, "restore", body))

    def fork(self, notebook: str, name: str, *, snapshot: str = "", start: bool = False) -> wire.Item:
        body = {"name": name, "snapshot": snapshot, "start": start}
        return cast("wire.Item", self.act("notebooks", notebook, "fork", body))

    def prune(self, notebook: str, *, dry_run: bool = False) -> wire.Pruning:
        return cast("wire.Pruning", self.act("notebooks", notebook, "prune", {"dry_run": dry_run}))

    def hold(self, notebook: str, snapshot: str, reason: str = "") -> None:
        self._json("PUT", _hold(notebook, snapshot), body={"reason": reason})

    def release(self, notebook: str, snapshot: str) -> None:
        self._json("DELETE", _hold(notebook, snapshot))

    def diff(
        self,
        notebook: str,
        older: str = "",
        newer: str = "",
        *,
        path: str = "",
        checksum: bool = False,
        limit: int | None = None,
    ) -> Iterator[wire.FileChange | wire.DiffEnd]:
        """What differs between two moments, ids or `now`; empty: the newest snapshot and now. `path` bounds it.

        As it is found. The last one is the DiffEnd; where it is missing the answer was broken off.
        """
        query = {"from": older, "to": newer, "path": path, "checksum": int(checksum), "limit": limit}
        lines = self._lines(f"/v1/notebooks/{quote(notebook, safe='')}/diff", query)
        return (json.loads(line) for line in lines if line.strip())

    def diff_file(self, notebook: str, path: str, older: str = "", newer: str = "", *, was: str = "") -> wire.FileDiff:
        """One file at two moments, line by line or cell by cell. `was`: its path in the older one."""
        query = {"from": older, "to": newer, "path": path, "was": was}
        content = self.call("GET", f"/v1/notebooks/{quote(notebook, safe='')}/diff/file", query, timeout_s=WORK_S)
        return cast("wire.FileDiff", json.loads(content))


def _hold(notebook: str, snapshot: str) -> str:
    return f"/v1/notebooks/{quote(notebook, safe='')}/snapshots/{quote(snapshot, safe='')}/hold"
