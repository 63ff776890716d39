"""How many replicas each deployment has by its load: the autoscaler, and the sleep from which a request wakes it.

What it decides is in table `scales`: it is neither a spec nor a revision, and the controller asks for it at each pass.
A deployment without `autoscaling` and `scaleToZero` has no row there and as many replicas as its spec says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from appliance import revisions
from appliance.deployments import hanging, load, sleeping
from appliance.deployments.hanging import Silence
from appliance.deployments.load import Usages, Window, share
from appliance.deployments.scaling import SETTLE_S, Bounds, Course, Opinion, decide, form_opinion
from appliance.deployments.sleeping import Idle, Waking
from appliance.engine.docker import Engine
from appliance.errors import ApplianceError
from appliance.router.meters import Meter
from appliance.router.requests import Request
from appliance.router.router import Router
from appliance.settings import Settings
from appliance.spec.catalogue import Machine
from appliance.spec.machines import Shape
from appliance.spec.models import Deployment
from appliance.state import events, resources, scales
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.state.scales import Scale
from appliance.telemetry.requests import HELD_MS
from appliance.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

KIND = "deployment"
_PREFIX = "/deployments/"
_SHORT_ID = 12


@dataclass(frozen=True, slots=True)
class Scaled:
    replicas: int
    asleep: bool
    """There are none until a request comes."""
    why: str
    """In words; empty where the spec alone says how many there are."""


@dataclass(slots=True)
class _Watch:
    """What is remembered of a deployment between two looks; a daemon that begins anew begins to look anew."""

    idle: Idle | None = None
    waking: Waking | None = None
    course: Course = field(default_factory=Course)
    window: Window = field(default_factory=Window)
    ready: int = 0
    warned: int = 0
    """The generation that was said to be unable to sleep."""


class Scaler:
    """`counter` counts seconds and is never set; `host` is what this machine has.

    `machines`: the types of one's own.
    """

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        router: Router,
        telemetry: Telemetry,
        settings: Settings,
        host: Machine,
        machines: Mapping[str, Shape] | None = None,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
        counter: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._router = router
        self._telemetry = telemetry
        self._usages = Usages(engine)
        self._every_s = settings.autoscale_every_s
        self._host = host
        self._machines = machines or {}
        self._clock = clock
        self._counter = counter
        self._hint = partial(hint, KIND)
        self._due = float("-inf")
        self._silences: dict[str, Mapping[str, Silence]] = {}
        self._silent: dict[str, Mapping[str, str]] = {}
        """By uid, then by target: what is told of those that end no request."""
        self._watches: dict[str, _Watch] = {}
        """By name."""
        self._specs: dict[tuple[str, int], Deployment | None] = {}
        """By uid and generation."""

    def replicas(self, deployment: Resource, spec: Deployment) -> Scaled:
        """How many replicas a revision with this spec has now: the declared one's, or that of the one that serves."""
        if not spec.enabled or not spec.replicas:
            return Scaled(0, False, "")
        row = scales.find(self._db.read, deployment.uid)
        if row is None:
            return Scaled(spec.replicas, False, "")
        if spec.sleep and _asleep(deployment, row):
            return Scaled(0, True, row.reason)
        if bounds := _bounds(spec):
            return Scaled(bounds.clamp(row.replicas), False, row.reason)
        return Scaled(spec.replicas, False, "")

    def silent(self, deployment: Resource) -> Mapping[str, str]:
        """By the short id of its container, what is told of a replica that takes requests and ends none."""
        return self._silent.get(deployment.uid, {})

    def woken(self, prefix: str) -> None:
        """A request waits at this route. Called again and again while it does; what is awake does not notice."""
        deployment = resources.find(self._db.read, KIND, prefix.removeprefix(_PREFIX))
        row = scales.find(self._db.read, deployment.uid) if deployment else None
        if deployment and row and _asleep(deployment, row):
            self._wake(deployment, "woken by a request")
            self._watch(deployment).waking = Waking(self._counter())

    async def tend(self) -> None:
        """One look at all deployments that scale or sleep by themselves; more than one in a second is no use."""
        meters, now = await self._meters(), self._counter()
        found = [(deployment, spec) for deployment, spec in self._looked_after()]
        self._listen_for_silence(meters, now)
        for deployment, spec in found:
            self._rest(deployment, spec, _meter(meters, deployment), now)
        if now < self._due:
            return
        self._due = now + self._every_s
        scaled = [(deployment, spec) for deployment, spec in found if spec.autoscaling]
        self._usages.keep({id_ for deployment, _ in scaled for id_ in _ready(deployment)})
        for deployment, spec in scaled:
            await self._follow_load(deployment, spec, _meter(meters, deployment), now)

    async def listen(self) -> None:
        """Hear of each request that the front door has answered, for ever."""
        async with aclosing(cast("AsyncGenerator[list[Request], None]", self._router.records())) as batches:
            async for batch in batches:
                self._telemetry.count(batch)
                self.heard(batch)

    def heard(self, batch: Iterable[Request]) -> None:
        now, oldest = self._counter(), self._clock() - load.WINDOW_S
        for request in batch:
            watch = self._watches.get(request.prefix.removeprefix(_PREFIX))
            if watch is None or not request.target:
                continue  # of no replica's doing
            if watch.waking and request.held_ms >= HELD_MS:
                watch.waking = sleeping.released(watch.waking, request.held_ms / 1000)
            if request.status in (0, 101) or request.at + request.total_ms / 1000 < oldest:
                continue  # a websocket lasts as long as it likes; the front door remembers what nobody heard
            watch.window.add(max(0, request.total_ms - request.held_ms) / 1000, now)

    # -- silence

    def _listen_for_silence(self, meters: Mapping[str, Meter] | None, now: float) -> None:
        """In all deployments whose replicas have no liveness probe."""
        silences: dict[str, Mapping[str, Silence]] = {}
        silent: dict[str, Mapping[str, str]] = {}
        for deployment in resources.every(self._db.read, KIND):
            meter = _meter(meters, deployment)
            spec = self._spec(deployment, (deployment.uid, self._generation(deployment)))
            if meter is None or spec is None or spec.liveness is not None:
                continue
            found = hanging.look(self._silences.get(deployment.uid, {}), meter, now)
            silences[deployment.uid] = found
            if said := hanging.told(found, meter, now):
                silent[deployment.uid] = said
            before = self._silent.get(deployment.uid, {})
            if said.keys() - before.keys():
                self._record(deployment, "NoAnswer", next(iter(said.values())), level="warning")
            if said.keys() != before.keys():
                self._hint(deployment.uid)
        self._silences, self._silent = silences, silent

    # -- which

    def _looked_after(self) -> Iterable[tuple[Resource, Deployment]]:
        """Those that run and whose serving revision scales or sleeps; of the others nothing is kept."""
        names, keys = set(), set()
        for deployment in resources.every(self._db.read, KIND):
            key = (deployment.uid, self._generation(deployment))
            keys.add(key)
            spec = self._spec(deployment, key)
            running = deployment.desired == "running" and not deployment.deleting
            if spec and running and spec.enabled and spec.replicas and (spec.autoscaling or spec.sleep):
                names.add(deployment.name)
                yield deployment, spec
            elif scales.find(self._db.read, deployment.uid):
                with self._db.write() as db:
                    scales.remove(db, deployment.uid)
        self._watches = {name: watch for name, watch in self._watches.items() if name in names}
        self._specs = {key: spec for key, spec in self._specs.items() if key in keys}

    def _generation(self, deployment: Resource) -> int:
        """That of the revision which serves; of the declared one where none does yet."""
        if deployment.status.get("generation_ready") == deployment.generation:
            return deployment.generation
        serving = revisions.serving(self._db.read, deployment.uid)
        return serving.generation if serving else deployment.generation

    def _spec(self, deployment: Resource, key: tuple[str, int]) -> Deployment | None:
        """None: this version cannot read it."""
        if key not in self._specs:
            documents = {one.generation: one.spec for one in resources.revisions(self._db.read, deployment.uid)}
            try:
                document = documents.get(key[1], deployment.spec)
                self._specs[key] = revisions.parse_spec(deployment.name, document)
            except ApplianceError as error:
                log.debug("%s does not scale by itself: %s", deployment.name, error)
                self._specs[key] = None
        return self._specs[key]

    def _watch(self, deployment: Resource) -> _Watch:
        return self._watches.setdefault(deployment.name, _Watch())

    async def _meters(self) -> Mapping[str, Meter] | None:
        try:
            return await self._router.meters()
        except ApplianceError as error:
            log.debug("the front door does not tell what is under way: %s", error)
            return None

    # -- sleep

    def _rest(self, deployment: Resource, spec: Deployment, meter: Meter | None, now: float) -> None:
        row, watch = scales.find(self._db.read, deployment.uid), self._watch(deployment)
        if row and row.asleep:
            if not spec.sleep or not _asleep(deployment, row):
                self._wake(deployment, "declared anew")
            elif meter and meter.held:
                self.woken(_PREFIX + deployment.name)
            elif meter and not self._router.can_hold:
                self._wake(deployment, "the front door cannot hold requests any more")
            return
        if meter and watch.ready != (ready := len(_serving(deployment, meter))):
            watch.ready = ready
            watch.window.clear()  # what requests took when there were more, or fewer, says nothing now
        watch.idle = sleeping.look(watch.idle, meter, ready=_settled(deployment), now=now)
        if watch.waking and meter:
            self._tell_waking(deployment, watch, sleeping.watch(watch.waking, meter, now), now)
        if spec.sleep and sleeping.tired(watch.idle, spec.sleep, now):
            if self._router.can_hold:
                self._sleep(deployment, spec, watch.idle, now)
            elif watch.warned != deployment.generation:
                watch.warned = deployment.generation
                message = "it does not scale to zero: this HAProxy has no Lua and cannot hold the request that wakes it"
                self._record(deployment, "NotDone", message, level="warning")

    def _sleep(self, deployment: Resource, spec: Deployment, idle: Idle, now: float) -> None:
        at = self._clock()
        why = f"no request for {now - idle.busy:.0f} s; the next one wakes it"
        row = Scale(spec.replicas, True, why, _not_before(deployment, at), at - (now - idle.busy))
        self._put(deployment, row, "Asleep", why)
        self._watches.pop(deployment.name, None)

    def _wake(self, deployment: Resource, why: str) -> None:
        row = scales.find(self._db.read, deployment.uid)
        if row is None:
            return
        at = self._clock()
        with self._db.write() as db:
            awake = Scale(row.replicas, False, why, at, row.last_request)
            scales.put(db, deployment.uid, awake)
        self._watches.pop(deployment.name, None)
        self._hint(deployment.uid)

    def _tell_waking(self, deployment: Resource, watch: _Watch, waking: Waking, now: float) -> None:
        if sleeping.told(waking, now):
            self._record(deployment, "Woken", sleeping.tell(waking))
        elif not sleeping.given_up(waking, now):
            watch.waking = waking
            return
        watch.waking = None

    # -- load

    async def _follow_load(self, deployment: Resource, spec: Deployment, meter: Meter | None, now: float) -> None:
        row, bounds = scales.find(self._db.read, deployment.uid), _bounds(spec)
        if bounds is None or spec.autoscaling is None or (row and row.asleep):
            return
        watch = self._watch(deployment)
        count = bounds.clamp(row.replicas if row else spec.replicas)
        opinion = None
        if meter is not None:
            opinion = await self._opinion(deployment, spec, watch, meter, count, now)
        watch.course, chosen = decide(watch.course, opinion, count=count, bounds=bounds, now=now)
        self._choose(deployment, count, chosen)

    async def _opinion(
        self, deployment: Resource, spec: Deployment, watch: _Watch, meter: Meter, count: int, now: float
    ) -> Opinion | None:
        assert spec.autoscaling is not None
        metrics = spec.autoscaling.metrics
        ready = _serving(deployment, meter)
        inside = any(metric.kind != "requestDuration" for metric in metrics)
        found = load.readings(
            metrics,
            await self._usages.look(ready, now) if inside else {},
            ready=len(ready),
            share=share(spec.machine, self._host, self._machines),
            duration_s=_duration(watch, now),
        )
        return form_opinion(found, count=count, ready=len(ready))

    def _choose(self, deployment: Resource, count: int, chosen: Opinion) -> None:
        row = scales.find(self._db.read, deployment.uid)
        if row and row.asleep:
            return
        if row and (row.replicas, row.reason) == (chosen.replicas, chosen.why):
            return
        moved = chosen.replicas != count
        since = self._clock() if moved else row.since if row else deployment.updated
        scale = Scale(chosen.replicas, False, chosen.why, since, row.last_request if row else None)
        told = f"from {count} to {chosen.replicas} replicas: {chosen.why}" if moved else ""
        self._put(deployment, scale, "Scaled", told)

    # -- state

    def _put(self, deployment: Resource, row: Scale, reason: str, message: str) -> None:
        """Another number has a message, and is an event."""
        with self._db.write() as db:
            current = resources.find_uid(db, deployment.uid)
            if current is None or current.generation != deployment.generation or current.desired != deployment.desired:
                return  # decided of what is not any more
            scales.put(db, deployment.uid, row)
            if not message:
                return
            events.record(db, KIND, deployment.name, reason, message, now=self._clock())
        self._hint(deployment.uid)

    def _record(self, deployment: Resource, reason: str, message: str, *, level: events.Level = "info") -> None:
        with self._db.write() as db:
            events.record(db, KIND, deployment.name, reason, message, now=self._clock(), level=level)


def _asleep(deployment: Resource, row: Scale) -> bool:
    """What was applied, started or made again since it fell asleep has to show first that it runs."""
    shown = deployment.status.get("generation_ready") == deployment.generation or _undone(deployment)
    return row.asleep and shown and row.since >= deployment.updated


def _undone(deployment: Resource) -> bool:
    """What was declared last is given up; an earlier revision goes on, which has shown that it runs."""
    given_up: Mapping[str, Any] = deployment.status.get("undone") or {}
    return given_up.get("generation") == deployment.generation


def _not_before(deployment: Resource, at: float) -> float:
    """Also where the clock was set back since it was declared."""
    return max(at, deployment.updated)


def _settled(deployment: Resource) -> bool:
    """What serves is as it is declared, and nothing is on its way."""
    whole = deployment.phase == "Ready" or (_undone(deployment) and bool(deployment.status.get("whole")))
    return whole and deployment.observed == deployment.generation


def _bounds(spec: Deployment) -> Bounds | None:
    return Bounds(spec.replicas, spec.autoscaling.most) if spec.autoscaling else None


def _meter(meters: Mapping[str, Meter] | None, deployment: Resource) -> Meter | None:
    return None if meters is None else meters.get(_PREFIX + deployment.name)


def _ready(deployment: Resource) -> list[str]:
    """Ids of the containers that were ready at the controller's last pass."""
    return [row["container"] for row in deployment.status.get("replicas", ()) if row.get("ready")]


def _serving(deployment: Resource, meter: Meter) -> list[str]:
    """Those of them that the front door knows."""
    return [container for container in _ready(deployment) if container[:_SHORT_ID] in meter.servers]


def _duration(watch: _Watch, now: float) -> float | None:
    """Average of the route's requests; none at all for five minutes is an answer too."""
    average = watch.window.average(now)
    quiet = watch.idle is not None and now - watch.idle.busy >= SETTLE_S
    return 0.0 if average is None and quiet else average
