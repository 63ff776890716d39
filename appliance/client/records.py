"""What is known of the appliance as a whole: status, logs, events, space; and its secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from appliance.client.transport import Transport

if TYPE_CHECKING:
    from appliance import wire


class Records(Transport):
    """Of the whole appliance, not of one resource."""

    def status(self) -> wire.Status:
        return cast("wire.Status", json.loads(self.status_bytes()))

    def status_bytes(self) -> bytes:
        """The status document as it came, for a caller that only passes it on."""
        return self.call("GET", "/v1/status")

    def logs(self, **query: object) -> list[wire.LogLine]:
        """`kind name part since contains after limit`, as in telemetry's LogQuery."""
        return cast("list[wire.LogLine]", self._json("GET", "/v1/logs", query)["items"])

    def follow_logs(self, **query: object) -> Iterator[wire.LogLine]:
        """Endless: what is stored, then each line as it is stored."""
        return cast("Iterator[wire.LogLine]", self.stream("/v1/logs", {**query, "follow": 1}))

    def follow_events(self, after: int | None = None) -> Iterator[wire.Event]:
        """Endless. `after` is the id of the last event seen; None starts with the next event."""
        query = {"follow": 1} if after is None else {"follow": 1, "after": after}
        return cast("Iterator[wire.Event]", self.stream("/v1/events", query))

    def newest_events(self, kind: str, name: str, limit: int = 20) -> list[wire.Event]:
        """Of one resource, the newest last."""
        found = self._json("GET", "/v1/events", {"kind": kind, "name": name, "limit": limit})
        return cast("list[wire.Event]", found["items"])

    def put_secret(self, name: str, value: str) -> None:
        self._json("PUT", f"/v1/secrets/{quote(name, safe='')}", body={"value": value})

    def space(self, *, fresh: bool = False, wait_s: float = 0.0) -> wire.Space:
        """`wait_s`: how long to wait for a count that goes on; its result may be asked for again."""
        return cast("wire.Space", self._json("GET", "/v1/space", {"fresh": int(fresh), "wait": wait_s}))
