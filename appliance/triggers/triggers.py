"""The room's one loop: looks at every trigger about once a second, and begins what takes longer beside it.

What a trigger has seen and the run that it starts are written in one transaction. Nothing depends on a hint: a hint
only makes the next look come at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ApplianceError, UsageError
from appliance.reconcile import Again
from appliance.spec.load import parse
from appliance.spec.models import Workflow
from appliance.state import events, resources
from appliance.state import triggers as marks
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource
from appliance.state.runs import Run
from appliance.state.triggers import Head
from appliance.triggers import chains, decisions, folders, hooks, idle, starts, ticks
from appliance.triggers.decisions import Decision, Note
from appliance.triggers.folders import Found, Seen
from appliance.triggers.git import Git
from appliance.triggers.repositories import Repositories
from appliance.vault.secrets import Secrets

log = logging.getLogger(__name__)

LOOK_S = 1.0
FOLDERS_S = 1.0
"""Between two looks at a folder, seconds, or longer where a look takes long."""
FOLDERS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Watched:
    """A declared workflow that starts by itself, as it was last read."""

    resource: Resource
    spec: Workflow


class Triggers:
    def __init__(
        self,
        *,
        db: Database,
        vault: Secrets,
        instance: str,
        home: Path,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
    ) -> None:
        self._db = db
        self._home = str(home)
        self._vault = vault
        self._clock = clock
        self._hint = hint
        self._git = Git(instance)
        self.repositories = Repositories(db, vault, self._git, clock=clock, hint=hint)
        self._since = clock()
        self._wake = asyncio.Event()
        self._heads: tuple[Head, ...] | None = None
        """As they were read last; None: not yet."""
        self._kept: tuple[Head, ...] | None = None
        """For which heads the marks of all others were forgotten; None: of none yet."""
        self._watched: dict[str, Watched] = {}
        self._folders: dict[str, Seen] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(FOLDERS_AT_ONCE)
        self._problems: dict[tuple[str, str], str] = {}
        """(workflow, trigger) -> why it cannot be looked at, told once."""
        self._waits: dict[tuple[str, str], str] = {}
        """(workflow, trigger) -> why it cannot fire, though nothing is wrong with it."""
        self._shown: dict[str, str] = {}
        """Workflow -> what its detail says of both."""
        self._quiet: dict[tuple[str, str], tuple[float, float]] = {}
        """(workflow, schedule) -> from when until when the clock has nothing to say: most looks ask no schedule."""
        self._changes = -1

    def wakers(self) -> tuple[Waker, Waker]:
        """For the reconciler: what hints a workflow or a repository makes the next look come at once."""
        return Waker("workflow", self._woken), Waker("repository", self._woken_repository)

    def health(self) -> tuple[bool, str]:
        """For the status: whether it works, and what it looks at. Before the first look it reads what there is."""
        if self._heads is None:
            self._take(tuple(marks.heads(self._db.read)))
        polled = self._polled()
        found = []
        if self._watched:
            found.append(_count(len(self._watched), "workflow starts by itself", "workflows start by themselves"))
        if polled:
            found.append(_count(len(polled), "repository is polled", "repositories are polled"))
        found += sorted(set(self._problems.values()))[:3]
        if polled and self._git.missing():
            return False, "git is not installed, so no repository is polled; ./install.sh installs it"
        return True, "; ".join(found) or "nothing starts by itself"

    async def run(self) -> None:
        """Until cancelled."""
        self._since = self._clock()
        self._kept, self._changes = None, -1
        await asyncio.to_thread(self._git.sweep)
        try:
            while True:
                self._wake.clear()
                self.look()
                self._begin_looks()
                self.repositories.begin(self._polled())
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._looks.values():
                task.cancel()
            await asyncio.gather(*self._looks.values(), return_exceptions=True)
            self._looks.clear()
            await self.repositories.close()

    def look(self) -> None:
        """At everything that is known here and now: the clock, the state, and what the last looks at folders found."""
        now = self._clock()
        changes = self._db.read.total_changes
        self._read_heads(now)
        for watched in list(self._watched.values()):
            try:
                self._look_at(watched, now, state_changed=changes != self._changes)
            except ApplianceError as error:
                log.warning("workflow %s: its triggers cannot be looked at now: %s", watched.resource.name, error)
                changes = -1
        self._changes = changes

    # what is declared

    def _polled(self) -> list[str]:
        return [head.uid for head in self._heads or () if head.kind == "repository"]

    def _read_heads(self, now: float) -> None:
        heads = tuple(marks.heads(self._db.read))
        if heads != self._heads:
            self._take(heads)
        if heads != self._kept:
            self._changes = -1
            self._forget(heads, now)
            self._kept = heads

    def _take(self, heads: tuple[Head, ...]) -> None:
        before, self._heads = self._watched, heads
        self._quiet.clear()
        self._watched = {}
        for head in heads:
            if head.kind != "workflow":
                continue
            known = before.get(head.uid)
            if known and known.resource.generation == head.generation:
                self._watched[head.uid] = known
            elif found := self._read(head):
                self._watched[head.uid] = found

    def _read(self, head: Head) -> Watched | None:
        """None: it starts by hand only."""
        resource = resources.find_uid(self._db.read, head.uid)
        if resource is None:
            return None
        try:
            spec = parse("workflow", resource.name, resource.spec)
        except UsageError as error:
            log.warning("workflow %s cannot be read: %s", resource.name, error)
            return None
        if not isinstance(spec, Workflow) or not (decisions.keys(spec.triggers) or spec.triggers.webhook):
            return None
        return Watched(resource, spec)

    def _forget(self, heads: Iterable[Head], now: float) -> None:
        """Marks of what is gone, withdrawn or no longer a trigger: once it is back, it is seen for the first time."""
        polled = {head.uid for head in heads if head.kind == "repository"}
        with self._db.write() as db:
            for subject in marks.subjects(db) - polled:
                watched = self._watched.get(subject)
                kept = decisions.keys(watched.spec.triggers) if watched else set()
                hooked = bool(watched and watched.spec.triggers.webhook)
                found = marks.names(db, subject, but=hooks.REMEMBERED if hooked else ())
                marks.remove(db, subject, [name for name in found if name not in kept])
            for row in resources.every(db, "workflow"):
                if row.message and row.uid not in self._watched:
                    resources.set_status(db, row.uid, generation=row.generation, phase=row.phase)
        self._problems = {key: told for key, told in self._problems.items() if key[0] in self._watched}
        self._waits = {key: told for key, told in self._waits.items() if key[0] in self._watched}
        self._shown = {uid: told for uid, told in self._shown.items() if uid in self._watched}

    # one workflow

    def _look_at(self, watched: Watched, now: float, *, state_changed: bool) -> None:
        uid, triggers = watched.resource.uid, watched.spec.triggers
        db = self._db.read
        for schedule in triggers.schedule:
            key = decisions.schedule_key(schedule)
            begin, end = self._quiet.get((uid, key), (0.0, 0.0))
            if begin <= now < end:
                continue
            try:
                decided = decisions.on_schedule(schedule, marks.find(db, uid, key), since=self._since, now=now)
                following = ticks.upcoming(schedule, now)
            except UsageError as error:
                self._tell_problem(watched, key, error.message, now)
                continue
            self._carry_out(watched, key, decided, now)
            self._quiet[uid, key] = (now, math.inf if following is None else following)
        for path in triggers.folders:
            key, seen = f"folder:{path}", self._folders.get(path)
            if seen is None:
                continue
            self._tell_problem(watched, key, seen.problem, now)
            self._waits[uid, key] = "" if seen.fingerprint else idle.no_folder(path)
            self._carry_out(watched, key, decisions.on_folder(path, marks.find(db, uid, key), seen, now=now), now)
        if state_changed:
            self._look_at_state(watched, now)
        self._show(watched, state_changed=state_changed)

    def _look_at_state(self, watched: Watched, now: float) -> None:
        """At the triggers that see nothing new while the state is the same."""
        uid, triggers, db = watched.resource.uid, watched.spec.triggers, self._db.read
        for name in triggers.datasets:
            self._look_at_dataset(watched, name, now)
        if triggers.github and not triggers.webhook:
            self._carry_out(watched, "github", decisions.on_github(marks.find(db, uid, "github")), now)
            self._waits[uid, "github"] = decisions.NOT_POLLED
        if triggers.webhook:
            self._tell_problem(watched, "webhook", idle.unset(triggers.webhook, self._vault.resolve), now)
        if triggers.spec:
            source = watched.resource.source
            decided = decisions.on_spec(watched.resource.generation, source, marks.find(db, uid, "spec"))
            self._carry_out(watched, "spec", decided, now)
            self._waits[uid, "spec"] = decisions.not_of_a_file(source)

    def _show(self, watched: Watched, *, state_changed: bool) -> None:
        """In the workflow's detail: which of its triggers cannot fire."""
        uid = watched.resource.uid
        places = [(uid, key) for key in idle.in_order(watched.spec.triggers)]
        told = idle.together([self._problems.get(place) or self._waits.get(place, "") for place in places])
        if not state_changed and self._shown.get(uid) == told:
            return
        self._shown[uid] = told
        row = resources.find_uid(self._db.read, uid)
        if row is not None and row.message != told:
            with self._db.write() as db:
                resources.set_status(db, uid, generation=row.generation, phase=row.phase, message=told)

    def _look_at_dataset(self, watched: Watched, name: str, now: float) -> None:
        db, key = self._db.read, f"dataset:{name}"
        dataset = chains.dataset_of(db, name)
        self._waits[watched.resource.uid, key] = "" if dataset else idle.no_dataset(name)
        found = marks.committed(db, dataset.uid) if dataset else []
        decided = decisions.on_dataset(
            name,
            marks.find(db, watched.resource.uid, key),
            found,
            watched.spec,
            dataset.uid if dataset else "",
            lambda version: chains.own_doing(db, watched.resource.name, dataset.uid, version) if dataset else "",
        )
        self._carry_out(watched, key, decided, now)

    def _carry_out(self, watched: Watched, key: str, decided: Decision, now: float) -> None:
        """Mark, runs and events in one transaction; then the hints."""
        if decided.mark is None:
            return
        resource, begun = watched.resource, list[Run]()
        with self._db.write() as db:
            marks.put(db, resource.uid, key, decided.mark, now=now)
            for note in decided.notes:
                self._record(db, resource, note, now)
            for start in decided.starts:
                run = starts.start(
                    self._db, db, resource, resource.name, resource.spec, start.inputs,
                    cause=start.cause, source=start.source, now=now,
                )  # fmt: skip
                begun += [run] if run else []
        for run in begun:
            self._hint("run", run.id)

    def _tell_problem(self, watched: Watched, key: str, problem: str, now: float) -> None:
        """Once, until it is another one or none."""
        place = (watched.resource.uid, key)
        if self._problems.get(place, "") == problem:
            return
        if not problem:
            del self._problems[place]
            return
        self._problems[place] = problem
        with self._db.write() as db:
            self._record(db, watched.resource, Note("TriggerBlind", problem, "warning"), now)

    def _record(self, db: Connection, resource: Resource, note: Note, now: float) -> None:
        events.record(db, "workflow", resource.name, note.reason, note.message, now=now, level=note.level)

    # folders

    def _begin_looks(self) -> None:
        wanted = {path for watched in self._watched.values() for path in watched.spec.triggers.folders}
        for gone in self._looks.keys() - wanted:
            self._looks.pop(gone).cancel()
            self._folders.pop(gone, None)
        for path, task in list(self._looks.items()):
            if task.done():
                log.error("the look at %s ended and begins again", path, exc_info=task.exception())
                del self._looks[path]
        for path in wanted - self._looks.keys():
            self._looks[path] = asyncio.create_task(self._keep_looking(path), name=f"folder {path}")

    async def _keep_looking(self, path: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._slots:
                begun = loop.time()
                look = asyncio.ensure_future(folders.aside(lambda: folders.look(path, home=self._home)))
                try:
                    done, _ = await asyncio.wait({look}, timeout=folders.ANSWER_S)
                except asyncio.CancelledError:
                    look.cancel()
                    raise
            if not done:  # its slot is free for others; the disk may come back
                self._saw(path, Found(problem=f"{path} has not answered for {folders.ANSWER_S:.0f} s"))
            self._saw(path, await look)
            await asyncio.sleep(max(FOLDERS_S, 10 * (loop.time() - begun)))

    def _saw(self, path: str, found: Found) -> None:
        before = self._folders.get(path)
        same = before is not None and (before.fingerprint, before.problem) == (found.fingerprint, found.problem)
        since = before.since if before and same else self._clock()
        self._folders[path] = Seen(found.fingerprint, found.entries, found.problem, since)
        if before is None:  # noted at once: what is written from now on is a change
            self._wake.set()

    # hints

    def _woken(self, _: str) -> None:
        self._wake.set()

    def _woken_repository(self, uid: str) -> None:
        self.repositories.soon(uid)
        self._wake.set()


class Waker:
    """A controller of the reconciler that passes a hint on and does no work."""

    def __init__(self, kind: str, wake: Callable[[str], None]) -> None:
        self.kind = kind
        self._wake = wake

    def keys(self) -> Iterable[str]:
        return ()

    async def reconcile(self, key: str) -> Again | None:
        self._wake(key)
        return None


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
