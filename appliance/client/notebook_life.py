"""Notebooks: changing, renaming, deleting and bringing back, out into a file and in from one."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from appliance.client.kinds import Kinds
from appliance.client.transport import PIECE, WORK_S, _error, _target

if TYPE_CHECKING:
    from appliance import wire


class NotebookLife(Kinds):
    """`notebook` is a name."""

    def set_notebook(self, notebook: str, change: Mapping[str, Any]) -> wire.Changed:
        """`change` as in wire's SetRequest."""
        return cast("wire.Changed", self.act("notebooks", notebook, "set", change))

    def rename_notebook(self, notebook: str, new: str) -> wire.Item:
        return cast("wire.Item", self.act("notebooks", notebook, "rename", {"name": new}))

    def delete_notebook(self, notebook: str, *, purge: bool = False, confirm: str = "") -> wire.Deletion:
        """Into the trash; with `purge`, or where there is no trash, for ever, which `confirm` repeats the name for."""
        query = {"confirm": confirm, "purge": "1" if purge else ""}
        path = f"/v1/notebooks/{quote(notebook, safe='')}"
        return cast("wire.Deletion", json.loads(self.call("DELETE", path, query, timeout_s=WORK_S)))

    def deleted_notebooks(self) -> list[wire.Deleted]:
        """Newest first."""
        return self.items("trash")

    def undelete_notebook(self, notebook: str, new: str = "") -> wire.Item:
        """By name or uid; `new` is the name by which it comes back."""
        return cast("wire.Item", self.act("trash", notebook, "undelete", {"name": new}))

    def purge_notebook(self, notebook: str, *, confirm: str) -> None:
        """Destroy a deleted one before its time."""
        self.delete("trash", notebook, confirm=confirm)

    def export_notebook(self, notebook: str, *, at: str = "") -> Iterator[bytes]:
        """An archive of it in pieces. Raises DaemonDown where it is broken off."""
        with self._answer(f"/v1/notebooks/{quote(notebook, safe='')}/export", {"at": at}) as response:
            while piece := response.read1(PIECE):
                yield piece

    def import_notebook(self, pieces: Iterable[bytes], name: str = "", *, start: bool = False) -> wire.Item:
        query = {"name": name, "start": "1" if start else ""}
        return cast("wire.Item", json.loads(self._send("/v1/notebooks/import", query, pieces)))

    def _send(self, path: str, query: Mapping[str, object], pieces: Iterable[bytes]) -> bytes:
        """A body of unknown length. What the daemon says before it has all of it is heard."""
        connection = self._connect(WORK_S)
        headers = {**self._headers(b"", "application/gzip"), "Transfer-Encoding": "chunked"}
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", _target(path, query), pieces, headers, encode_chunked=True)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._down(error) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise _error(response.status, content)
        return content
