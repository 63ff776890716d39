"""What has to be there before the first replica of a revision is made: its image, models and content, then pinned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from appliance import revisions
from appliance.deployments import fit, status
from appliance.deployments.acting import may_look_anew, refused
from appliance.deployments.facts import Plan, Replica
from appliance.deployments.leasing import Leasing
from appliance.deployments.making import Content, Making, asks, words
from appliance.deployments.plan import BLOCKED_EVERY_S, was_whole
from appliance.deployments.view import View
from appliance.deployments.volumes import volumes_of
from appliance.engine.preparing import Ensures, Image, Preparing
from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.scheduler.leasing import LEASE
from appliance.spec.models import Deployment
from appliance.state import rollouts
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.state.rollouts import Rollout

log = logging.getLogger(__name__)

MISSING_EVERY_S, MISSING_MOST_S = 5.0, 300.0

Seen = Mapping[Replica, Container]


class Images(Ensures, Protocol):
    async def identity(self, ref: str) -> str: ...
    async def keep(self, image_id: str, name: str) -> None: ...
    async def let_go(self, prefix: str, keep: set[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Begun:
    """When a generation could begin last, and how many times in a row it had before and what it is made of was gone."""

    generation: int
    at: float
    again: int


class Readying:
    """`hint` is called with the uid of a deployment whose image is here or has failed."""

    def __init__(
        self,
        *,
        db: Database,
        images: Images,
        making: Making,
        content: Content,
        machine: fit.Look,
        leasing: Leasing,
        keep_revisions: int,
        no_room: Callable[[], str],
        clock: Callable[[], float],
        hint: Callable[[str], None],
    ) -> None:
        self._db = db
        self._images = images
        self._making = making
        self._content = content
        self._machine = machine
        self._leasing = leasing
        self._keep_revisions = keep_revisions
        self._no_room = no_room
        self._clock = clock
        self._preparing = Preparing(images, clock, hint)
        self._begun: dict[str, _Begun] = {}

    async def close(self) -> None:
        await self._preparing.close()

    def forget(self, uid: str) -> None:
        self._preparing.forget(uid)
        self._begun.pop(uid, None)

    async def look(self, view: View, seen: Seen) -> Image | None:
        """How far the wanted revision is; None: something was written of it just now."""
        if view.spec is None:
            self._preparing.forget(view.deployment.uid)
            return Image("unknown")
        held = bool(self._no_room()) and not was_whole(view.stable, view.wanted) and not _all_there(view, seen)
        if held and view.pin is None:
            return Image("failed", message=self._no_room(), retry_at=self._clock() + BLOCKED_EVERY_S)
        if view.pin is not None and view.row and view.row.began is not None:
            return None if self._asks_from_now_on(view, view.spec, view.pin) else Image("ready")
        if waits := self._vanished(view):
            return waits
        found = await self._pin(view, view.spec)
        if found is None or isinstance(found, Image):
            return found
        if held:
            return Image("ready")  # its deadline begins when it may
        self._preparing.forget(view.deployment.uid)
        await self._keep(view, str(found["image"]))
        swap = await self.crowded(view, seen)
        self._note_begin(view)
        status.begin(self._db, view.deployment, view.wanted, found, swap=swap, now=self._clock())
        return None

    def _asks_from_now_on(self, view: View, spec: Deployment, pin: Mapping[str, Any]) -> bool:
        """Who may call was not asked by the version that pinned it. Without its secrets nobody may, and is told so."""
        if "access" in pin or not asks(spec):
            return False
        try:
            access = self._making.access(spec)
        except ApplianceError:
            return False
        status.begin_to_ask(self._db, view.deployment, view.wanted, {**pin, "access": access}, now=self._clock())
        return True

    async def ensure(self, view: View) -> None:
        """Begin what `look` waits for, or go on with it."""
        if view.spec is None:
            return
        registries = [view.spec.registry] if view.spec.registry else []
        uid, asked = view.deployment.uid, view.deployment.updated
        image = await self._preparing.ensure(uid, view.spec.image, asked=asked, registries=registries)
        if image.state == "ready":
            await self._content.ensure(view.deployment, view.spec)

    async def crowded(self, view: View, seen: Seen) -> str:
        """Why the wanted revision has no room beside those that run, or that go on until it is ready; empty: it has."""
        spec, stable = view.spec, view.stable
        running = [one for one in seen if one.state == "running"]
        others = [one for one in running if one.digest != view.wanted.digest]
        fallback = stable.replicas if stable and stable.digest != view.wanted.digest else 0
        if spec is None or not (others or fallback) or view.manner.strategy == "surge":
            return ""
        if view.manner.strategy == "swap":
            return "it is declared so"
        largest = await fit.used(seen[one] for one in running)
        memory = None if largest is None else largest * view.wanted.replicas
        own = sum(LEASE in seen[one].labels for one in others)
        free = self._leasing.free(spec)
        return fit.gpus_apart(view.wanted.replicas, free=free, own=own) or fit.memory_apart(
            memory, await asyncio.to_thread(self._machine)
        )

    async def let_go(self, deployment: Resource) -> str:
        """What only revisions needed that are long over. Why some of it stays, and this has to be asked again; empty:
        all of it is gone."""
        uid = deployment.uid
        rows = [] if deployment.deleting else list(rollouts.every(self._db.read, uid))
        held = rollouts.held(rows)
        if any(row.phase == "Serving" and row.pin is None for row in held) and deployment.status.get("ready"):
            return "what its replicas stand on is not known at present"
        if rows:
            with self._db.write() as db:
                revisions.forget_old(db, uid, self._keep_revisions)
        left = []
        for let_go in (self._let_go_images, self._let_go_content):
            try:
                await let_go(uid, held)
            except ApplianceError as error:
                left.append(words(error))
                log.warning("what old revisions of %s have left stays for now: %s", deployment.name, error)
        return "; ".join(left)

    async def _let_go_images(self, uid: str, held: Sequence[Rollout]) -> None:
        for row in held:  # one that made no replica of its own goes on with an earlier one's image
            if row.pin and row.began is None:
                await self._images.keep(str(row.pin["image"]), _name(uid, row.generation))
        await self._images.let_go(f"{uid}-", {_name(uid, row.generation) for row in held})

    async def _let_go_content(self, uid: str, held: Sequence[Rollout]) -> None:
        await self._content.forget(uid, volumes_of((row.pin or {}).get("content", {}) for row in held))

    async def _pin(self, view: View, spec: Deployment) -> Mapping[str, Any] | Image | None:
        if view.pin is not None:
            return await self._again(view, spec, view.pin)
        deployment = view.deployment
        image = self._preparing.peek(deployment.uid, spec.image, asked=deployment.updated)
        if image.state != "ready":
            return image
        content = self._content.peek(deployment, spec)
        if content.state != "ready":
            return Image(content.state, message=content.message, retry_at=content.retry_at)
        found = self._making.pin(spec, image.id, content.pin)
        return self._missing(found) if isinstance(found, str) else found

    async def _again(self, view: View, spec: Deployment, pin: Mapping[str, Any]) -> Mapping[str, Any] | Image | None:
        """What was pinned before, for this generation or another, if it is still there; who may call is asked anew."""
        gone = "" if await self._images.identity(pin["image"]) else f"its image {pin['image']} is not on this machine"
        gone = gone or await self._making.gone(view.deployment, pin)
        if gone and may_look_anew(view):
            self._making.anew(view.deployment)
            status.unpin(self._db, view.deployment, view.wanted, gone, now=self._clock())
            return None
        if gone:
            return self._missing(words(refused(view, gone)))
        try:
            return {**pin, "access": self._making.access(spec)}
        except ApplianceError as error:
            return self._missing(words(error))

    def _note_begin(self, view: View) -> None:
        """`again` counts on only where nothing was known of what it is made from: it had begun and that was gone."""
        last, generation = self._begun.get(view.deployment.uid), view.wanted.generation
        again = last.again + 1 if last and last.generation == generation and view.pin is None else 0
        self._begun[view.deployment.uid] = _Begun(generation, self._clock(), again)

    def _vanished(self, view: View) -> Image | None:
        """What is found and is gone when a replica is made of it, once more, is looked up with growing pauses."""
        last = self._begun.get(view.deployment.uid)
        if last is None or not last.again or view.pin is not None or last.generation != view.wanted.generation:
            return None
        retry_at = last.at + min(MISSING_MOST_S, MISSING_EVERY_S * 2.0 ** min(last.again - 1, 30))
        if self._clock() >= retry_at:
            return None
        message = "what its replicas are made from was found, and was gone when one was made; its events tell what"
        return Image("failed", message=message, retry_at=retry_at)

    def _missing(self, message: str) -> Image:
        return Image("failed", message=message, retry_at=self._clock() + MISSING_EVERY_S)

    async def _keep(self, view: View, image: str) -> None:
        try:
            await self._images.keep(image, _name(view.deployment.uid, view.wanted.generation))
        except ApplianceError as error:
            log.warning("%s: the image is not kept by a name of ours: %s", view.deployment.name, error)


def unbegun(view: View, image: Image, plan: Plan) -> Plan:
    """The plan, where an earlier revision's replicas are the wanted one's own and yet it cannot begin: not complete."""
    waits = view.pin is not None and view.row is not None and view.row.began is None
    if not (plan.complete and view.spec and waits and image.state == "failed"):
        return plan
    message, former = f"{image.message}; {plan.message}", ((view.pin or {}).get("access") or {}).get("sums")
    if former and asks(view.spec):
        message = f"{image.message}; until then the keys of before still let callers in; {plan.message}"
    return replace(plan, complete=False, phase="Degraded", message=message, wake=image.retry_at)


def _all_there(view: View, seen: Seen) -> bool:
    """The wanted revision makes nothing: an earlier one's replicas are its own, and only who may call is another."""
    able = sum(one.able and one.digest == view.wanted.digest for one in seen)
    return view.pin is not None and able >= view.wanted.replicas


def _name(uid: str, generation: int) -> str:
    """Of a kept image."""
    return f"{uid}-{generation}"
