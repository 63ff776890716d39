"""Deployments: their revisions, their traffic, commands in their replicas."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from appliance.client.kinds import Kinds

if TYPE_CHECKING:
    from appliance import wire


class Deployments(Kinds):
    """A revision is named by its generation."""

    def revisions(self, deployment: str) -> list[wire.Revision]:
        """Newest first."""
        return cast("list[wire.Revision]", self._json("GET", f"{_path(deployment)}/revisions")["items"])

    def revision_diff(self, deployment: str, older: int, newer: int) -> wire.RevisionDiff:
        return cast("wire.RevisionDiff", self._json("GET", f"{_path(deployment)}/revisions/{older}..{newer}"))

    def roll_back(self, deployment: str, to: int | None = None) -> wire.Item:
        """Generation `to`, or the last that served before, as a new generation."""
        body = {} if to is None else {"to": to}
        return cast("wire.Item", self.act("deployments", deployment, "rollback", body))

    def restart(self, deployment: str) -> wire.Item:
        return cast("wire.Item", self.act("deployments", deployment, "restart"))

    def scale(self, deployment: str, replicas: int) -> wire.Item:
        return cast("wire.Item", self.act("deployments", deployment, "scale", {"replicas": replicas}))

    def traffic(self, deployment: str, since: float | None = None) -> wire.Traffic:
        """`since`: unix seconds; None: the last five minutes."""
        return cast("wire.Traffic", self._json("GET", f"{_path(deployment)}/traffic", {"since": since}))

    def execute(
        self, deployment: str, argv: Sequence[str], *, replica: str = ""
    ) -> Iterator[wire.ExecOutput | wire.ExecEnd]:
        """What the command writes, as it comes, at last how it ended. Closing the iterator ends the command.

        Raises DaemonDown where the answer breaks off.
        """
        body = {"argv": list(argv), **({"replica": replica} if replica else {})}
        whole = False
        with self._answer(f"{_path(deployment)}/exec", {}, body) as response:
            while line := response.readline():
                if not line.strip():
                    continue
                document = json.loads(line)
                whole = whole or "exit_code" in document
                yield document
            if not whole:
                raise http.client.IncompleteRead(b"")


def _path(deployment: str) -> str:
    return f"/v1/deployments/{quote(deployment, safe='')}"
