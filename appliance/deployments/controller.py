"""Brings each deployment to its declared replicas without dropping a request on the way.

A pass looks, decides by `plan.decide`, tells the front door who serves, writes what it saw, then acts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from appliance.datasets.models import Models
from appliance.deployments import fit, status
from appliance.deployments.acting import Acting
from appliance.deployments.elapsed import Elapsed
from appliance.deployments.facts import Facts, Plan, Replica
from appliance.deployments.leasing import Leasing
from appliance.deployments.making import Content, Making
from appliance.deployments.plan import decide
from appliance.deployments.prober import Prober
from appliance.deployments.progress import moves
from appliance.deployments.readying import Images, Readying, unbegun
from appliance.deployments.replicas import End, Replicas
from appliance.deployments.serving import Seen, Serving, opened, prefix
from appliance.deployments.view import Scales, View, look
from appliance.engine.docker import Engine
from appliance.engine.interrupted import Outages
from appliance.engine.preparing import Image
from appliance.errors import ApplianceError
from appliance.reconcile import Again
from appliance.router.router import Router
from appliance.scheduler.leasing import Leases, NoGpus
from appliance.settings import Settings
from appliance.state import events, resources, scales
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.room import plenty
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets

MOST_STEPS = 12
"""Steps of one pass. A plan settles in far fewer; whatever is left is another pass."""
LEFT_EVERY_S = 5.0
"""What a deleted deployment has left and cannot be destroyed now is tried again so often."""
SWAP_SHARE = 0.8
"""Of `rollout.hold`, which a new revision has in a swap; in the rest the earlier one comes back. Where the spec says
nothing, a model that loads for minutes has the time that any revision has."""
SWAP_LEAST_S = 10.0
"""Who has requests wait for less than that wants none to wait for a swap: there is no hurry then."""


class DeploymentController:
    kind = "deployment"

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        images: Images,
        models: Models,
        content: Content,
        scaler: Scales,
        telemetry: Telemetry,
        router: Router,
        vault: Secrets,
        settings: Settings,
        instance: str,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
        leases: Leases | None = None,
        no_room: Callable[[], str] = plenty,
        machine: fit.Look = fit.look,
        counter: Callable[[], float] = time.monotonic,
        booted: float = 0.0,
    ) -> None:
        """`leases`: None where no GPUs are leased. `booted`: when the machine began to run, unix time; 0: not known."""
        self._db = db
        self._scaler = scaler
        self._content = content
        self._settings = settings
        self._clock = clock
        self._no_room = no_room
        self._since = clock()
        self._elapsed = Elapsed(clock, counter)
        self._elapsed.at("looking", self._since)
        self._hint = told = partial(hint, self.kind)
        self._prober = Prober(engine, clock, told, counter=counter)
        self._outages = Outages(booted, settings.stop_grace_s)
        self._replicas = Replicas(
            engine=engine,
            telemetry=telemetry,
            prober=self._prober,
            outages=self._outages,
            elapsed=self._elapsed,
            settings=settings,
            instance=instance,
            clock=clock,
            secrets=vault.values,
        )
        making = Making(replicas=self._replicas, models=models, vault=vault, content=content)
        self._serving = Serving(router=router, making=making, settings=settings, clock=clock)
        self._leasing = Leasing(leases or NoGpus())
        self._acting = Acting(
            db=db,
            replicas=self._replicas,
            making=making,
            router=router,
            leasing=self._leasing,
            settings=settings,
            clock=clock,
            hint=told,
        )
        self._readying = Readying(
            db=db,
            images=images,
            making=making,
            content=content,
            machine=machine,
            leasing=self._leasing,
            keep_revisions=settings.keep_revisions,
            no_room=no_room,
            clock=clock,
            hint=told,
        )
        self._problems: dict[str, str] = {}
        """By uid, what the last pass failed of, in words."""
        self._tidy: set[str] = set()
        """Uids of those of which nothing is left over from revisions that are done."""

    async def close(self) -> None:
        """Ends the probes and gives up what is under way beside the loop. Replicas go on."""
        await self._acting.close()
        await self._readying.close()
        await self._content.close()
        await self._prober.close()

    async def sweep(self) -> None:
        """What was fetched for deployments that are gone goes. Raises EngineError."""
        await self._content.sweep()

    def retell(self, uid: str) -> None:
        """The front door has changed this one's route by itself: it is told again at the next pass."""
        self._serving.forget(uid)

    def gpu_lost(self, uid: str, part: str, words: str) -> None:
        """The replica in that place of its leases cannot reach its GPUs any more: another one follows it."""
        self._replicas.lose(uid, part, words)
        self._hint(uid)

    def engine_lost(self, at: float) -> None:
        """The engine does not answer: what ends until it does may have ended with it."""
        self._outages.lost(at)

    def engine_back(self, at: float) -> None:
        self._outages.back(at)

    def keys(self) -> Iterable[str]:
        return [deployment.uid for deployment in resources.every(self._db.read, self.kind)]

    async def reconcile(self, key: str) -> Again | None:
        try:
            again = await self._pass(key)
        except ApplianceError as error:
            if deployment := resources.find_uid(self._db.read, key):
                before, now = self._problems.get(key, ""), self._clock()
                self._problems[key] = status.write_problem(self._db, deployment, error, before=before, now=now)
            raise
        self._problems.pop(key, None)
        return again

    async def _pass(self, uid: str) -> Again | None:
        for _ in range(MOST_STEPS):
            deployment = resources.find_uid(self._db.read, uid)
            if deployment is None:
                self._forget(uid)
                return None
            view = look(self._db, deployment, self._scaler, now=self._clock())
            leaving = self._acting.leaving(uid)
            seen, ended = await self._replicas.observe(deployment, view.specs, but=frozenset(one.id for one in leaving))
            image = await self._readying.look(view, {**seen, **leaving})
            if image is None:
                continue  # the row has been written: read it again
            plan = unbegun(view, image, decide(await self._facts(view, seen, image), self._clock()))
            if not self._leasing.settle(view, plan, (*seen, *leaving)):
                continue  # what it waits for is to be said
            plan = await self._serving.tell(view, opened(view, plan), seen)
            if not await self._write(view, plan, seen, ended) or plan.undo:
                continue  # the spec has changed meanwhile, or another revision is wanted: decide anew
            if deployment.deleting and plan.phase == "Disabled":
                if await self._destroy(deployment):
                    continue
                return Again(LEFT_EVERY_S)
            if plan.prepare:
                await self._readying.ensure(view)
            if not await self._acting.act(view, plan, seen) and not plan.prepare:
                await self._settle(deployment, plan)
                return self._again(uid, plan)
        return Again(0.0)

    def _again(self, uid: str, plan: Plan) -> Again | None:
        times = [at for at in (plan.wake, self._acting.again(uid)) if at is not None]
        return Again(max(0.0, min(times) - self._clock())) if times else None

    async def _facts(self, view: View, seen: Seen, image: Image) -> Facts:
        uid, at = view.deployment.uid, self._elapsed.at
        leaving = self._acting.leaving(uid)
        waits = self._leasing.words(uid)  # before it is asked since when its time runs
        swap, deadline_s = await self._must_swap(view, {**seen, **leaving}), self._settings.deploy_deadline_s
        held_s = view.manner.hold_s or 0.0
        hurry = bool(view.row and view.row.phase == "Swapping") and SWAP_LEAST_S <= held_s < deadline_s / SWAP_SHARE
        if hurry:
            deadline_s = SWAP_SHARE * held_s
        return Facts(
            wanted=view.wanted,
            stable=view.stable,
            replicas=tuple(seen),
            leaving=tuple(leaving),
            prepared=image.state,
            prepare_message=image.message,
            prepare_retry_at=image.retry_at,
            since=self._since_when(view, seen),
            deadline_s=deadline_s,
            hurry_s=held_s if hurry else 0.0,
            blocked=self._no_room(),
            waits=waits,
            asleep=view.asleep,
            scaled=at(uid, scales.since(self._db.read, uid)),
            swap=swap,
            back=view.back,
            asked=at(uid, view.deployment.updated),
            looking=at("looking", self._since),
            undone=_told(view),
        )

    def _since_when(self, view: View, seen: Seen) -> float:
        began = (view.row.began if view.row else None) or 0.0
        since = max(began, self._leasing.granted_at(view, seen)) if began else 0.0
        return self._elapsed.at(view.deployment.uid, since)

    async def _must_swap(self, view: View, seen: Seen) -> bool:
        """Decided once, when the revision could begin; asked anew where it is another that comes or comes back."""
        if view.row and view.row.phase in ("Rolling", "Swapping"):
            return view.row.phase == "Swapping" or await self._must_swap_after_all(view, seen)
        if view.row and view.row.began is None:  # asked when it begins; until then only third ones are in the way
            known = {view.wanted.digest, view.stable.digest if view.stable else ""}
            if all(one.digest in known for one in seen):
                return False
        return bool(await self._readying.crowded(view, seen))

    async def _must_swap_after_all(self, view: View, seen: Seen) -> bool:
        """It waits for GPUs, and those that would do are held by who is to leave for it."""
        has_some = any(one.digest == view.wanted.digest for one in seen)
        if has_some or not self._leasing.words(view.deployment.uid):
            return False
        if why := await self._readying.crowded(view, seen):
            status.swap_after_all(self._db, view.deployment, view.wanted, why, now=self._clock())
        return bool(why)

    async def _write(self, view: View, plan: Plan, seen: Seen, ended: Sequence[tuple[Replica, End]]) -> bool:
        deployment, now = view.deployment, self._clock()
        words = ""
        if plan.undo or (plan.phase != deployment.phase and plan.phase in ("Failed", "Degraded")):
            words = await self._replicas.last_words([one for one in seen if one.digest == view.wanted.digest])
        before = {**deployment.status, "url_path": f"{prefix(deployment)}/"}
        ways_out = self._acting.ways_out(deployment.uid)
        silent, undone = self._scaler.silent(deployment), view.undone
        document = status.describe_all(before, plan, view.wanted, seen, ways_out, silent=silent, undone=undone, now=now)
        off, asleep = _switched_off(deployment), bool(view.asleep)
        changes = tuple(moves(view.rows, view.wanted, plan, switched_off=off, asleep=asleep))
        if changes:
            self._tidy.discard(deployment.uid)
        told = deployment if plan.undo else plan  # what is said of who was given up is said by its undoing
        return status.write(
            self._db,
            deployment,
            phase=told.phase,
            message=told.message,
            document=document,
            moves=changes,
            ended=ended,
            words=words,
            now=now,
        )

    async def _settle(self, deployment: Resource, plan: Plan) -> None:
        over = plan.complete and deployment.uid not in self._tidy and not self._acting.leaving(deployment.uid)
        if over and not await self._readying.let_go(deployment):
            self._tidy.add(deployment.uid)

    async def _destroy(self, deployment: Resource) -> bool:
        """False: some of it cannot be let go at present. Its row stays, so that this is tried again."""
        await self._serving.drop(deployment)
        if left := await self._readying.let_go(deployment):
            message = f"it is deleted as soon as what it has left can be: {left}"
            phase, document = deployment.phase, deployment.status
            status.write(self._db, deployment, phase=phase, message=message, document=document, now=self._clock())
            return False
        with self._db.write() as db:
            resources.remove(db, deployment.uid)
            events.record(db, self.kind, deployment.name, "Deleted", "the deployment is gone", now=self._clock())
        return True

    def _forget(self, uid: str) -> None:
        self._readying.forget(uid)
        self._serving.forget(uid)
        self._acting.forget(uid)
        self._leasing.forget(uid)
        self._tidy.discard(uid)
        self._problems.pop(uid, None)


def _told(view: View) -> str:
    """Of a generation that was undone."""
    if view.undone is None:
        return ""
    name, generation = view.deployment.name, view.undone.generation
    return (
        f"generation {generation} was undone: {view.undone.message}; generation {view.wanted.generation} serves;"
        f" correct it and apply again, or `appliance deployment restart {name}` tries generation {generation} once more"
    )


def _switched_off(deployment: Resource) -> bool:
    return deployment.deleting or deployment.desired != "running"
