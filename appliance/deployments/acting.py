"""Carries out what was decided for the replicas of a deployment: made, started, halted, and led out.

Whoever leaves does so beside the loop: requests under way may take their time, and a replica that dies meanwhile is
replaced at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.deployments import status
from appliance.deployments.facts import Place, Plan, Replica, Revision
from appliance.deployments.leasing import Leasing
from appliance.deployments.making import Making, words
from appliance.deployments.replicas import SECRETS, Replicas
from appliance.deployments.serving import hold_s, prefix, short
from appliance.deployments.view import View
from appliance.engine.types import Container
from appliance.errors import ApplianceError, Conflict, GpuRefused, ImageNotFound, NotFound
from appliance.router.router import Router
from appliance.scheduler.leasing import LEASE
from appliance.settings import Settings
from appliance.state.db import Database
from appliance.state.resources import Resource

log = logging.getLogger(__name__)

LEAVE_RETRY_S = 5.0
REFUSED_EVERY_S = 5.0

Seen = Mapping[Replica, Container]


@dataclass(frozen=True, slots=True)
class Leaving:
    replica: Replica
    container: Container
    task: asyncio.Task[None]
    until: float
    """When its requests are cut at the latest, unix seconds."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Replicas of an earlier revision cannot be made at present."""

    again: float
    message: str


class Acting:
    """`hint` is called with the uid of a deployment of which a replica has left."""

    def __init__(
        self,
        *,
        db: Database,
        replicas: Replicas,
        making: Making,
        router: Router,
        leasing: Leasing,
        settings: Settings,
        clock: Callable[[], float],
        hint: Callable[[str], None],
    ) -> None:
        self._db = db
        self._leasing = leasing
        self._replicas = replicas
        self._making = making
        self._router = router
        self._settings = settings
        self._clock = clock
        self._hint = hint
        self._leaving: defaultdict[str, dict[str, Leaving]] = defaultdict(dict)
        """uid -> container id -> its way out."""
        self._marks: dict[str, str] = {}
        """By uid, the secrets of which it was said that not all replicas have them."""
        self._refusals: dict[tuple[str, int], _Refusal] = {}
        """By uid and generation."""

    async def close(self) -> None:
        tasks = [one.task for leaving in self._leaving.values() for one in leaving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def leaving(self, uid: str) -> Seen:
        """Those on their way out, as they were when they set out."""
        return {one.replica: one.container for one in self._leaving[uid].values()}

    def ways_out(self, uid: str) -> Mapping[Replica, float]:
        """Of those on their way out and running when they set out: when their requests are cut at the latest."""
        return {one.replica: one.until for one in self._leaving[uid].values() if one.replica.state == "running"}

    def forget(self, uid: str) -> None:
        self._leaving.pop(uid, None)
        self._marks.pop(uid, None)
        self._refusals = {key: refusal for key, refusal in self._refusals.items() if key[0] != uid}

    def again(self, uid: str) -> float | None:
        """When what was refused is tried again, unix seconds."""
        return min((refusal.again for key, refusal in self._refusals.items() if key[0] == uid), default=None)

    async def act(self, view: View, plan: Plan, seen: Seen) -> bool:
        """False: there was nothing to do, or nothing that could be done now."""
        problems: list[ApplianceError] = []
        for replica in plan.start:
            try:
                if self._leasing.fits(view, replica, seen[replica].labels.get(LEASE, "")):
                    await self._replicas.start(replica)
                else:  # its GPUs are somebody else's by now: it is made anew
                    await self._replicas.clear(view.deployment, replica, seen[replica])
            except GpuRefused as error:  # no fault of the replica: it is tried again, and the others go on
                problems.append(error)
        await asyncio.gather(*(self._halt(view.deployment, replica) for replica in plan.halt))
        drain_s = self._drain_s(view, plan)
        for replica in plan.retire:
            container = seen[replica]
            leave = self._leave(view.deployment, replica, container, drain_s, handing_over=plan.swapping)
            way_out = asyncio.create_task(leave, name=f"{replica.part} leaves")
            self._leaving[view.deployment.uid][replica.id] = Leaving(
                replica, container, way_out, self._clock() + drain_s
            )
        made = False
        for place in plan.make:  # last: that one cannot be made keeps nobody from leaving
            try:
                made = await self._make(view, place, seen) or made
            except ApplianceError as error:
                problems.append(error)
        if problems:
            raise problems[0]
        return bool(made or plan.start or plan.halt or plan.retire)

    async def _make(self, view: View, place: Place, seen: Seen) -> bool:
        deployment, revision = view.deployment, place.revision
        key, pin = (deployment.uid, revision.generation), view.pin_of(place.revision)
        if pin is None and revision == view.wanted:
            return True  # looked up anew at the next pass
        if (refusal := self._refusals.get(key)) and self._clock() < refusal.again:
            return False
        if pin is None:
            self._refuse(view, revision, NotFound("what it was made from is not known any more"))
            return False
        gpus = self._leasing.ask(view, place)
        if gpus.state not in ("unneeded", "granted"):
            return False
        try:
            mark, container = await self._making.make(deployment, view.specs[revision.digest], place, pin, gpus)
        except (ImageNotFound, NotFound) as error:
            if revision == view.wanted and may_look_anew(view):
                self._making.anew(deployment)
                status.unpin(self._db, deployment, revision, words(error), now=self._clock())
                return True
            if revision == view.wanted:
                raise refused(view, words(error)) from None
            self._refuse(view, revision, error)
            return False
        except ApplianceError as error:
            if revision == view.wanted:
                raise
            self._refuse(view, revision, error)
            return False
        if gpus.state == "granted":
            self._leasing.held(view, place, container)
        self._refusals.pop(key, None)
        self._compare(view, place, mark, seen)
        return True

    def _compare(self, view: View, place: Place, mark: str, seen: Seen) -> None:
        """Say it, once for each exchange of a secret, where a replica has another value than its sisters."""
        deployment = view.deployment
        sisters = [one for one in seen if one.digest == place.revision.digest and one.state == "running"]
        others = [one.part for one in sisters if seen[one].labels.get(SECRETS, mark) != mark]
        if not others or self._marks.get(deployment.uid) == mark:
            return
        self._marks[deployment.uid] = mark
        text = (
            f"replica {place.revision.generation}-{place.index} is made with its secrets as they are now;"
            f" {', '.join(others)} {'has' if len(others) == 1 else 'have'} them as they were:"
            f" `appliance deployment restart {deployment.name}` makes all anew"
        )
        status.record(self._db, deployment, "SecretsDiffer", text, now=self._clock())

    def _refuse(self, view: View, revision: Revision, error: ApplianceError) -> None:
        key, message = (view.deployment.uid, revision.generation), words(error)
        before = self._refusals.get(key)
        self._refusals[key] = _Refusal(self._clock() + REFUSED_EVERY_S, message)
        if before is None or before.message != message:
            text = f"a replica of generation {revision.generation} cannot be made: {message}"
            status.record(self._db, view.deployment, "NotMade", text, now=self._clock())

    async def _halt(self, deployment: Resource, replica: Replica) -> None:
        message = f"replica {replica.part} is stopped: {replica.sick}"
        status.record(self._db, deployment, "Unhealthy", message, now=self._clock())
        await self._replicas.stop(replica)

    def _drain_s(self, view: View, plan: Plan) -> float:
        """In a swap requests wait for the successor meanwhile: it gets at least half of their patience."""
        longest = self._settings.drain_s if view.manner.drain_s is None else view.manner.drain_s
        return min(longest, hold_s(view, self._settings) / 2) if plan.swapping else longest

    async def _leave(
        self, deployment: Resource, replica: Replica, container: Container, drain_s: float, *, handing_over: bool
    ) -> None:
        """No new requests, then no requests, then no replica. A kill on the way: the next daemon begins it anew."""
        try:
            if replica.state == "running":
                if not await self._router.drain(prefix(deployment), short(container), deadline_s=drain_s):
                    message = f"replica {replica.part} leaves: its requests were not done after {drain_s:.0f} s"
                    status.record(self._db, deployment, "Cut", f"{message}, and are cut", now=self._clock())
                await self._replicas.stop(replica)
            await self._replicas.clear(deployment, replica, container)
            self._leasing.release(deployment, replica, handing_over=handing_over)
        except ApplianceError as error:
            log.warning("%s: replica %s does not leave: %s", deployment.name, replica.part, error)
            await asyncio.sleep(LEAVE_RETRY_S)
        except Exception:
            log.exception("%s: replica %s does not leave", deployment.name, replica.part)
            await asyncio.sleep(LEAVE_RETRY_S)
        finally:
            self._leaving[deployment.uid].pop(replica.id, None)
            self._hint(deployment.uid)


def may_look_anew(view: View) -> bool:
    """What the wanted revision was made from may be exchanged for what is found now.

    Not so where somebody wants the very same back: a rollback, or the revision before one that was undone.
    """
    row = view.row
    return row is None or (row.cause != "rolled back" and row.generation == view.deployment.generation)


def refused(view: View, why: str) -> Conflict:
    return Conflict(
        f"generation {view.wanted.generation} has to run what it ran before, and that is gone: {why}",
        where=f"deployment {view.deployment.name}",
        hint="apply its spec again, or `appliance deployment restart`, to run what its names mean now",
    )
