"""Executing a notebook's files with nobody watching."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from appliance.client.kinds import Kinds

if TYPE_CHECKING:
    from appliance import wire


class Executions(Kinds):
    """`notebook` is a name, `number` that of one of its executions; None: the newest."""

    def execute_file(
        self,
        notebook: str,
        file: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        kernel: str = "",
        output: str = "",
        gpu: bool = True,
    ) -> wire.Execution:
        body = {"file": file, "parameters": parameters or {}, "kernel": kernel, "output": output, "gpu": gpu}
        return cast("wire.Execution", self.act("notebooks", notebook, "executions", body))

    def executions(self, notebook: str, *, limit: int | None = None) -> list[wire.Execution]:
        """Newest first."""
        return self.items(f"notebooks/{quote(notebook, safe='')}/executions", limit=limit)

    def execution(self, notebook: str, number: int | None = None) -> wire.Execution:
        return cast("wire.Execution", self._json("GET", self._path(notebook, number)))

    def cancel_execution(self, notebook: str, number: int | None = None) -> wire.Execution:
        return cast("wire.Execution", self._json("POST", f"{self._path(notebook, number)}/cancel", body={}))

    def _path(self, notebook: str, number: int | None) -> str:
        which = "newest" if number is None else number
        return f"/v1/notebooks/{quote(notebook, safe='')}/executions/{which}"
