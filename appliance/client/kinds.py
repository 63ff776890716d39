"""What every kind has: listing, reading, declaring, deleting, acting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from appliance.client.transport import WORK_S, Transport

if TYPE_CHECKING:
    from appliance import wire


class Kinds(Transport):
    """A kind is named in the plural, such as `runs`."""

    def items(self, kind: str, /, **query: object) -> list[Any]:
        """Items of a kind in the plural, such as `runs`, or of a list below one resource."""
        return cast("wire.Page", self._json("GET", f"/v1/{kind}", query))["items"]

    def get(self, kind: str, name: str) -> Any:
        return self._json("GET", f"/v1/{quote(kind)}/{quote(name, safe='')}")

    def apply(self, text: str, file: str, *, name: str | None = None, dry_run: bool = False) -> list[wire.Change]:
        request: dict[str, Any] = {"text": text, "file": file, "dry_run": dry_run}
        if name:
            request["name"] = name
        return cast("list[wire.Change]", self._json("POST", "/v1/apply", body=request)["items"])

    def delete(self, kind: str, name: str, *, confirm: str = "") -> None:
        """`confirm` repeats the name; needed where data goes with the resource."""
        self.call("DELETE", f"/v1/{quote(kind)}/{quote(name, safe='')}", {"confirm": confirm}, timeout_s=WORK_S)

    def act(self, kind: str, name: str, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """An action on one resource, such as ("notebooks", "nb", "start"). Answers the API's document."""
        path = f"/v1/{quote(kind)}/{quote(name, safe='')}/{verb}"
        content = self.call("POST", path, body=body or {}, timeout_s=WORK_S)
        return json.loads(content) if content else None
