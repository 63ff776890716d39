"""Brings each deployment to its declared replicas without dropping a request on the way.

A pass looks, decides by `plan.decide`, tells the front door who serves, writes what it saw, then acts. Whoever leaves
does so beside the loop: requests under way may take their time, and a replica that dies meanwhile is replaced at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from appliance.datasets.models import Models
from appliance.deployments import status
from appliance.deployments.making import Making, warnings
from appliance.deployments.plan import BLOCKED_EVERY_S, Facts, Phase, Place, Plan, Replica, decide, was_whole
from appliance.deployments.prober import Prober
from appliance.deployments.progress import moves
from appliance.deployments.replicas import End, Replicas, port_of
from appliance.deployments.view import View, look
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.preparing import Image, Preparing
from appliance.engine.types import Container
from appliance.errors import ApplianceError, ImageNotFound, RouterError
from appliance.reconcile import Again
from appliance.router.router import Router
from appliance.router.table import Route, Target
from appliance.settings import Settings
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.room import plenty
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets

log = logging.getLogger(__name__)

MOST_STEPS = 12
"""Steps of one pass. A plan settles in far fewer; whatever is left is another pass."""
DRAIN_S = 30.0
"""Longest that the requests of a leaving replica are waited for."""
MISSING_EVERY_S = 5.0
LEAVE_RETRY_S = 5.0
ROUTER_EVERY_S = 2.0

Seen = Mapping[Replica, Container]


@dataclass(frozen=True, slots=True)
class Leaving:
    replica: Replica
    task: asyncio.Task[None]


class DeploymentController:
    kind = "deployment"

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        images: Images,
        models: Models,
        telemetry: Telemetry,
        router: Router,
        vault: Secrets,
        settings: Settings,
        instance: str,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
        no_room: Callable[[], str] = plenty,
    ) -> None:
        self._db = db
        self._router = router
        self._settings = settings
        self._clock = clock
        self._no_room = no_room
        self._hint = partial(hint, self.kind)
        self._preparing = Preparing(images, clock, self._hint)
        self._prober = Prober(engine, clock, self._hint)
        self._replicas = Replicas(
            engine=engine,
            telemetry=telemetry,
            prober=self._prober,
            settings=settings,
            instance=instance,
            clock=clock,
            secrets=vault.values,
        )
        self._making = Making(replicas=self._replicas, models=models, vault=vault)
        self._leaving: defaultdict[str, dict[str, Leaving]] = defaultdict(dict)
        """uid -> container id -> its way out."""
        self._routes: dict[str, Route] = {}
        """uid -> the route the front door was last given; empty at first, so each is given again after a restart."""

    async def close(self) -> None:
        """Ends the probes and gives up what is under way beside the loop. Replicas go on."""
        tasks = [one.task for leaving in self._leaving.values() for one in leaving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._preparing.close()
        await self._prober.close()

    def keys(self) -> Iterable[str]:
        return [deployment.uid for deployment in resources.every(self._db.read, self.kind)]

    async def reconcile(self, key: str) -> Again | None:
        try:
            return await self._pass(key)
        except ApplianceError as error:
            if deployment := resources.find_uid(self._db.read, key):
                status.write_problem(self._db, deployment, error, now=self._clock())
            raise

    async def _pass(self, uid: str) -> Again | None:
        for _ in range(MOST_STEPS):
            deployment = resources.find_uid(self._db.read, uid)
            if deployment is None:
                self._forget(uid)
                return None
            view = look(self._db, deployment, now=self._clock())
            leaving = self._leaving[uid]
            seen, ended = await self._replicas.observe(deployment, view.specs, but=frozenset(leaving))
            image = self._prepared(view)
            if image is None:
                continue  # the row has been written: read it again
            plan = decide(self._facts(view, tuple(seen), image), self._clock())
            plan = await self._serve(deployment, plan, seen)
            if not await self._write(view, plan, seen, ended):
                continue  # the spec has changed meanwhile: decide anew
            if deployment.deleting and plan.phase == "Disabled":
                await self._destroy(deployment)
            elif not await self._act(view, plan, seen):
                return None if plan.wake is None else Again(max(0.0, plan.wake - self._clock()))
        return Again(0.0)

    def _prepared(self, view: View) -> Image | None:
        """How far the wanted revision's image and models are; None: they were pinned just now."""
        uid, spec, pin = view.deployment.uid, view.spec, view.pin
        if spec is None:
            self._preparing.forget(uid)
            return Image("unknown")
        held = bool(self._no_room()) and not was_whole(view.stable, view.wanted)
        if pin is None:
            if held:
                return Image("failed", message=self._no_room(), retry_at=self._clock() + BLOCKED_EVERY_S)
            image = self._preparing.peek(uid, spec.image, asked=view.deployment.updated)
            if image.state != "ready":
                return image
            found = self._making.pin(spec, image.id)
            if isinstance(found, str):
                return Image("failed", message=found, retry_at=self._clock() + MISSING_EVERY_S)
            self._preparing.forget(uid)
            pin = found
        if held:
            return Image("ready")  # its deadline begins when it may
        if view.pin is None or view.row is None or view.row.began is None:
            status.begin(self._db, view.deployment, view.wanted, pin, warnings(spec), now=self._clock())
            return None
        return Image("ready")

    def _facts(self, view: View, replicas: tuple[Replica, ...], image: Image) -> Facts:
        return Facts(
            wanted=view.wanted,
            stable=view.stable,
            replicas=replicas,
            leaving=tuple(one.replica for one in self._leaving[view.deployment.uid].values()),
            prepared=image.state,
            prepare_message=image.message,
            prepare_retry_at=image.retry_at,
            since=(view.row.began if view.row else None) or 0.0,
            deadline_s=self._settings.deploy_deadline_s,
            blocked=self._no_room(),
        )

    async def _act(self, view: View, plan: Plan, seen: Seen) -> bool:
        """Carry out the plan. False: it asked for nothing."""
        deployment = view.deployment
        if plan.prepare and view.spec:
            await self._preparing.ensure(deployment.uid, view.spec.image, asked=deployment.updated)
        for place in plan.make:
            await self._make(view, place)
        for replica in plan.start:
            await self._replicas.start(replica)
        await asyncio.gather(*(self._halt(deployment, replica) for replica in plan.halt))
        for replica in plan.retire:
            way_out = asyncio.create_task(
                self._leave(deployment, replica, seen[replica]), name=f"{replica.part} leaves"
            )
            self._leaving[deployment.uid][replica.id] = Leaving(replica, way_out)
        return bool(plan.prepare or plan.make or plan.start or plan.halt or plan.retire)

    async def _make(self, view: View, place: Place) -> None:
        deployment, revision = view.deployment, place.revision
        pin = view.pin_of(revision)
        if pin is None:
            return  # looked up anew at the next pass
        try:
            await self._making.make(deployment, view.specs[revision.digest], place, pin)
        except ApplianceError as error:
            if revision == view.wanted and isinstance(error, ImageNotFound):
                # somebody removed the image since it was pinned: find it again by its name
                status.unpin(self._db, deployment, revision)
                return
            if revision == view.wanted:
                raise
            log.warning("%s: a replica of generation %d: %s", deployment.name, revision.generation, error)

    async def _halt(self, deployment: Resource, replica: Replica) -> None:
        with self._db.write() as db:
            message = f"replica {replica.part} is stopped: {replica.sick}"
            events.record(db, self.kind, deployment.name, "Unhealthy", message, now=self._clock(), level="warning")
        await self._replicas.stop(replica)

    async def _leave(self, deployment: Resource, replica: Replica, container: Container) -> None:
        """No new requests, then no requests, then no replica. A kill on the way: the next daemon begins it anew."""
        try:
            if replica.state == "running":
                await self._router.drain(_prefix(deployment), _short(container), deadline_s=DRAIN_S)
                await self._replicas.stop(replica)
            await self._replicas.clear(deployment, replica, container)
        except ApplianceError as error:
            log.warning("%s: replica %s does not leave: %s", deployment.name, replica.part, error)
            await asyncio.sleep(LEAVE_RETRY_S)
        finally:
            self._leaving[deployment.uid].pop(replica.id, None)
            self._hint(deployment.uid)

    async def _serve(self, deployment: Resource, plan: Plan, seen: Seen) -> Plan:
        """Tell the front door who takes traffic. The plan, changed where that cannot be told: then nobody leaves."""
        ports = [(seen[replica], port_of(seen[replica])) for replica in plan.serve]
        targets = tuple(sorted(Target(_short(container), port) for container, port in ports if port))
        route = Route(prefix=_prefix(deployment), targets=targets, strip=True)
        if self._routes.get(deployment.uid) == route:
            return plan
        try:
            await self._router.set_route(route)
        except RouterError as error:
            phase: Phase = "Degraded" if plan.phase == "Ready" else plan.phase
            message = f"the front door does not lead there: {error.message}; {error.hint}"
            retire = () if plan.serve else plan.retire
            return replace(plan, phase=phase, message=message, retire=retire, wake=self._clock() + ROUTER_EVERY_S)
        self._routes[deployment.uid] = route
        return plan

    async def _write(self, view: View, plan: Plan, seen: Seen, ended: Sequence[tuple[Replica, End]]) -> bool:
        deployment, now = view.deployment, self._clock()
        words = ""
        if plan.phase != deployment.phase and plan.phase in ("Failed", "Degraded"):
            words = await self._replicas.last_words([one for one in seen if one.digest == view.wanted.digest])
        before = {**deployment.status, "url_path": f"{_prefix(deployment)}/"}
        document = status.describe_all(before, plan, view.wanted, seen, now=now)
        return status.write(
            self._db,
            deployment,
            phase=plan.phase,
            message=plan.message,
            document=document,
            moves=tuple(moves(view.rows, view.wanted, plan, switched_off=_switched_off(deployment))),
            ended=ended,
            words=words,
            now=now,
        )

    async def _destroy(self, deployment: Resource) -> None:
        await self._router.drop_route(_prefix(deployment))
        with self._db.write() as db:
            resources.remove(db, deployment.uid)
            events.record(db, self.kind, deployment.name, "Deleted", "the deployment is gone", now=self._clock())

    def _forget(self, uid: str) -> None:
        self._preparing.forget(uid)
        self._routes.pop(uid, None)
        self._leaving.pop(uid, None)


def _switched_off(deployment: Resource) -> bool:
    return deployment.deleting or deployment.desired != "running"


def _prefix(deployment: Resource) -> str:
    return f"/deployments/{deployment.name}"


def _short(container: Container) -> str:
    return container.id[:12]
