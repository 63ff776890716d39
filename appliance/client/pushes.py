"""Samples of a program's own, sent with the token: for programs outside of the appliance's containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from appliance.client.transport import Transport

if TYPE_CHECKING:
    from appliance import wire


class Pushes(Transport):
    def push_metrics(
        self, samples: Sequence[wire.PushedSample], *, kind: str, name: str, part: str = ""
    ) -> wire.PushedMetrics:
        """Of a notebook, a run (`WORKFLOW.NUMBER`) or a deployment. Returns once they are stored for good."""
        body = {"for": {"kind": kind, "name": name, "part": part}, "samples": list(samples)}
        return cast("wire.PushedMetrics", self._json("POST", "/v1/metrics", body=body))
