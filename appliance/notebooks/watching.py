"""Looking after the sessions that run, each second: a moment after each save, and an end when nobody needs them.

Neither holds up the other, nor one notebook another: what takes time is a task of its own, one of each kind at a time
for each notebook.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Lock, Task
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from appliance.errors import ApplianceError
from appliance.history.workspaces import Workspaces
from appliance.notebooks import ending, saving
from appliance.notebooks.activity import Activity
from appliance.notebooks.asking import Told
from appliance.notebooks.beside import SAVED, SIGNALS, Beside
from appliance.notebooks.documents import Documents
from appliance.notebooks.ending import Shown
from appliance.notebooks.idle import LOOK_EVERY_S, Course, Policy, Timer, judge, judge_timer
from appliance.notebooks.idle_gpus import IdleGpus
from appliance.notebooks.saving import Saves
from appliance.notebooks.tending import AUTHOR
from appliance.notebooks.typed import Terminals
from appliance.settings import Settings
from appliance.spec.load import parse
from appliance.spec.models import Notebook
from appliance.state import resources
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.room import plenty

log = logging.getLogger(__name__)

SLOW_LOOK_S = 2.0
"""After a slower look what it has seen may be over already: nothing ends at it."""
BLIND_S = 120.0
"""So long it may stay unknown whether a session is used until that is said."""
CLOCK_SET_S = 1.0
"""A smaller difference between two looks does not change the times that are shown."""


def policy(settings: Settings, spec: Notebook) -> Policy:
    """What the spec says, else the settings."""
    own = spec.idle
    return Policy(
        after_s=settings.idle_after_s if own.after_s is None else own.after_s,
        warn_s=settings.idle_warn_s if own.warn_s is None else own.warn_s,
        shutdown_s=spec.shutdown_s,
    )


@dataclass(slots=True)
class _Watch:
    """What is remembered of one notebook."""

    container: str = ""
    course: Course = field(default_factory=Course)
    timer: Timer = field(default_factory=Timer)
    saves: Saves = field(default_factory=Saves)
    next_look: float = 0.0
    unix: float | None = None
    blind: float | None = None
    """Since then nobody can see whether it is used."""
    shown: Shown | None = None
    gpus: Course = field(default_factory=Course)
    gpus_shown: Shown | None = None
    told: str = ""
    """The problem with a snapshot that an event has told of."""

    def unix_of(self, now: float, counted: float) -> float:
        """What makes unix seconds of the counter's, the same from look to look unless the clock was set."""
        if self.unix is None or abs(now - counted - self.unix) > CLOCK_SET_S:
            self.unix = now - counted
        return self.unix


class Watching:
    """`counter` counts seconds and is never set."""

    def __init__(
        self,
        *,
        db: Database,
        workspaces: Workspaces,
        settings: Settings,
        activity: Activity,
        locks: Mapping[str, Lock],
        clock: Callable[[], float],
        counter: Callable[[], float],
        hint: Callable[[str], None],
        no_moments: Callable[[], str] = plenty,
        documents: Documents | None = None,
        terminals: Terminals | None = None,
        idle_gpus: IdleGpus | None = None,
    ) -> None:
        self._db = db
        self._workspaces = workspaces
        self._settings = settings
        self._beside = Beside(settings)
        self._activity = activity
        self._locks = locks
        self._clock = clock
        self._counter = counter
        self._hint = hint
        self._no_moments = no_moments
        self._documents = documents or Documents()
        self._terminals = terminals or Terminals()
        self._idle_gpus = idle_gpus
        self._watches: dict[str, _Watch] = {}
        self._policies: dict[tuple[str, int], tuple[Policy, bool]] = {}
        """Uid and generation -> the policy, and whether the work of GPUs counts."""
        self._tasks: dict[tuple[str, str], Task[None]] = {}

    async def watch(self) -> None:
        """One round over the sessions that run. What takes time goes on after it."""
        running = {one.uid: one for one in resources.running(self._db.read, "notebook") if _runs(one)}
        self._forget(set(running))
        for uid, notebook in running.items():
            watch = self._watches.setdefault(uid, _Watch())
            container = notebook.status["container"]
            if watch.container != container:
                self._watches[uid] = watch = _Watch(container, saves=watch.saves)
            self._look_for_saves(notebook, watch)
            if self._counter() >= watch.next_look:
                watch.next_look = self._counter() + LOOK_EVERY_S
                self._look_for_use(notebook, watch)
                self._look_for_gpus(notebook, watch)
        containers = {watch.container for watch in self._watches.values()}
        self._activity.keep(containers)
        self._terminals.keep(containers)

    def note(self, notebook: Resource) -> str:
        """What is said of its session where that will end soon; empty: nothing."""
        watch = self._watches.get(notebook.uid)
        if watch is None or watch.container != notebook.status.get("container"):
            return ""
        return "; ".join(shown.warning for shown in (watch.shown, watch.gpus_shown) if shown and shown.warning)

    async def settled(self) -> None:
        """Until all that has been begun is done."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await self.settled()

    # -- saves

    def _look_for_saves(self, notebook: Resource, watch: _Watch) -> None:
        now = self._counter()
        watch.saves = saving.seen(watch.saves, saving.mark(self._beside.path(notebook.uid) / SIGNALS / SAVED), now)
        quiet_s, every_s = self._settings.save_quiet_s, self._settings.save_every_s
        if not saving.is_due(watch.saves, quiet_s=quiet_s, every_s=every_s, now=now):
            return
        if self._no_moments() or self._locks[notebook.uid].locked():
            return  # a moment that nobody asked for must not take the last of the disk
        self._begin("save", notebook.uid, self._keep(notebook, watch))

    async def _keep(self, notebook: Resource, watch: _Watch) -> None:
        begun, after = self._counter(), None
        try:
            async with self._locks[notebook.uid]:
                begun = self._counter()
                await self._documents.flush(notebook)
                if await self._workspaces.changed(notebook.uid):
                    subject = f"session {notebook.status.get('session', 0)}"
                    await self._workspaces.snapshot(notebook.uid, cause="save", author=AUTHOR, subject=subject)
            after = saving.taken(watch.saves, begun, self._counter())
            watch.told = ""
        except ApplianceError as error:
            self._tell(notebook, watch, error)
        finally:
            watch.saves = after or saving.failed(watch.saves, self._counter(), self._settings.save_every_s)

    def _tell(self, notebook: Resource, watch: _Watch, error: ApplianceError) -> None:
        message = f"no snapshot after a save: {error.message}" + (f"; {error.hint}" if error.hint else "")
        if watch.told != message:
            watch.told = message
            ending.record(self._db, notebook, "SnapshotFailed", message, now=self._clock(), level="warning")

    # -- use

    def _look_for_use(self, notebook: Resource, watch: _Watch) -> None:
        try:
            found, gpus = self._policy(notebook)
        except ApplianceError:
            return  # the controller says what is wrong with the spec
        if found.any:
            self._begin("use", notebook.uid, self._judge(notebook, watch, found, gpus=gpus))
        elif (watch.shown or notebook.status.get("idle")) and not self._locks[notebook.uid].locked():
            watch.course, watch.timer = Course(), Timer()
            self._show(notebook, watch, None)

    async def _judge(self, notebook: Resource, watch: _Watch, rule: Policy, *, gpus: bool) -> None:
        saved = hash(watch.saves.mark)
        begun = self._counter()
        look, scene = await self._activity.look(notebook, watch.container, gpus=gpus, saved=saved)
        now, counted = self._clock(), self._counter()
        if counted - begun > SLOW_LOOK_S or self._terminals.mark(watch.container) != scene.typed:
            look = replace(look, doubt=True)
        unix = watch.unix_of(now, counted)
        ran_s = now - notebook.status["started"] if scene.age_s is None else scene.age_s
        watch.course, idle = judge(watch.course, rule, look, counted)
        watch.blind = (counted if watch.blind is None else watch.blind) if look.blind and rule.after_s else None
        watch.timer, timer = judge_timer(watch.timer, rule, ran_s, counted)
        present = resources.find_uid(self._db.read, notebook.uid)
        if present is None or not _same(present, notebook) or self._locks[notebook.uid].locked():
            return  # something is under way for it, and is left alone; what was seen counts all the same
        pages = scene.jupyter.connections if isinstance(scene.jupyter, Told) else 0
        shown = ending.describe(notebook, idle, timer, unix=unix, pages=pages)
        if watch.blind is not None and counted - watch.blind >= BLIND_S and not shown.warning:
            shown = ending.blind(notebook.name, shown)
        if shown.end and ending.end(self._db, present, shown, now):
            self._hint(notebook.uid)
        elif not shown.end:
            before = watch.shown
            self._show(present, watch, shown)
            if shown.warning or (before and before.warning):
                await self._documents.warn(present, shown.warning)

    def _show(self, notebook: Resource, watch: _Watch, shown: Shown | None) -> None:
        before, watch.shown = watch.shown, shown
        if shown and shown.warning and not (before and before.warning and before.reason == shown.reason):
            ending.record(self._db, notebook, shown.reason, shown.warning, now=self._clock(), level="warning")
            self._terminals.tell(watch.container, shown.warning)
        ending.write(self._db, notebook, shown)
        if (before.warning if before else "") != (shown.warning if shown else ""):
            self._hint(notebook.uid)

    # -- GPUs

    def _look_for_gpus(self, notebook: Resource, watch: _Watch) -> None:
        """Whether it uses those that it has. It may be stopped for who waits, however busy it is otherwise."""
        if self._idle_gpus is None:
            return
        now, counted = self._clock(), self._counter()
        unix = watch.unix_of(now, counted)
        watch.gpus, shown = self._idle_gpus.look(notebook, watch.gpus, now=counted, unix=unix)
        if self._locks[notebook.uid].locked():
            return  # something is under way for it, and is left alone; what was seen counts all the same
        if shown and shown.end:
            if ending.end(self._db, notebook, shown, now):
                self._hint(notebook.uid)
            return
        before, watch.gpus_shown = watch.gpus_shown, shown
        reason = shown.reason if shown else ""
        if reason != (before.reason if before else ""):
            if shown:
                ending.record(self._db, notebook, reason, shown.warning, now=now, level="warning")
                self._terminals.tell(watch.container, shown.warning)
            self._hint(notebook.uid)
        stops = shown.warning if shown and shown.ends else ""
        if stops or (before and before.ends):
            self._begin("tell", notebook.uid, self._documents.warn(notebook, stops))

    # -- parts

    def _policy(self, notebook: Resource) -> tuple[Policy, bool]:
        key = (notebook.uid, notebook.generation)
        if key not in self._policies:
            spec = parse("notebook", notebook.name, notebook.spec)
            assert isinstance(spec, Notebook)
            self._policies[key] = policy(self._settings, spec), spec.idle.gpu
        return self._policies[key]

    def _begin(self, kind: str, uid: str, work: Coroutine[Any, Any, None]) -> None:
        key = (kind, uid)
        if key in self._tasks:
            work.close()
            return
        self._tasks[key] = task = asyncio.create_task(work, name=f"{kind} of notebook {uid}")
        task.add_done_callback(lambda done: self._ended(key, done))

    def _ended(self, key: tuple[str, str], task: Task[None]) -> None:
        self._tasks.pop(key, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s ended", task.get_name(), exc_info=error)

    def _forget(self, running: set[str]) -> None:
        for uid in self._watches.keys() - running:
            del self._watches[uid]
        self._policies = {key: found for key, found in self._policies.items() if key[0] in running}


def _runs(notebook: Resource) -> bool:
    """A session of it serves, whatever is said of it."""
    status = notebook.status
    return (
        not notebook.deleting
        and notebook.desired == "running"
        and notebook.observed == notebook.generation
        and bool(status.get("started"))
        and bool(status.get("container"))
        and status.get("ready") == status["container"]
    )


def _same(present: Resource, before: Resource) -> bool:
    """Nobody has asked for anything since the look began."""
    return _runs(present) and (present.updated, present.generation, present.status["container"]) == (
        before.updated,
        before.generation,
        before.status["container"],
    )
