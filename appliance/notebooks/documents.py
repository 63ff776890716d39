"""What a session's Jupyter holds in its memory and in no file yet, brought together with the files.

Jupyter is asked through the extension in `inside/appliance_jupyter.py`. One that does not have it, or does not answer
in time, holds up nothing: a moment is then what is in the files.
"""

from __future__ import annotations

import asyncio
import json
import logging
import posixpath
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2

from appliance.engine.docker import Engine
from appliance.errors import ApplianceError
from appliance.foreign import clean
from appliance.notebooks import jupyter
from appliance.state.resources import Resource

log = logging.getLogger(__name__)

ASK_TIMEOUT_S = 2.0
RELOAD_TIMEOUT_S = 10.0
"""A large notebook is read again."""


class Documents:
    """Of sessions that hold none."""

    async def flush(self, notebook: Resource) -> str:
        """Have everything that waits to be saved written. Why that may not be so, in words; empty: it is."""
        return ""

    @asynccontextmanager
    async def replacing(self, notebook: Resource, path: str) -> AsyncIterator[list[str]]:
        """Around putting other files at `path`: what is open there is saved before, and read again afterwards.

        Nothing is written there by Jupyter meanwhile, so nothing old comes back over the new. Why that may not be so
        is in the list, in words, afterwards.
        """
        yield []

    async def warn(self, notebook: Resource, text: str) -> None:
        """Tell the pages that are open; to be said again each minute or two. Empty: nothing any more."""


class OpenDocuments(Documents):
    def __init__(self, engine: Engine, http: httpx2.AsyncClient) -> None:
        self._engine = engine
        self._http = http
        self._said: dict[str, tuple[str, str]] = {}
        """Uid -> the container and what was wrong with it when it was last logged: it may be asked each few seconds."""

    async def flush(self, notebook: Resource) -> str:
        return await self._ask(notebook, "flush", {}, ASK_TIMEOUT_S)

    @asynccontextmanager
    async def replacing(self, notebook: Resource, path: str) -> AsyncIterator[list[str]]:
        path = posixpath.normpath(path)
        said = [await self._ask(notebook, "pause", {"path": path}, 2 * ASK_TIMEOUT_S)]
        try:
            yield said
        finally:
            said.append(await self._ask(notebook, "reload", {"path": path}, RELOAD_TIMEOUT_S))
            said[:] = filter(None, dict.fromkeys(said))

    async def warn(self, notebook: Resource, text: str) -> None:
        await self._ask(notebook, "warn", {"text": text}, ASK_TIMEOUT_S)

    async def _ask(self, notebook: Resource, what: str, body: Mapping[str, str], timeout_s: float) -> str:
        container = notebook.status.get("container")
        if not container or notebook.status.get("ready") != container:
            return ""  # no Jupyter serves yet
        try:
            async with asyncio.timeout(timeout_s):
                why = await self._answer(notebook, container, what, body)
        except TimeoutError:
            why = f"no answer within {timeout_s:.0f} s"
        except (ApplianceError, httpx2.HTTPError) as error:
            why = clean(str(error))
        if why and self._said.get(notebook.uid) != (container, why):
            self._said[notebook.uid] = (container, why)
            log.info("notebook %s, asked to %s its open documents: %s", notebook.name, what, why)
        return why

    async def _answer(self, notebook: Resource, container: str, what: str, body: Mapping[str, str]) -> str:
        found = await self._engine.inspect(container)
        port = found.ports.get(jupyter.PORT) if found else None
        if not port:
            return ""  # it has ended: nothing is held any more
        url = f"http://127.0.0.1:{port}{jupyter.base_url(notebook.name)}appliance/{what}"
        async with self._http.stream(
            "POST",
            url,
            content=json.dumps(body),
            headers={"Authorization": f"token {notebook.status.get('token', '')}"},
            params={"no_track_activity": "1"},
            timeout=None,
            follow_redirects=False,
        ) as answer:
            return "" if answer.status_code == 200 else f"it answers with status {answer.status_code}"
