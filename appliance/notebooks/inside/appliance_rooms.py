"""The documents that jupyter-collaboration holds on the server: saved, and read again, when the appliance needs it.

That extension saves a document once nothing has changed in it for a second, so the output of a cell that prints without
a pause would be in no file until the cell ends. What is used of it here is private, so it is looked at first: what it
does not have is left alone. Python 3.8 is enough.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Iterable
from typing import Any

from appliance_saved import QUIETLY

EXTENSION = "jupyter_server_ydoc"
EVERY_S = 7.0
"""A document that is changed without a pause is saved so often."""
SPARE = 10.0
"""So many times as long as the last save took, there is none after it: a large notebook has cells to run too."""
FLUSH_S = 1.8
"""A flush is answered after so long, whatever is still being written."""
PAUSE_S = 30.0
"""A pause ends by itself: whoever asked for it may be gone."""


class Unknown(Exception):
    """jupyter-collaboration is not as it is known here."""


def documents(extensions: Iterable[Any]) -> list[Any]:
    """The rooms that hold a file. `extensions`: those called EXTENSION. Raises Unknown."""
    found = []
    for extension in extensions:
        try:
            rooms = list(extension.ywebsocket_server.rooms.values())
        except AttributeError as error:
            raise Unknown(str(error)) from None
        found += [room for room in rooms if hasattr(room, "room_id") and room.room_id.count(":") >= 2]
    for room in found:
        check(room)
    return found


def check(room: Any) -> None:
    for name in ("_saving_document", "_file", "_document", "_update_lock", "_maybe_save_document"):
        if not hasattr(room, name):
            raise Unknown(f"a document has no {name}")
    if "save_now" not in inspect.signature(room._maybe_save_document).parameters:
        raise Unknown("a document cannot be saved at once")


def path(room: Any) -> str:
    """Below Jupyter's root; empty: the file is gone."""
    try:
        return str(room._file.path).strip("/")
    except RuntimeError:
        return ""


def is_unsaved(room: Any) -> bool:
    """It waits to be saved. One whose pages have all switched saving off never does."""
    waiting = room._saving_document
    return waiting is not None and not waiting.done()


async def save(room: Any) -> None:
    """Now. The save that waits stays, for it is the one that tries again; what goes wrong is in Jupyter's log."""
    quietly = QUIETLY.set(lambda: True)
    try:
        await room._maybe_save_document(None, save_now=True)
    finally:
        QUIETLY.reset(quietly)


class Computing:
    """Which documents have a kernel that computes. `server`: Jupyter's application."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._paths: dict[str, str] = {}
        """Kernel -> the file that it belongs to."""

    async def look(self) -> None:
        """What belongs to what; to be called each second."""
        if self._busy():
            sessions = await self._server.session_manager.list_sessions()
            self._paths = {one["kernel"]["id"]: one["path"].rpartition(":")[2].strip("/") for one in sessions}

    def of(self, room: Any) -> bool:
        """Now. A notebook whose kernel is not known may have any; other files have none."""
        busy = self._busy() if room._file_type == "notebook" else set()
        own = {kernel for kernel, file in self._paths.items() if file == path(room)}
        return bool(busy & own if own else busy)

    def _busy(self) -> set[str]:
        found = self._server.kernel_manager.list_kernels()
        if not isinstance(found, list):  # of a kernel gateway, which has to be waited for
            found.close()
            return set()
        return {one["id"] for one in found if one["execution_state"] == "busy"}


def by_itself(rooms: Iterable[Any], computing: Computing) -> None:
    """What a document saves without anybody's asking is no moment while its kernel computes: its output is not over.

    Such a training may print, and write over a large file, each few seconds for days. Looked at when the file is
    written, so the save of a cell that has ended counts.
    """
    for room in rooms:
        if not hasattr(room, "_appliance_saves"):
            room._appliance_saves = room._maybe_save_document
            room._maybe_save_document = functools.partial(_save_by_itself, room, computing)


async def _save_by_itself(room: Any, computing: Computing, saving_document: Any, save_now: bool = False) -> None:
    """As jupyter-collaboration's own; `save_now`: somebody asked for it."""
    quietly = None if save_now else QUIETLY.set(functools.partial(computing.of, room))
    try:
        await room._appliance_saves(saving_document, save_now=save_now)
    finally:
        if quietly is not None:
            QUIETLY.reset(quietly)


async def flush(rooms: Iterable[Any]) -> int:
    """Save what waits to be saved. How many are still being saved when the time is over."""
    tasks = [asyncio.ensure_future(save(room)) for room in rooms if is_unsaved(room)]
    if not tasks:
        return 0
    _, late = await asyncio.wait(tasks, timeout=FLUSH_S)
    return len(late)


class Saver:
    """Saves each second what has waited for too long."""

    def __init__(self, counter: Callable[[], float] = time.monotonic) -> None:
        self._counter = counter
        self._due: dict[str, float] = {}

    async def tick(self, rooms: Iterable[Any]) -> None:
        waiting = {room.room_id: room for room in rooms if is_unsaved(room)}
        self._due = {key: due for key, due in self._due.items() if key in waiting}
        for key, room in waiting.items():
            begun = self._counter()
            if begun < self._due.setdefault(key, begun + EVERY_S):
                continue
            await save(room)
            ended = self._counter()
            self._due[key] = ended + max(EVERY_S, SPARE * (ended - begun))


class Pauses:
    """Documents that are not written to their files while the appliance puts other files there."""

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}
        """Room -> what ends its pause by itself."""

    async def begin(self, rooms: Iterable[Any]) -> None:
        """What waits to be saved is saved first."""
        rooms = list(rooms)
        await flush(rooms)
        # together, so that it is over before whoever asks waits no longer
        await asyncio.gather(*(self._hold(room) for room in rooms if room.room_id not in self._held))

    async def _hold(self, room: Any) -> None:
        getting = asyncio.ensure_future(room._file._lock.acquire())
        await asyncio.wait([getting], timeout=FLUSH_S)
        if not getting.done():  # it is written without an end: it goes on as if there were no pause
            getting.cancel()
            return
        self._held[room.room_id] = asyncio.get_event_loop().call_later(PAUSE_S, self._end, room)

    async def reload(self, rooms: Iterable[Any]) -> int:
        """The pause ends, and each document becomes what its file is. How many could not be read."""
        failed = 0
        for room in rooms:
            try:
                await self._reload(room)
            except Exception:  # a file that is gone, or is no notebook any more: the page says so when it saves
                failed += 1
        return failed

    async def _reload(self, room: Any) -> None:
        async with room._update_lock:  # no save begins meanwhile
            if is_unsaved(room):
                room._saving_document.cancel()
            room._file.last_modified = None  # a time that is older than the one before is no change to Jupyter
            self._end(room)
            model = await room._file.load_content(room._file_format, room._file_type)
            if await room._document.aget() != model["content"]:
                await room._document.aset(model["content"])
            room._document.dirty = False

    def _end(self, room: Any) -> None:
        timer = self._held.pop(room.room_id, None)
        if timer is not None:
            timer.cancel()
            room._file._lock.release()
