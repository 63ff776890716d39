"""Actions that the daemon does itself, without a container. Each call does what can be done now; it may be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.errors import UsageError
from appliance.spec.models import CreateModelAction, DeployAction, Workflow
from appliance.state.runs import Job, Run
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import begun, deploying, taking_back


@dataclass(frozen=True, slots=True)
class Done:
    outputs: Mapping[str, Any]


def stop(rooms: Rooms, run: Run, workflow: Workflow, job: Job) -> Done | str:
    """The job must end before it is done: take back what it has set going, and say what becomes of that.

    Done: that came just before. Empty: there is nothing to say. May be repeated.
    """
    action = workflow.jobs[job.name].action
    if not isinstance(action, DeployAction):
        return ""
    mine = begun.of(job)
    if mine is None:
        return ""
    said = taking_back.take_back(rooms, run, job, action, mine)
    return _deployed(action) if said is None else said


async def act(rooms: Rooms, run: Run, workflow: Workflow, job: Job, given: Mapping[str, Any]) -> Done | str:
    """Done, or what it waits for, in words. Called again about every second. Raises ApplianceError: the job failed.

    `given` are the job's inputs as documents (see `inputs`).
    """
    action = workflow.jobs[job.name].action
    if isinstance(action, CreateModelAction):
        return _register_model(rooms, run, job, action, given)
    if isinstance(action, DeployAction):
        if waits_for := await deploying.deploy(rooms, run, job, action, given):
            return waits_for
        return _deployed(action)
    raise UsageError(f"{action.uses} is not done by the daemon")


def _deployed(action: DeployAction) -> Done:
    return Done({"endpoint": {"type": "string", "value": deploying.endpoint(action)}})


def _register_model(rooms: Rooms, run: Run, job: Job, action: CreateModelAction, given: Mapping[str, Any]) -> Done:
    document = given.get("model")
    if document is None or document["type"] != "dataset":
        raise UsageError("the input `model` must be a dataset", hint="alias a dataset output, or use an inline ref")
    version = rooms.datasets.resolve(document["id"])
    model = rooms.models.register(action.name, action.type, version, run.id, job.name)
    return Done({"model-id": {"type": "string", "value": model.id}})
