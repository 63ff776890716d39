"""Workflow runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from appliance.client.kinds import Kinds
from appliance.client.transport import WORK_S

if TYPE_CHECKING:
    from appliance import wire


class Runs(Kinds):
    """Starting them, and looking into one that failed."""

    def start_run(self, workflow: str, inputs: Mapping[str, Any] | None = None, *, cache: bool = True) -> wire.Run:
        """With `cache` False every job runs, also one whose outputs are known already."""
        return cast("wire.Run", self.act("workflows", workflow, "runs", {"inputs": inputs or {}, "cache": cache}))

    def delete_run(self, run: str, *, confirm: str = "") -> wire.DeletedRun:
        """With what is kept of it. `confirm` repeats the name."""
        path = f"/v1/runs/{quote(run, safe='')}"
        return cast("wire.DeletedRun", json.loads(self.call("DELETE", path, {"confirm": confirm}, timeout_s=WORK_S)))

    def notebook_from_job(self, run: str, job: str, name: str, *, image: str = "") -> wire.JobNotebook:
        """Make and start a notebook that holds what a failed job read and wrote."""
        path = f"/v1/runs/{quote(run, safe='')}/jobs/{quote(job, safe='')}/notebook"
        body = {"name": name, "image": image}
        return cast("wire.JobNotebook", json.loads(self.call("POST", path, body=body, timeout_s=WORK_S)))
