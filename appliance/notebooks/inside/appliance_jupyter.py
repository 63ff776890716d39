"""An extension of Jupyter Server through which the appliance and a session's documents keep together.

    GET  BASE/appliance/state    kernels, terminals, open documents, and a warning that the session ends soon
    POST BASE/appliance/flush    documents that wait to be saved are saved now
    POST BASE/appliance/pause    {"path": P}: what is at P or below it is saved, and then not written until it is ...
    POST BASE/appliance/reload   {"path": P}: ... read again from its file
    POST BASE/appliance/warn     {"text": T}: what open pages are told for a while; empty: nothing any more
    POST BASE/appliance/keep     somebody who was told so uses the session

Harmless in any Jupyter Server since 2.0, with and without jupyter-collaboration. Python 3.8 is enough.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar, cast

import appliance_rooms
import appliance_saved
from appliance_rooms import Computing, Pauses, Saver

TICK_MS = 1000
WARNING_S = 180.0
"""A warning that is not said again is over: whoever would take it back may be gone."""
Method = TypeVar("Method")


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "appliance_jupyter"}]


def _load_jupyter_server_extension(app: Any) -> None:
    try:
        from jupyter_server.utils import url_path_join
        from tornado.ioloop import PeriodicCallback

        documents = Documents(app)
        base = url_path_join(app.base_url, "appliance")
        app.web_app.add_handlers(".*$", [(f"{base}/{name}", kind) for name, kind in handlers(documents)])
        PeriodicCallback(documents.tick, TICK_MS).start()
    except Exception as error:  # the notebook works without
        app.log.warning("appliance: documents are saved as Jupyter does by itself: %r", error)


class Documents:
    def __init__(self, app: Any) -> None:
        self._app = app
        self._saver = Saver()
        self._computing = Computing(app)
        self._pauses = Pauses()
        self._unknown = False
        self._warning = ("", 0.0)
        """And until when."""

    def open(self, below: str = "") -> list[Any]:
        """At the path `below` or below it; empty: all."""
        if self._unknown:
            return []
        try:
            found = appliance_rooms.documents(
                self._app.extension_manager.extension_apps.get(appliance_rooms.EXTENSION, ())
            )
        except Exception as error:
            self._unknown = True
            self._app.log.warning(
                "appliance: this jupyter-collaboration is not known here, so a cell that prints without a pause is"
                " saved when it ends: %s",
                error,
            )
            return []
        below = below.strip("/")
        return [room for room in found if not below or f"{appliance_rooms.path(room)}/".startswith(f"{below}/")]

    async def tick(self) -> None:
        try:
            rooms = self.open()
            appliance_rooms.by_itself(rooms, self._computing)
            await self._saver.tick(rooms)
            if rooms:
                await self._computing.look()
        except Exception as error:
            self._app.log.warning("appliance: a document was not saved: %r", error)

    async def flush(self) -> dict[str, Any]:
        return {"late": await appliance_rooms.flush(self.open())}

    async def pause(self, path: str) -> dict[str, Any]:
        rooms = self.open(path)
        await self._pauses.begin(rooms)
        return {"paused": len(rooms)}

    async def reload(self, path: str) -> dict[str, Any]:
        return {"failed": await self._pauses.reload(self.open(path))}

    def warn(self, text: str) -> dict[str, Any]:
        self._warning = (text, time.monotonic() + WARNING_S)
        return {}

    def keep(self) -> dict[str, Any]:
        appliance_saved.touch()  # as each save, it is seen by the appliance as use
        return self.warn("")

    def state(self) -> dict[str, Any]:
        text, until = self._warning
        return {
            "warning": text if time.monotonic() < until else "",
            "documents": [
                {
                    "path": appliance_rooms.path(room),
                    "unsaved": appliance_rooms.is_unsaved(room),
                    "pages": len(getattr(room, "clients", ())),
                }
                for room in self.open()
            ],
        }


def handlers(documents: Documents) -> list[tuple[str, type[Any]]]:
    from jupyter_server.auth.decorator import authorized
    from jupyter_server.base.handlers import APIHandler
    from jupyter_server.utils import ensure_async
    from tornado import web

    base: Any = APIHandler  # of a library that is only in the image

    def allowed(method: Method) -> Method:
        guarded: Any = authorized(method)
        return cast(Method, web.authenticated(guarded))

    class Handler(base):  # type: ignore[misc]
        auth_resource = "contents"

        def answer(self, document: dict[str, Any]) -> None:
            self.set_header("Content-Type", "application/json")
            self.finish(document)

        def given(self, name: str) -> str:
            body = self.get_json_body()
            if not isinstance(body, dict) or not isinstance(body.get(name), str):
                raise web.HTTPError(400, f"it says no {name}")
            return str(body[name])

    class State(Handler):
        @allowed
        async def get(self) -> None:
            found = documents.state()
            found["kernels"] = await ensure_async(self.kernel_manager.list_kernels())
            terminals = self.settings.get("terminal_manager")
            found["terminals"] = await ensure_async(terminals.list()) if terminals else []
            self.answer(found)

    class Flush(Handler):
        @allowed
        async def post(self) -> None:
            self.answer(await documents.flush())

    class Pause(Handler):
        @allowed
        async def post(self) -> None:
            try:
                self.answer(await documents.pause(self.given("path")))
            except TimeoutError:
                raise web.HTTPError(503, "a document is still being written") from None

    class Reload(Handler):
        @allowed
        async def post(self) -> None:
            self.answer(await documents.reload(self.given("path")))

    class Warn(Handler):
        @allowed
        async def post(self) -> None:
            self.answer(documents.warn(self.given("text")))

    class Keep(Handler):
        @allowed
        async def post(self) -> None:
            self.answer(documents.keep())

    return [("keep", Keep), ("state", State), ("flush", Flush), ("pause", Pause), ("reload", Reload), ("warn", Warn)]
