"""GPUs: who has them, who waits, what they came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from appliance.client.transport import Transport

if TYPE_CHECKING:
    from appliance import wire


class Gpus(Transport):
    def gpus(self) -> wire.Gpus:
        return cast("wire.Gpus", self._json("GET", "/v1/gpus"))

    def leases(self) -> list[wire.GpuLease]:
        """Those who have GPUs, then those who wait, in their order."""
        return cast("list[wire.GpuLease]", self._json("GET", "/v1/leases")["items"])

    def gpu_ledger(self, by: str = "owner", since: float = 0.0) -> wire.GpuLedger:
        """`by`: owner, name, kind or device. `since`: unix seconds."""
        return cast("wire.GpuLedger", self._json("GET", "/v1/gpu/ledger", {"by": by, "since": since}))

    def drain_gpu(self, uuid: str, why: str = "") -> None:
        self._json("POST", f"/v1/gpus/{quote(uuid, safe='')}/drain", body={"why": why})

    def resume_gpu(self, uuid: str) -> None:
        self._json("POST", f"/v1/gpus/{quote(uuid, safe='')}/resume", body={})
