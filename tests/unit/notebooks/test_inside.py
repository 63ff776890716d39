"""What Jupyter runs of the appliance's own in a session, with documents that only look like jupyter-collaboration's."""

from __future__ import annotations

import ast
import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.notebooks.jupyter import CONFIG_DIR, COOKIES, INSIDE

pytestmark = pytest.mark.anyio
MODULES = ("appliance_saved", "appliance_rooms", "appliance_jupyter")


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a session: the modules lie beside each other."""
    monkeypatch.syspath_prepend(str(INSIDE))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def module(name: str) -> Any:
    return importlib.import_module(name)


class File:
    """A file of one document, and how Jupyter keeps to it: it is not written over one that has another time."""

    def __init__(self, path: str, content: str, time: int) -> None:
        self.path = path
        self.content, self.time = content, time
        self.last_modified: int | None = time
        self._lock = asyncio.Lock()

    async def write(self, content: str) -> None:
        async with self._lock:
            if self.last_modified == self.time:
                self.content, self.time = content, self.time + 1
                self.last_modified = self.time

    async def poll(self) -> None:
        """A time that is not later than the one before is noted, and nobody is told."""
        async with self._lock:
            self.last_modified = self.time

    async def load_content(self, kind: str, of: str) -> dict[str, Any]:
        async with self._lock:
            self.last_modified = self.time
            return {"content": self.content}


class Document:
    def __init__(self, content: str) -> None:
        self.content = content
        self.dirty = True

    async def aget(self) -> str:
        return self.content

    async def aset(self, content: str) -> None:
        self.content = content


class Room:
    """`delay`: it is saved when nothing has changed for so long."""

    def __init__(self, path: str, content: str = "first", *, delay: float = 3600.0, takes: float = 0.0) -> None:
        self.room_id = f"json:notebook:{path}"
        self._file_format, self._file_type = "json", "notebook"
        self._file = File(path, content, 100)
        self._document = Document(content)
        self._update_lock = asyncio.Lock()
        self._saving_document: asyncio.Task[None] | None = None
        self.delay, self.takes = delay, takes
        self.saves = 0

    def change(self, content: str) -> None:
        self._document.content = content
        if self._saving_document:
            self._saving_document.cancel()
        self._saving_document = asyncio.create_task(self._maybe_save_document(None))

    async def _maybe_save_document(self, saving_document: Any, save_now: bool = False) -> None:
        if not save_now:
            await asyncio.sleep(self.delay)
        await asyncio.sleep(self.takes)
        self.saves += 1
        await self._file.write(self._document.content)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_document_that_never_comes_to_rest_is_saved_all_the_same() -> None:
    clock, room = Clock(), Room("a.ipynb")
    saver = module("appliance_rooms").Saver(clock)
    worst = saved = 0.0
    for second in range(120):
        clock.now = float(second)
        room.change(str(second))
        await saver.tick([room])
        if room._file.content == str(second):
            saved = clock.now
        worst = max(worst, clock.now - saved)
    assert worst < 9  # what is not in the file is younger than ten seconds, with a second until the next look
    assert 10 <= room.saves <= 20


async def test_a_document_at_rest_is_left_alone() -> None:
    clock, room = Clock(), Room("a.ipynb", delay=0.0)
    saver = module("appliance_rooms").Saver(clock)
    room.change("x")
    assert room._saving_document
    await room._saving_document
    for second in range(60):
        clock.now = float(second)
        await saver.tick([room])
    assert room.saves == 1


async def test_a_document_that_takes_long_is_saved_less_often() -> None:
    clock, room = Clock(), Room("a.ipynb")
    saver = module("appliance_rooms").Saver(clock)
    plain = room._maybe_save_document

    async def slowly(saving_document: Any, save_now: bool = False) -> None:
        await plain(saving_document, save_now)
        if save_now:
            clock.now += 6.0

    room._maybe_save_document = slowly  # type: ignore[method-assign]
    for _ in range(200):
        clock.now += 1.0
        room.change(str(clock.now))
        await saver.tick([room])
    assert 2 <= room.saves <= 5


async def test_a_save_that_nobody_asked_for_is_no_moment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    saved = module("appliance_saved")
    monkeypatch.setattr(saved, "SIGNAL", str(tmp_path / "saved"))
    room = Room("a.ipynb", delay=0.0)
    plain = room._maybe_save_document

    async def hooked(saving_document: Any, save_now: bool = False) -> None:
        await plain(saving_document, save_now)
        saved.saved(os_path="x", model={})

    room._maybe_save_document = hooked  # type: ignore[method-assign]
    await module("appliance_rooms").save(room)
    assert room.saves == 1
    assert not (tmp_path / "saved").exists()
    room.change("by its user")
    assert room._saving_document
    await room._saving_document
    assert (tmp_path / "saved").exists()


class Jupyter:
    """As far as it is asked for kernels, and for what they belong to."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.sessions: list[dict[str, Any]] = []
        self.asked = 0
        self.kernel_manager = self.session_manager = self

    def list_kernels(self) -> list[dict[str, str]]:
        return [{"id": kernel, "execution_state": state} for kernel, state in self.states.items()]

    async def list_sessions(self) -> list[dict[str, Any]]:
        self.asked += 1
        return self.sessions


@pytest.mark.parametrize(
    ("states", "sessions", "moment"),
    [
        ({}, {}, True),
        ({"k": "idle"}, {"k": "a.ipynb"}, True),
        ({"k": "busy"}, {"k": "a.ipynb"}, False),
        ({"k": "busy"}, {}, False),
        ({"k": "busy", "other": "idle"}, {"k": "b.ipynb", "other": "a.ipynb"}, True),
        ({"k": "busy", "other": "busy"}, {"k": "b.ipynb", "other": "RTC:a.ipynb"}, False),
    ],
)
async def test_what_a_document_saves_by_itself_while_its_cell_runs_is_no_moment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, states: dict[str, str], sessions: dict[str, str], moment: bool
) -> None:
    saved, rooms, signal = module("appliance_saved"), module("appliance_rooms"), tmp_path / "saved"
    monkeypatch.setattr(saved, "SIGNAL", str(signal))
    room, server = Room("a.ipynb", delay=0.0), Jupyter()
    monkeypatch.setattr(room._file, "write", hooked(room._file.write, saved.saved))
    server.states, server.sessions = states, [{"path": path, "kernel": {"id": id_}} for id_, path in sessions.items()]
    computing = rooms.Computing(server)
    await computing.look()
    rooms.by_itself([room], computing)
    rooms.by_itself([room], computing)
    room.change("output, or what its user has typed")
    assert room._saving_document
    await room._saving_document
    assert (room.saves, signal.exists()) == (1, moment)
    signal.unlink(missing_ok=True)
    await room._maybe_save_document(None, save_now=True)
    assert signal.exists(), "its user has asked for this one"
    signal.unlink()
    for kernel in states:
        states[kernel] = "idle"
    room.change("the last output")
    await room._saving_document
    assert signal.exists(), "the cell has ended"
    rooms.check(room)


async def test_what_belongs_to_a_kernel_is_asked_for_only_while_one_computes() -> None:
    server = Jupyter()
    computing = module("appliance_rooms").Computing(server)
    server.states = {"k": "idle"}
    await computing.look()
    assert server.asked == 0
    server.states = {"k": "busy"}
    await computing.look()
    assert server.asked == 1


async def test_in_doubt_a_save_is_a_moment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a kernel gateway, whose kernels have to be waited for, and of anything else that is not as it is known."""
    saved, rooms, room, server = module("appliance_saved"), module("appliance_rooms"), Room("a.ipynb"), Jupyter()
    monkeypatch.setattr(saved, "SIGNAL", str(tmp_path / "saved"))
    monkeypatch.setattr(server, "list_kernels", server.list_sessions)
    assert not rooms.Computing(server).of(room)
    monkeypatch.setattr(server, "list_kernels", None)
    token = saved.QUIETLY.set(lambda: rooms.Computing(server).of(room))
    saved.saved(os_path="x", model={})
    saved.QUIETLY.reset(token)
    assert (tmp_path / "saved").exists()


async def test_a_text_is_its_users_also_while_a_cell_runs() -> None:
    server, room = Jupyter(), Room("train.py")
    room._file_type = "file"
    server.states = {"k": "busy"}
    assert not module("appliance_rooms").Computing(server).of(room)


def hooked(write: Any, hook: Any) -> Any:
    async def both(content: str) -> None:
        await write(content)
        hook(os_path="x", model={})

    return both


async def test_a_flush_writes_what_waits_and_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = module("appliance_rooms")
    monkeypatch.setattr(rooms, "FLUSH_S", 0.2)
    waiting, resting, slow = Room("a"), Room("b"), Room("c", takes=3600.0)
    waiting.change("new")
    assert await rooms.flush([waiting, resting]) == 0
    assert (waiting._file.content, resting.saves) == ("new", 0)
    slow.change("new")
    assert await rooms.flush([slow]) == 1


@pytest.mark.parametrize("time", [50, 100, 200])
async def test_what_is_put_in_its_place_stays_and_is_shown(time: int) -> None:
    """Also where its time is older, and where a save and Jupyter's look at the file wait for the end of the pause."""
    pauses, room = module("appliance_rooms").Pauses(), Room("a", delay=0.0)
    room.change("typed before")
    await pauses.begin([room])
    assert room._file.content == "typed before"
    room.change("typed meanwhile")
    looking = asyncio.create_task(room._file.poll())
    await asyncio.sleep(0.05)
    assert room._file.content == "typed before"
    room._file.content, room._file.time = "restored", time
    assert await pauses.reload([room]) == 0
    await looking
    assert (room._document.content, room._file.content) == ("restored", "restored")
    room.change("typed afterwards")
    assert room._saving_document
    await room._saving_document
    assert room._file.content == "typed afterwards"


async def test_without_a_pause_the_old_would_come_back() -> None:
    """That what the test above guards against can happen with these stand-ins."""
    room = Room("a", delay=0.0)
    room._file.content, room._file.time = "restored", 50
    await room._file.poll()
    room.change("typed")
    assert room._saving_document
    await room._saving_document
    assert room._file.content == "typed"


async def test_a_pause_ends_by_itself_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = module("appliance_rooms")
    monkeypatch.setattr(rooms, "PAUSE_S", 0.1)
    pauses, room = rooms.Pauses(), Room("a", delay=0.0)
    await pauses.begin([room])
    await pauses.begin([room])
    async with asyncio.timeout(60):
        await room._file.write("goes on")
    assert room._file.content == "goes on"
    assert await pauses.reload([room]) == 0
    assert not room._file._lock.locked()


async def test_many_that_are_being_written_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = module("appliance_rooms")
    monkeypatch.setattr(rooms, "FLUSH_S", 0.2)
    busy = [Room(str(number)) for number in range(60)]
    for room in busy:
        await room._file._lock.acquire()
    pauses, free = rooms.Pauses(), Room("free")
    async with asyncio.timeout(6):  # one after the other they would take 12 s
        await pauses.begin([*busy, free])
    assert free._file._lock.locked()
    for room in busy:
        room._file._lock.release()
    assert await pauses.reload([*busy, free]) == 0
    assert not any(room._file._lock.locked() for room in [*busy, free])


async def test_a_file_that_is_gone_is_told_and_ends_the_pause() -> None:
    pauses, room = module("appliance_rooms").Pauses(), Room("a")

    async def missing(kind: str, of: str) -> dict[str, Any]:
        raise RuntimeError("no such file")

    await pauses.begin([room])
    room._file.load_content = missing  # type: ignore[method-assign]
    assert await pauses.reload([room]) == 1
    assert not room._file._lock.locked()
    assert not room._update_lock.locked()


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, line: str, *values: object) -> None:
        self.lines.append(line % values)


def app(*rooms: Any, server: Any = None) -> Any:
    server = server or SimpleNamespace(rooms={room.room_id: room for room in rooms})
    apps = {"jupyter_server_ydoc": [SimpleNamespace(ywebsocket_server=server)]} if rooms or server.rooms is None else {}
    return SimpleNamespace(log=Log(), extension_manager=SimpleNamespace(extension_apps=apps))


@pytest.mark.parametrize(
    ("below", "found"),
    [
        ("", ["a/b.ipynb", "ab.ipynb", "c.ipynb"]),
        ("a", ["a/b.ipynb"]),
        ("/a/", ["a/b.ipynb"]),
        ("a/b.ipynb", ["a/b.ipynb"]),
        ("c.ipynb", ["c.ipynb"]),
        ("b.ipynb", []),
    ],
)
async def test_documents_at_a_path_or_below_it(below: str, found: list[str]) -> None:
    rooms = [Room(path) for path in ("a/b.ipynb", "ab.ipynb", "c.ipynb")]
    shared = SimpleNamespace(room_id="JupyterLab:globalAwareness")
    documents = module("appliance_jupyter").Documents(app(*rooms, shared))
    assert [room._file.path for room in documents.open(below)] == found


async def test_without_collaboration_there_is_nothing_to_do() -> None:
    bare = app()
    documents = module("appliance_jupyter").Documents(bare)
    await documents.tick()
    assert (await documents.flush(), await documents.pause("a"), await documents.reload("a")) == (
        {"late": 0},
        {"paused": 0},
        {"failed": 0},
    )
    assert bare.log.lines == []


@pytest.mark.parametrize("missing", ["_saving_document", "_update_lock", "_file", "save_now", "rooms"])
async def test_another_collaboration_is_told_of_once_and_left_alone(missing: str) -> None:
    room = Room("a")
    server = None
    if missing == "save_now":

        async def older(saving_document: Any) -> None:
            raise AssertionError("it is not called")

        room._maybe_save_document = older  # type: ignore[method-assign,assignment]
    elif missing == "rooms":
        server = SimpleNamespace(rooms=None)
    else:
        delattr(room, missing)
    other = app(room, server=server)
    documents = module("appliance_jupyter").Documents(other)
    for _ in range(3):
        await documents.tick()
        assert await documents.flush() == {"late": 0}
    assert len(other.log.lines) == 1
    assert "jupyter-collaboration" in other.log.lines[0]


async def test_a_warning_is_over_when_it_is_taken_back_or_not_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    extension = module("appliance_jupyter")
    now = Clock()
    monkeypatch.setattr(extension.time, "monotonic", now)
    documents = extension.Documents(app())
    assert documents.state() == {"warning": "", "documents": []}
    documents.warn("soon")
    assert documents.state()["warning"] == "soon"
    documents.warn("")
    assert documents.state()["warning"] == ""
    documents.warn("soon")
    now.now = extension.WARNING_S + 1
    assert documents.state()["warning"] == ""


async def test_who_keeps_the_session_is_seen_as_one_who_uses_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module("appliance_saved"), "SIGNAL", str(tmp_path / "saved"))
    documents = module("appliance_jupyter").Documents(app())
    documents.warn("soon")
    documents.keep()
    assert documents.state()["warning"] == ""
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize(("content", "kept"), [(b"", False), (b"x" * 31, False), (b"x" * 45, True), (None, False)])
def test_a_secret_of_cookies_that_was_cut_short_is_made_anew(
    content: bytes | None, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "cookie-secret"
    if content is not None:
        secret.write_bytes(content)
    monkeypatch.setattr(sys, "path", list(sys.path))
    text = (INSIDE / "jupyter_server_config.py").read_text()
    assert COOKIES in text
    exec(text.replace(COOKIES, str(secret)), {})
    assert secret.exists() is kept
    assert CONFIG_DIR in sys.path


@pytest.mark.parametrize("name", [file.name for file in INSIDE.glob("*.py")])
def test_an_old_python_reads_them(name: str) -> None:
    ast.parse((INSIDE / name).read_text(), feature_version=(3, 8))
