"""A notebook's path on the front door, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from appliance.errors import RouterError
from appliance.notebooks import jupyter
from appliance.notebooks.plan import Phase, Step
from appliance.notebooks.status import Seen
from appliance.router.router import Router
from appliance.router.table import Route, Target
from appliance.state.resources import Resource

ROUTER_EVERY_S = 2.0


class Publishing:
    def __init__(self, router: Router, clock: Callable[[], float]) -> None:
        self._router = router
        self._clock = clock
        self.routes: dict[str, Route] = {}
        """uid -> the route the front door was last given; empty at first, so each is given again after a restart."""

    async def publish(self, notebook: Resource, seen: Seen, step: Step) -> Step:
        """The front door sends requests to a session that has answered; else its waiting page tells what goes on.

        The step, changed where the front door cannot be told: what only it can see does not hold up the rest.
        """
        targets = [
            Target(container.id[:12], container.ports[jupyter.PORT])
            for session, container in seen.items()
            if session.ready and session.state == "running" and jupyter.PORT in container.ports
        ]
        leaving = notebook.deleting or step.verb in ("halt", "destroy")
        try:
            await self._set(notebook, () if leaving else tuple(targets[:1]))
        except RouterError as error:
            phase: Phase = "Starting" if step.phase == "Running" else step.phase
            message = f"the front door does not lead there: {error.message}; {error.hint}"
            return replace(step, phase=phase, message=message, wake=self._clock() + ROUTER_EVERY_S)
        return step

    async def withdraw(self, notebook: Resource) -> None:
        """Nobody is led to its session; the waiting page is shown. Raises RouterError."""
        await self._set(notebook, ())

    async def drop(self, notebook: Resource) -> None:
        """Its path is gone. Raises RouterError."""
        await self._router.drop_route(_prefix(notebook))
        self.forget(notebook.uid)

    def forget(self, uid: str) -> None:
        """The front door is told again at the next pass."""
        self.routes.pop(uid, None)

    async def _set(self, notebook: Resource, targets: tuple[Target, ...]) -> None:
        route = Route(prefix=_prefix(notebook), targets=targets, strip=False)
        if self.routes.get(notebook.uid) != route:
            await self._router.set_route(route)
            self.routes[notebook.uid] = route


def _prefix(notebook: Resource) -> str:
    return jupyter.base_url(notebook.name).rstrip("/")
