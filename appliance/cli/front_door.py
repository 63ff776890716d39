"""Calls through the front door, as any user of a deployment or a notebook makes them."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

from appliance.errors import ApplianceError, Unavailable

TIMEOUT_S = 60.0


class FrontDoor:
    """One kept connection to `url`. `headers` go with every request."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._netloc = urlsplit(url).netloc
        self._headers = headers or {}
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and headers. A str or bytes body goes as it is, anything else as JSON."""
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {**self._headers, **({"Content-Type": "application/json"} if payload else {})}
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._netloc, timeout=self._timeout_s)
        try:
            self._connection.request(method, path, payload, headers)
            response = self._connection.getresponse()
            return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unavailable(
                f"the front door does not answer: {error}", where=self._url, hint="`appliance doctor`"
            ) from error

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's document. Raises ApplianceError for a status from 400 up."""
        status, content, _ = self.call(method, path, body)
        if status >= 400:
            text = content.decode(errors="replace")[:300]
            raise ApplianceError(f"{method} {path} answered {status}: {text}", where=self._url)
        return json.loads(content) if content else None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Jupyter:
    """A notebook's Jupyter server, over its REST API only."""

    def __init__(self, base_url: str, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._door = FrontDoor(base_url, {"Authorization": f"token {token}"}, timeout_s=timeout_s)
        self._base = urlsplit(base_url).path.rstrip("/")

    def wait(self, deadline_s: float) -> None:
        """Until the server answers."""
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                if self._door.call("GET", f"{self._base}/api/status")[0] == 200:
                    return
            except Unavailable:
                pass
            if time.monotonic() > deadline:
                raise Unavailable(f"Jupyter did not answer within {deadline_s:.0f} s", where=self._base)
            time.sleep(0.2)

    def busy(self) -> list[str]:
        """Files of which a cell runs now. Raises Unavailable, ApplianceError."""
        found = self._door.json("GET", f"{self._base}/api/sessions")
        states = [(str(one.get("path", "")), one.get("kernel") or {}) for one in found]
        return sorted(path for path, kernel in states if kernel.get("execution_state") == "busy")

    def put(self, path: str, notebook: dict[str, Any]) -> None:
        self._door.json("PUT", f"{self._base}/api/contents/{path}", {"type": "notebook", "content": notebook})

    def put_text(self, path: str, text: str) -> None:
        document = {"type": "file", "format": "text", "content": text}
        self._door.json("PUT", f"{self._base}/api/contents/{path}", document)

    def read(self, path: str) -> bytes:
        """The file's bytes as they are on the disk."""
        status, content, _ = self._door.call("GET", f"{self._base}/files/{path}")
        if status != 200:
            raise ApplianceError(f"reading {path} answered {status}", where=self._base)
        return content

    def execute(self, notebook: dict[str, Any], *, deadline_s: float = 120.0) -> dict[str, Any]:
        """The notebook with the outputs of its code cells, run in order in a kernel of its own."""
        kernel = self._door.json("POST", f"{self._base}/api/kernels", {"name": "python3"})["id"]
        try:
            cells = [
                self._run(kernel, cell, deadline_s) if cell["cell_type"] == "code" else cell
                for cell in notebook["cells"]
            ]
        finally:
            self._door.call("DELETE", f"{self._base}/api/kernels/{kernel}")
        return {**notebook, "cells": cells}

    def _run(self, kernel: str, cell: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        """Server-side execution: ask, then look until the answer is there."""
        code = "".join(cell["source"])
        status, content, headers = self._door.call("POST", f"{self._base}/api/kernels/{kernel}/execute", {"code": code})
        if status != 202:
            raise ApplianceError(f"the kernel answered {status}: {content[:300]!r}", where=self._base)
        where, deadline = urlsplit(headers["location"]).path, time.monotonic() + deadline_s
        where = where if where.startswith(self._base) else self._base + where
        while True:
            status, content, _ = self._door.call("GET", where)
            if status != 202:
                break
            if time.monotonic() > deadline:
                raise ApplianceError(f"the cell did not end within {deadline_s:.0f} s", where=self._base)
            time.sleep(0.1)
        answer = json.loads(content)
        outputs = answer.get("outputs", [])
        outputs = json.loads(outputs) if isinstance(outputs, str) else outputs
        if status != 200 or answer.get("status") != "ok":
            raise ApplianceError(f"the cell failed: {content.decode(errors='replace')[:500]}", where=self._base)
        return {**cell, "execution_count": answer.get("execution_count"), "outputs": outputs}
