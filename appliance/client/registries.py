"""Logins at image registries."""

from __future__ import annotations

from urllib.parse import quote

from appliance.client.transport import Transport


class Registries(Transport):
    def put_registry(self, name: str, *, url: str, username: str, password: str) -> None:
        body = {"url": url, "username": username, "password": password}
        self._json("PUT", f"/v1/registries/{quote(name, safe='')}", body=body)
