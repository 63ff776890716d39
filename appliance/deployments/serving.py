"""What the front door is told of a deployment: who takes traffic, who may call, and what waits when nobody is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from appliance.deployments.facts import Phase, Plan, Replica, Revision
from appliance.deployments.making import Making, asks, words
from appliance.deployments.replicas import port_of
from appliance.deployments.view import View
from appliance.engine.types import Container
from appliance.errors import ApplianceError, RouterError
from appliance.router.router import Router
from appliance.router.table import Access, Hold, Limits, Route, Target
from appliance.settings import Settings
from appliance.spec.models import Deployment
from appliance.state.resources import Resource

ROUTER_EVERY_S = 2.0
KEYS_EVERY_S = 5.0
WAKE_S = 60.0
"""How long a request waits that wakes a deployment, where every other setting says 0."""
_NOT_YET: frozenset[Phase] = frozenset({"Pending", "Preparing"})

Seen = Mapping[Replica, Container]


class Serving:
    def __init__(self, *, router: Router, making: Making, settings: Settings, clock: Callable[[], float]) -> None:
        self._router = router
        self._making = making
        self._settings = settings
        self._clock = clock
        self._routes: dict[str, Route] = {}
        """uid -> the route the front door was last given; empty at first, so each is given again after a restart."""

    async def tell(self, view: View, plan: Plan, seen: Seen) -> Plan:
        """The plan, changed where the front door cannot be told: then nobody leaves whom it may still lead to."""
        uid, route = view.deployment.uid, self._route(view, plan, seen)
        if route.access and not route.access.sums:
            plan = self._nobody(view, plan)
        if self._routes.get(uid) == route:
            return plan
        try:
            await self._router.set_route(route)
        except RouterError as error:
            phase: Phase = "Degraded" if plan.phase == "Ready" else plan.phase
            message = f"the front door does not lead there: {error.message}; {error.hint}"
            retire = () if plan.serve or plan.swapping else plan.retire
            return replace(plan, phase=phase, message=message, retire=retire, wake=self._clock() + ROUTER_EVERY_S)
        self._routes[uid] = route
        return plan

    async def drop(self, deployment: Resource) -> None:
        await self._router.drop_route(prefix(deployment))

    def forget(self, uid: str) -> None:
        self._routes.pop(uid, None)

    def _route(self, view: View, plan: Plan, seen: Seen) -> Route:
        ports = [(seen[replica], port_of(seen[replica])) for replica in plan.serve]
        revision = in_charge(view, plan)
        spec = view.specs.get(revision.digest)
        return Route(
            prefix=prefix(view.deployment),
            targets=tuple(sorted(Target(short(container), port) for container, port in ports if port)),
            strip=True,
            hold=hold(view, plan, spec, self._settings),
            access=self._access(view, revision, spec),
            limits=limits(spec),
        )

    def _nobody(self, view: View, plan: Plan) -> Plan:
        """The plan, which says that no caller is let in, and why."""
        spec, why = view.specs.get(in_charge(view, plan).digest), "its keys are not known"
        try:
            if spec:
                self._making.access(spec)
        except ApplianceError as error:
            why = words(error)
        message = plan.message if why in plan.message else f"{why}; {plan.message}"
        wakes = [at for at in (plan.wake, self._clock() + KEYS_EVERY_S) if at is not None]
        phase: Phase = "Degraded" if plan.phase == "Ready" else plan.phase
        return replace(plan, phase=phase, message=f"nobody is let in: {message}", wake=min(wakes))

    def _access(self, view: View, revision: Revision, spec: Deployment | None) -> Access | None:
        """As pinned. Of a revision that an earlier version pinned, or that has not begun: as its secrets are now;
        without them whoever might before, and where that was everybody, nobody."""
        row = view.row_of(revision)
        pin: Mapping[str, Any] = (row.pin if row else None) or {}
        found = pin.get("access")
        if spec is not None and asks(spec) and ("access" not in pin or (row and row.began is None)):
            try:
                found = self._making.access(spec)
            except ApplianceError:
                found = found or {"kind": "basic", "sums": []}
        return Access(found["kind"], frozenset(found["sums"])) if found else None


def opened(view: View, plan: Plan) -> Plan:
    """The plan, which says so where an undoing lets everybody in whom the revision that failed would have asked."""
    failed, back = view.specs.get(view.wanted.digest), view.stable
    earlier = view.specs.get(back.digest) if back else None
    if not plan.undo or back is None or not failed or not earlier or not asks(failed) or asks(earlier):
        return plan
    return replace(plan, undo=f"{plan.undo}; generation {back.generation} lets callers in without a key")


def in_charge(view: View, plan: Plan) -> Revision:
    """Whose rules hold at the front door: the earlier one's, until another has taken over."""
    stable = view.stable
    return stable if stable and stable.digest != view.wanted.digest and not plan.complete else view.wanted


def hold(view: View, plan: Plan, spec: Deployment | None, settings: Settings) -> Hold | None:
    """How long requests wait for a ready replica; None: they are answered at once that there is none.

    Nobody waits for what is off, for what was never ready and has not begun, or for what ends again and again and has
    nothing before it that comes back.
    """
    never = view.stable is None and plan.phase in _NOT_YET
    if not (view.wanted.replicas or view.asleep) or never or (plan.phase == "Failed" and not view.back):
        return None
    seconds = hold_s(view, settings)
    swaps = plan.swapping or (view.row is not None and view.row.phase == "Swapping")
    if view.asleep or (spec and spec.sleep and not swaps):
        # only who waits can wake it, and goes on waiting while the first replica starts
        seconds = (spec.sleep.hold_s if spec and spec.sleep else None) or settings.hold_s or WAKE_S
    return Hold(seconds, settings.hold_most) if seconds > 0 else None


def hold_s(view: View, settings: Settings) -> float:
    return settings.hold_s if view.manner.hold_s is None else view.manner.hold_s


def limits(spec: Deployment | None) -> Limits:
    if spec is None:
        return Limits()
    found = spec.endpoint
    return Limits(found.requests, found.window_s, found.body, found.timeout_s)


def prefix(deployment: Resource) -> str:
    return f"/deployments/{deployment.name}"


def short(container: Container) -> str:
    return container.id[:12]
