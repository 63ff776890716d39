"""deploy@v1 with everything real: a run trains, deploys what it made, and asks the endpoint through the front door."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.images import Images
from appliance.engine.labels import owner_of
from appliance.state import runs
from appliance.storage.scratch import Scratch
from appliance.workflows.again import resume_run
from appliance.workflows.controller import RunController
from appliance.workflows.submit import cancel_run, start_run
from tests.integration.services import Services, eventually, needs_services

pytestmark = needs_services

SERVER = """
import http.server, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = pathlib.Path("/opt/models/weights").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
SPEC = {
    "image": "appliance/base",
    "command": ["python3", "-c", SERVER],
    "port": 8000,
    "resources": {"instanceType": "C4", "replicas": 1},
    "healthChecks": {"readiness": {"path": "/", "periodSeconds": 1}},
}


class House(Services):
    """With workflows."""

    async def start(self) -> None:
        await super().start()
        self.runs = RunController(
            db=self.db,
            engine=self.engine,
            images=Images(self.engine, base_image=self.settings.base_image, work_dir=self.settings.home),
            store=self.store,
            scratch=Scratch(self.store),
            datasets=self.datasets,
            models=self.models,
            telemetry=self.telemetry,
            vault=self.vault,
            settings=self.settings,
            instance=self.instance,
            clock=time.time,
            hint=self.reconciler.hint,
        )
        self.reconciler.add(self.runs)

    async def _follow(self) -> None:
        async for event in self.engine.events():
            if (owner := owner_of(event.labels)) is None:
                continue
            if owner.kind == "run":
                self.runs.noticed(owner, event.action)
            elif event.action in ("start", "die", "destroy"):
                self.reconciler.hint(owner.kind, owner.uid)

    def submit(self, text: str, spec: dict[str, Any]) -> runs.Run:
        """A run that makes a model whose weights are `text`, and deploys it with `spec`."""
        train = {
            "uses": "script@v1",
            "with": {"image": "appliance/base", "script": f"printf '{text}' > /outputs/m/weights"},
            "outputs": {"m": {"type": "dataset", "with": {"ref": "weights"}}},
        }
        register = {
            "uses": "create-model@v1",
            "with": {"name": "digits", "type": "Custom"},
            "needs": ["train"],
            "inputs": {"model": "train.outputs.m"},
            "outputs": {"model-id": {"type": "string"}},
        }
        deploy = {
            "uses": "deploy@v1",
            "with": {"name": "web", **({"spec": spec} if spec else {})},
            "needs": ["register"],
            "inputs": {"model": "register.outputs.model-id"},
            "outputs": {"endpoint": {"type": "string"}},
        }
        document = {"jobs": {"train": train, "register": register, "deploy": deploy}}
        run = start_run(self.db, None, "flow", document, {}, now=time.time())
        self.reconciler.hint("run", run.id)
        return run

    async def finish(self, run: runs.Run) -> runs.Job:
        await eventually(lambda: runs.get(self.db.read, run.id).finished is not None, f"run {run.number} over")
        return self.deploy_job(run)

    def deploy_job(self, run: runs.Run) -> runs.Job:
        return runs.jobs(self.db.read, run.id)[2]

    async def answer(self) -> str:
        return (await self.http.get("/deployments/web/")).text


@pytest.fixture
async def house(base_image: str) -> AsyncIterator[House]:
    home = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))  # a socket's path must be short
    home.chmod(0o711)  # HAProxy gives up root and must reach its files
    found = House(home)
    try:
        await found.start()
        found.datasets.create("weights")
        yield found
    finally:
        await found.clean()
        shutil.rmtree(home, ignore_errors=True)


async def test_a_model_goes_from_a_run_to_the_front_door_and_a_bad_one_does_not(house: House) -> None:
    first = await house.finish(house.submit("one", SPEC))
    assert (first.phase, first.outputs["endpoint"]["value"]) == ("Succeeded", "/deployments/web/"), first.message
    assert await house.answer() == "one"

    # the daemon is killed as soon as the second generation is declared, and again while it is waited for
    run = house.submit("two", {})
    await eventually(lambda: house.deploy_job(run).begun, "the second generation is declared")
    for _ in range(2):
        await house.restart()
    second = await house.finish(run)
    assert second.phase == "Succeeded", second.message
    assert (await house.answer(), house.get("deployment", "web").generation) == ("two", 2)
    assert len(house.models.every()) == 2

    broken = {**SPEC, "command": ["python3", "-c", "raise SystemExit('no weights')"]}
    third = await house.finish(house.submit("three", broken))
    assert third.phase in ("Failed", "Error")
    assert "generation 3 fails" in third.message
    assert "generation 2 serves" in third.message
    assert "a replica wrote: no weights" in third.message
    assert await house.answer() == "two"


async def test_a_resumed_run_starts_afresh_what_failed_before_something_else_was_repaired(house: House) -> None:
    """The document stays the same; the replicas' secret was the trouble."""
    needs_key = f"import os\nassert os.environ['KEY'] == 'right'\n{SERVER}"
    spec = {
        **SPEC,
        "command": ["python3", "-c", needs_key],
        "env": [{"name": "KEY", "value": "secret:KEY"}],
    }
    house.vault.set("KEY", "wrong")
    run = house.submit("one", spec)
    failed = await house.finish(run)
    assert failed.phase == "Error", failed.message
    assert "generation 1 fails" in failed.message

    house.vault.set("KEY", "right")
    resumed = resume_run(house.db, runs.get(house.db.read, run.id), now=time.time())
    house.reconciler.hint("run", resumed.id)
    done = await house.finish(resumed)
    assert done.phase == "Succeeded", done.message
    assert (await house.answer(), house.get("deployment", "web").generation) == ("one", 2)


async def test_a_canceled_roll_out_never_takes_the_traffic(house: House) -> None:
    first = await house.finish(house.submit("one", SPEC))
    assert first.phase == "Succeeded", first.message
    serving = [replica["container"] for replica in house.get("deployment", "web").status["replicas"]]

    slow = {**SPEC, "command": ["python3", "-c", f"import time\ntime.sleep(10000)\n{SERVER}"]}
    run = house.submit("two", slow)

    def half_rolled_out() -> bool:
        web = house.get("deployment", "web")
        return any(one["generation"] == 2 and one["state"] == "starting" for one in web.status.get("replicas", ()))

    await eventually(half_rolled_out, "a replica of the second generation runs")
    cancel_run(house.db, run.id, now=time.time())
    house.reconciler.hint("run", run.id)
    second = await house.finish(run)
    assert second.phase == "Canceled"
    assert second.message == "canceled; deployment web is as it was in generation 1, and generation 2 is given up"

    def settled() -> bool:
        web = house.get("deployment", "web")
        shown = [one["container"] for one in web.status["replicas"]]
        return (web.phase, web.observed, shown) == ("Ready", 3, serving)

    await eventually(settled, "the replicas that served are the only ones")
    assert house.get("deployment", "web").spec["command"] == SPEC["command"]
    assert await house.answer() == "one"
