"""Repositories that are polled: one look at a time each, as often as its `interval` says, and at once when told to.

A look lists branches and tags, and reads the workflows of each one that has moved. What a push starts, how far it is
seen and what is shown of the repository are written in one transaction, so a kill at any moment neither loses nor
doubles a run. A server that does not answer is asked less and less often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import ApplianceError, Conflict, UsageError
from appliance.spec.load import parse
from appliance.spec.models import Repository
from appliance.state import events, resources
from appliance.state import triggers as marks
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource
from appliance.triggers import pushes, starts
from appliance.triggers.git import Git, GitError, GitMissing, Remote
from appliance.vault.secrets import Secrets
from appliance.workflows.steps.own_repository import KNOWN_HOSTS

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Repositories that are asked at the same time."""
LONGEST_PAUSE_S = 1800.0
"""Between two looks at a server that does not answer, unless the interval is longer."""
MOST_CHANGES = 50
"""Branches and tags that one look works on; the next one, which follows soon, takes the rest."""
MOST_RUNS = 50
"""That one look starts, together with those that follow it for the rest of what has moved."""
SOON_S = 5.0
"""Between a look and the next that takes the rest; doubled for each further one, up to the interval."""
SOONEST_S = 2.0
"""From the end of a look to one that is asked for: whoever sends an old message again floods no server."""
MOST_NAMED = 10
"""Branches and tags that one event lists."""
TRIES = 3
"""Looks after which a commit that cannot be read is passed over."""
LONGEST_NOTE = 500
REF = "ref:"


@dataclass
class _Turn:
    """Where one repository stands; times are the event loop's."""

    due: float = 0.0
    soonest: float = 0.0
    failures: int = 0
    task: asyncio.Task[None] | None = None
    again: bool = False
    """It was asked for while a look was under way."""
    tries: dict[tuple[str, str], int] = field(default_factory=dict)
    runs: int = 0
    """What the looks that took parts of the same change have started."""
    parts: int = 0
    """How many such looks there were."""


@dataclass
class _Look:
    """One look that has found something new."""

    resource: Resource
    spec: Repository
    remote: Remote
    turn: _Turn
    files: pushes.Files | None = None
    """Of the commit that was read last; several branches may mean it, and follow each other."""
    told: set[tuple[str, str]] = field(default_factory=set)
    """Commit and path of the problems that an event has told."""


class Repositories:
    def __init__(
        self,
        db: Database,
        vault: Secrets,
        git: Git,
        *,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
    ) -> None:
        self._db = db
        self._vault = vault
        self._git = git
        self._clock = clock
        self._hint = hint
        self._turns: dict[str, _Turn] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def soon(self, uid: str) -> None:
        """It has changed, or its server says that something was pushed."""
        turn = self._turns.setdefault(uid, _Turn())
        turn.due, turn.failures = turn.soonest, 0
        turn.again = turn.task is not None

    def begin(self, uids: Iterable[str]) -> None:
        """Start the looks that are due; forget repositories that are not among `uids` any more."""
        known = set(uids)
        now = asyncio.get_running_loop().time()
        for gone in self._turns.keys() - known:
            if task := self._turns.pop(gone).task:
                task.cancel()
        for uid in known:
            turn = self._turns.setdefault(uid, _Turn())
            if turn.task is None and now >= turn.due:
                turn.task = asyncio.create_task(self._turn(uid, turn), name=f"repository {uid}")

    async def close(self) -> None:
        tasks = [turn.task for turn in self._turns.values() if turn.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._turns.clear()

    async def _turn(self, uid: str, turn: _Turn) -> None:
        pause = LONGEST_PAUSE_S
        try:
            async with self._slots:
                pause = await self.look(uid)
            turn.failures = 0
        except ApplianceError as error:
            turn.failures += 1
            pause = self._failed(uid, error, turn.failures)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a look at repository %s failed", uid)
            turn.failures += 1
        finally:
            now = asyncio.get_running_loop().time()
            turn.task, turn.soonest = None, now + SOONEST_S
            turn.due = turn.soonest if turn.again else now + pause
            turn.again = False

    async def look(self, uid: str) -> float:
        """One look. Seconds until the next. Raises GitError, UsageError, NotFound for a secret that is not there."""
        resource, spec = self._read(uid)
        if resource is None or spec is None:
            return LONGEST_PAUSE_S
        remote = Remote(
            spec.url,
            spec.username,
            self._vault.resolve(spec.password) if spec.password else "",
            marks.find(self._db.read, uid, KNOWN_HOSTS) or "",
        )
        found = await self._git.refs(remote)
        if found.known_hosts not in ("", remote.known_hosts):
            with self._db.write() as db:
                marks.put(db, uid, KNOWN_HOSTS, found.known_hosts, now=self._clock())
        turn = self._turns.setdefault(uid, _Turn())
        moved = self._compare(resource, spec, found.commits)
        first, left = "", len(moved.changed) > MOST_CHANGES if moved else False
        if moved:
            look = _Look(resource, spec, remote, turn)
            for number, ref in enumerate(moved.changed[:MOST_CHANGES], start=1):
                rest = {other: found.commits[other] for other in moved.changed[number:]}
                try:
                    full = await self._pushed(look, ref, found.commits[ref], rest, len(moved.changed))
                except GitError as error:
                    first = first or error.message
                    continue
                if full:
                    left = False
                    break
        if not left:
            turn.runs = turn.parts = 0
        if first:
            raise GitError(first, where=spec.url, hint="the next look tries again")
        if not left:
            return spec.interval_s
        turn.parts += 1
        return min(spec.interval_s, SOON_S * 2.0 ** min(turn.parts - 1, 12))

    def _compare(self, resource: Resource, spec: Repository, commits: dict[str, str]) -> pushes.Moved | None:
        """What has moved; None: nothing is to be done, which is written down."""
        now, uid = self._clock(), resource.uid
        with self._db.write() as db:
            if not self._is_current(db, resource):
                return None
            known = {name.removeprefix(REF): commit for name, commit in marks.of(db, uid, REF).items()}
            first = marks.find(db, uid, "url") != spec.url
            if first:
                marks.remove(db, uid, [REF + name for name in known.keys() - commits.keys()])
                marks.put_all(db, uid, {REF + name: commit for name, commit in commits.items()}, now=now)
                marks.put(db, uid, "url", spec.url, now=now)
                told = f"{len(commits)} branches and tags are known from now on; the next push starts workflows"
                events.record(db, "repository", resource.name, "FirstLook", told, now=now)
                moved = pushes.Moved()
            else:
                moved = pushes.moved(known, commits)
                marks.remove(db, uid, [REF + name for name in moved.gone])
            self._show(db, resource, {"looked": now, "refs": len(commits)}, now=now)
        return moved if moved.changed else None

    async def _pushed(self, look: _Look, ref: str, seen: str, rest: Mapping[str, str], together: int) -> bool:
        """A branch or tag that is new or at another commit; `rest` are those after it, `together` how many moved.

        True: that is as much as may start, and `rest` is left out. Raises GitError.
        """
        resource, spec, turn = look.resource, look.spec, look.turn
        try:
            files = await self._files(look, ref, seen)
        except GitMissing:
            raise
        except GitError as error:
            tries = turn.tries[ref, seen] = turn.tries.get((ref, seen), 0) + 1
            if tries >= TRIES:
                del turn.tries[ref, seen]
                self._pass_over(resource, ref, seen, error)
            raise
        read = await asyncio.to_thread(
            pushes.starting, files, resource.name, spec.url, ref, spec.secrets, spec.deployments
        )
        now, begun = self._clock(), []
        source = f"{pushes.short(ref)} at {files.commit[:12]} of {resource.name}"
        wanted = read.starts[: max(0, MOST_RUNS - turn.runs)]
        full = len(wanted) == MOST_RUNS - turn.runs and bool(rest or len(read.starts) > len(wanted))
        with self._db.write() as db:
            if not self._is_current(db, resource):
                return False
            problems = dict(read.problems)
            for found in wanted:
                uid, refused = pushes.workflow_uid(resource.uid, found), list[ApplianceError]()
                run = starts.start(
                    self._db, db, None, found.name, found.document, {},
                    cause="git", source=f"{source}: {found.path}", now=now, uid=uid, refused=refused,
                )  # fmt: skip
                begun += [run] if run else []
                if refused and not isinstance(refused[0], Conflict):
                    problems[found.path] = f"not started: {refused[0].message}"[: pushes.LONGEST_PROBLEM]
            news = {path: told for path, told in read.problems.items() if (files.commit, path) not in look.told}
            self._tell_notes(db, resource, source, files.notes, now=now)
            for path, problem in news.items():
                where = "" if path and problem.startswith(f"{path}:") else f"{path or 'too many files'}: "
                told = f"{source}: {where}{problem}"
                events.record(db, "repository", resource.name, "BrokenSpec", told, now=now, level="error")
            names = [f"{run.workflow}.{run.number}" for run in begun]
            told = f"{source}: " + (f"started {', '.join(names)}" if names else "starts no workflow")
            events.record(db, "repository", resource.name, "Pushed", told, now=now)
            marks.put(db, resource.uid, REF + ref, files.commit, now=now)
            if full:
                partly = [f"{one.name} of {pushes.short(ref)}" for one in read.starts[len(wanted) :]]
                self._leave_out(db, resource, partly, rest, together, now=now)
            seen_now = {"commit": files.commit, "ref": ref, "changed": now, "started": names, "files": problems}
            self._show(db, resource, {**seen_now, "notes": files.notes}, now=now)
        look.told.update((files.commit, path) for path in news)
        turn.runs += len(wanted)
        for run in begun:
            self._hint("run", run.id)
        return full

    def _tell_notes(
        self, db: Connection, resource: Resource, source: str, notes: Mapping[str, str], *, now: float
    ) -> None:
        """Once, until a file says something else."""
        before = resources.find_uid(db, resource.uid)
        known = (before.status.get("notes") or {}) if before else {}
        for path, note in notes.items():
            if known.get(path) != note:
                events.record(
                    db, "repository", resource.name, "Ignored", f"{source}: {path}: {note}", now=now, level="warning"
                )

    async def _files(self, look: _Look, ref: str, seen: str) -> pushes.Files:
        """The workflows at `ref`. Raises GitError."""
        if look.files is None or look.files.commit != seen:
            commit = await self._git.commit(look.remote, ref)
            look.files = await asyncio.to_thread(pushes.load, look.resource.name, commit)
        return look.files

    def _leave_out(
        self,
        db: Connection,
        resource: Resource,
        partly: Sequence[str],
        rest: Mapping[str, str],
        together: int,
        *,
        now: float,
    ) -> None:
        """Too much has moved: these count as seen, and start nothing."""
        marks.put_all(db, resource.uid, {REF + ref: commit for ref, commit in rest.items()}, now=now)
        names = [*partly, *map(pushes.short, rest)]
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        told = (
            f"{together} branches and tags moved at once; not started: {', '.join(names[:MOST_NAMED])}{more}"
            f" (at most {MOST_RUNS} runs start at once; the next push of each starts workflows again)"
        )
        events.record(db, "repository", resource.name, "NotStarted", told, now=now, level="warning")

    def _pass_over(self, resource: Resource, ref: str, commit: str, error: GitError) -> None:
        now = self._clock()
        with self._db.write() as db:
            if self._is_current(db, resource):
                marks.put(db, resource.uid, REF + ref, commit, now=now)
                told = f"{pushes.short(ref)} at {commit[:12]} cannot be read and is passed over: {error.message}"
                events.record(db, "repository", resource.name, "PassedOver", told, now=now, level="error")

    def _failed(self, uid: str, error: ApplianceError, failures: int) -> float:
        """Write down why; seconds until the next look."""
        resource, spec = self._read(uid)
        if resource is None or spec is None:
            return LONGEST_PAUSE_S
        now = self._clock()
        told = error.message + (f"; {error.hint}" if error.hint else "")
        with self._db.write() as db:
            if self._is_current(db, resource):
                self._show(db, resource, {"looked": now, "problem": told}, now=now)
        return max(spec.interval_s, min(LONGEST_PAUSE_S, spec.interval_s * 2.0 ** min(failures - 1, 12)))

    def _show(self, db: Connection, resource: Resource, changes: dict[str, Any], *, now: float) -> None:
        """The status, and an event where the repository has a new trouble or none any more."""
        before = resources.find_uid(db, resource.uid)
        status = {**(before.status if before else {}), "problem": "", **changes}
        files = status.get("files") or {}
        broken = ", ".join(path or "too many files" for path in files)
        phase = "Failed" if status["problem"] else "Degraded" if files else "Ready"
        noted = "; ".join(f"{path}: {note}" for path, note in (status.get("notes") or {}).items())
        message = status["problem"] or (f"cannot run: {broken}" if broken else noted[:LONGEST_NOTE])
        resources.set_status(
            db, resource.uid, generation=resource.generation, phase=phase, message=message, status=status
        )
        was = before.phase if before else ""
        if phase == "Failed" and (was != "Failed" or (before and before.message != message)):
            events.record(db, "repository", resource.name, "Unreachable", message, now=now, level="warning")
        elif was == "Failed" and phase != "Failed":
            events.record(db, "repository", resource.name, "Reachable", "it answers again", now=now)

    def _read(self, uid: str) -> tuple[Resource | None, Repository | None]:
        resource = resources.find_uid(self._db.read, uid)
        if resource is None:
            return None, None
        try:
            spec = parse("repository", resource.name, resource.spec)
        except UsageError as error:
            log.warning("repository %s cannot be read: %s", resource.name, error)
            return resource, None
        return resource, spec if isinstance(spec, Repository) else None

    def _is_current(self, db: Connection, resource: Resource) -> bool:
        """Nobody has changed, withdrawn or deleted it since it was read."""
        found = resources.find_uid(db, resource.uid)
        return (
            found is not None
            and found.generation == resource.generation
            and found.desired == "running"
            and not found.deleting
        )
