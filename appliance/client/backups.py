"""Backups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from appliance.client.transport import WORK_S, Transport

if TYPE_CHECKING:
    from appliance import wire


class Backups(Transport):
    """Of everything, in one point."""

    def start_backup(self, target: str, *, verify: bool = False, keep: int = 0) -> wire.Backup:
        """Begun; it goes on by itself. `target` is an absolute path there, or `zfs:POOL/DATASET`."""
        body = {"target": target, "verify": verify, "keep": keep}
        return cast("wire.Backup", self._json("POST", "/v1/backups", body=body))

    def follow_backup(self, backup_id: str) -> Iterator[wire.Backup]:
        """How far it is, until it has ended; the last one is how."""
        return cast("Iterator[wire.Backup]", self.stream(f"/v1/backups/{quote(backup_id, safe='')}", {"follow": 1}))

    def forget_backups(self, target: str, *, confirm: str = "", dry_run: bool = False) -> wire.Forgotten:
        """`confirm` repeats the target; without it only a dry run is answered."""
        body = {"target": target, "confirm": confirm, "dry_run": dry_run}
        return cast("wire.Forgotten", json.loads(self.call("POST", "/v1/backups/forget", body=body, timeout_s=WORK_S)))
