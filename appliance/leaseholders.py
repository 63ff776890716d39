"""What befalls a lease of GPUs is told the room that runs its container."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from appliance.deployments.controller import DeploymentController
from appliance.engine.docker import Engine
from appliance.errors import ApplianceError
from appliance.notebooks.notebooks import Notebooks
from appliance.scheduler.scheduler import Scheduler
from appliance.scheduler.types import Who
from appliance.workflows.controller import RunController

log = logging.getLogger(__name__)


def tell_leaseholders(
    scheduler: Scheduler,
    notebooks: Notebooks,
    deployments: DeploymentController,
    runs: RunController,
    engine: Engine,
    hint: Callable[[str, str], None],
    *,
    grace_s: float,
) -> None:
    """From now on; `hint` wakes the reconcile loop, `grace_s` is what a container has that is ended."""

    def changed(who: Who) -> None:
        if who.kind == "run":
            runs.lease_changed(who)
        else:
            hint(who.kind, who.uid)

    def preempt(who: Who, words: str) -> None:
        if who.kind == "notebook":
            notebooks.preempt(who.uid, words)
        elif who.kind == "run":
            runs.gpu_news.preempt(who.uid, words, who.part)

    def lost(who: Who, words: str) -> None:
        if who.kind == "notebook":
            notebooks.gpu_lost(who.uid, words)
        elif who.kind == "execution":
            notebooks.executing.gpu_lost(who.uid, words)
        elif who.kind == "run":
            runs.gpu_news.gpu_lost(who.uid, words, who.part)
        else:
            deployments.gpu_lost(who.uid, who.part, words)

    def failed(who: Who, words: str) -> None:
        if who.kind == "run":
            runs.gpu_news.gpu_fault(who.uid, words, who.part)

    scheduler.on_change, scheduler.on_preempt = changed, preempt
    scheduler.on_lost, scheduler.on_fault = lost, failed

    ending: set[asyncio.Task[None]] = set()

    async def end(container: str) -> None:
        try:
            await engine.stop(container, grace_s=grace_s)
        except ApplianceError as error:
            log.warning("%s holds more than its share of a GPU and cannot be ended: %s", container[:12], error)

    def over(container: str) -> None:
        task = asyncio.create_task(end(container), name=f"{container[:12]} is ended")
        ending.add(task)
        task.add_done_callback(ending.discard)

    scheduler.on_over = over
