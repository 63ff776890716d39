"""The rooms that the daemon's own actions use, and one running job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.settings import Settings
from appliance.spec.models import Alias, CreateModelAction, DeployAction, Job, Output, Workflow
from appliance.state import resources, runs
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.state.runs import Job as JobRow
from appliance.state.versions import Version
from appliance.storage.directory.store import DirectoryStore
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import hosted
from tests.conftest import Clock

SPEC = {"image": "web", "port": 8000, "resources": {"instanceType": "C4", "replicas": 2}}
DEPLOY = DeployAction(name="web", spec=SPEC, ready_s=600.0)
STRING = {"model-id": Output(type="string")}


class Desk:
    """The rooms that these actions use, and one running job."""

    def __init__(self, settings: Settings, clock: Clock, folder: Path) -> None:
        self.clock = clock
        self.db = Database(settings.state_file)
        store = DirectoryStore(folder / "volumes", "a test", durable=False)
        self.datasets = Datasets(self.db, store, clock)
        self.models = Models(self.db, store, clock)
        self.hints: list[tuple[str, str]] = []
        unused: Any = None
        self.rooms = Rooms(
            db=self.db,
            engine=unused,
            images=unused,
            store=store,
            scratch=unused,
            datasets=self.datasets,
            models=self.models,
            telemetry=unused,
            vault=unused,
            settings=settings,
            instance="0123abcd",
            clock=clock,
            hint=lambda kind, key: self.hints.append((kind, key)),
        )

    def job(self, action: CreateModelAction | DeployAction) -> tuple[runs.Run, Workflow]:
        job = Job(action=action, inputs={"model": Alias(job="train", name="m")})
        workflow = Workflow(name="flow", jobs={"act": job})
        with self.db.write() as db:
            run = runs.create(
                db, workflow_uid="u", workflow="flow", spec={}, inputs={}, jobs=["act"], now=self.clock.now
            )
            runs.move_job(db, run.id, "act", "Pending", "Running", started=self.clock.now)
        return run, workflow

    def row(self, run: runs.Run) -> JobRow:
        return runs.jobs(self.db.read, run.id)[0]

    async def act(self, job: tuple[runs.Run, Workflow], **given: Mapping[str, Any]) -> hosted.Done | str:
        """What the daemon does about every second."""
        run, workflow = job
        return await hosted.act(self.rooms, run, workflow, self.row(run), given)

    async def version(self, name: str = "weights") -> Version:
        if resources.find(self.db.read, "dataset", name) is None:
            self.datasets.create(name)
        token = str(len(self.datasets.versions(name)))
        return await self.datasets.commit(await self.datasets.begin(name, run="r", job="j", token=token))

    def web(self) -> Resource:
        return resources.get(self.db.read, "deployment", "web")

    def observe(self, phase: str, message: str = "", **status: Any) -> None:
        """What the deployment's controller would have written."""
        web = self.web()
        with self.db.write() as db:
            resources.set_status(
                db, web.uid, generation=web.generation, phase=phase, message=message, status={**web.status, **status}
            )
