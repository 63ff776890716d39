"""`appliance demo`: the whole appliance on real images, in one go, with a report of what was measured.

Seven steps, each through the same doors that a user has: specs through the API, requests through the front door,
the notebook through Jupyter's own API. A step that fails says which one, shows the log and the cure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from appliance.cli import render
from appliance.cli.front_door import FrontDoor, Jupyter
from appliance.cli.progress import Progress
from appliance.client import Client
from appliance.errors import ApplianceError

RUN_DEADLINE_S = 900.0
"""The first run builds the built-in image."""
READY_DEADLINE_S = 240.0
FINAL = frozenset({"Succeeded", "Failed", "Error", "Canceled"})
NOTEBOOK = "digits.ipynb"


def configure_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)


@dataclass
class Demo:
    client: Client
    progress: Progress
    examples: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        steps = (
            ("declare two datasets", self.declare, "appliance get datasets"),
            ("prepare, train two models side by side, pick the better", self.train, "appliance logs run/digits"),
            ("serve that model", self.serve, "appliance logs deployment/digits"),
            ("send it the images that no trainer saw", self.measure, "appliance logs deployment/digits"),
            ("start a notebook", self.notebook, "appliance logs notebook/digits"),
            ("let the notebook call the model", self.execute, "appliance logs notebook/digits"),
            ("damage the notebook, then roll it back", self.rollback, "appliance notebook history digits"),
        )
        for number, (title, step, look) in enumerate(steps, start=1):
            self.progress.start(f"[{number}/{len(steps)}] {title}")
            try:
                self.progress.done(step())
            except ApplianceError as error:
                self.progress.failed()
                hint = f"{error.hint}; see `{look}`" if error.hint else f"see `{look}` and `appliance doctor`"
                raise ApplianceError(
                    f"step {number} ({title}) failed: {error.message}", hint=hint, where=error.where
                ) from error

    def apply(self, name: str, text: str | None = None) -> None:
        text = text or (self.examples / name).read_text(encoding="utf-8")
        self.client.apply(text, str(self.examples / name))

    def declare(self) -> str:
        self.apply("digits-data.yaml")
        return "digits-test, digits-model"

    def train(self) -> str:
        self.apply("digits.yaml")
        name = self.client.start_run("digits")["name"]
        deadline = time.monotonic() + RUN_DEADLINE_S
        while (run := self.client.get("runs", name))["phase"] not in FINAL:
            self.progress.detail(_jobs(run))
            if time.monotonic() > deadline:
                raise ApplianceError(
                    f"run {name} is not done after {RUN_DEADLINE_S:.0f} s", hint=f"`appliance workflow show {name}`"
                )
            time.sleep(0.2)
        if run["phase"] != "Succeeded":
            raise ApplianceError(
                f"run {name}: {run['phase']}: {run['message'] or _jobs(run)}\n{self.log_tail('run', name)}"
            )
        outputs = {job["name"]: job["outputs"] for job in run["jobs"]}
        best, score = str(outputs["pick"]["choice"]["value"]).split()
        self.facts |= {
            "run": name,
            "best": best,
            "held_out": float(score),
            "model": outputs["register"]["model-id"]["value"],
        }
        return f"run {name}: {best} model, {float(score):.1%} on held-out images, model {self.facts['model']}"

    def serve(self) -> str:
        """The spec names the model by name; the demo pins the one that its own run made."""
        text = (self.examples / "digits-serve.yaml").read_text(encoding="utf-8")
        self.apply("digits-serve.yaml", text.replace("id: digits\n", f"id: {self.facts['model']}\n"))
        item = self.settle("deployments", ("Ready",))
        self.facts["endpoint"] = item["url"].rstrip("/")
        return f"{len(item['status'].get('replicas', []))} replicas at {item['url']}"

    def measure(self) -> str:
        content = self.client.call("GET", "/v1/datasets/digits-test/file", {"path": "test.json"})
        test = json.loads(content)
        door = FrontDoor(self.facts["endpoint"])
        path, right, took = "/deployments/digits/predict", 0, []
        for number, (image, digit) in enumerate(zip(test["images"], test["digits"], strict=True)):
            before = time.perf_counter()
            answer = door.json("POST", path, {"images": [image]})
            took.append(1000 * (time.perf_counter() - before))
            right += answer["digits"] == [digit]
            self.progress.detail(f"{number + 1} of {len(test['digits'])}")
        door.close()
        p50, p95 = statistics.median(took), statistics.quantiles(took, n=20)[-1]
        self.facts |= {"right": right, "images": len(took), "p50": p50, "p95": p95}
        return f"{right} of {len(took)} right ({right / len(took):.1%}), {p50:.1f} ms median, {p95:.1f} ms p95"

    def notebook(self) -> str:
        self.apply("digits-notebook.yaml")
        self.client.act("notebooks", "digits", "start")
        self.settle("notebooks", ("Running",))
        access = self.client.access("digits")
        self.facts["notebook"] = access["url"]
        Jupyter(access["base_url"], access["token"]).wait(READY_DEADLINE_S)
        return access["base_url"]

    def execute(self) -> str:
        jupyter = self.jupyter()
        source = json.loads((self.examples / NOTEBOOK).read_text(encoding="utf-8"))
        jupyter.put(NOTEBOOK, source)
        executed = jupyter.execute(source)
        jupyter.put(NOTEBOOK, executed)
        text = "".join(
            "".join(output.get("text", "")) for cell in executed["cells"] for output in cell.get("outputs", [])
        )
        return " | ".join(line.strip() for line in text.strip().splitlines())

    def rollback(self) -> str:
        good = hashlib.sha256(self.jupyter().read(NOTEBOOK)).hexdigest()
        snapshot = self.client.act("notebooks", "digits", "snapshot", {"message": "demo: the good notebook"})
        self.jupyter().put_text(NOTEBOOK, "oops\n")
        damaged = hashlib.sha256(self.jupyter().read(NOTEBOOK)).hexdigest()
        self.progress.detail("damaged; rolling back")
        self.client.act("notebooks", "digits", "rollback", {"snapshot": snapshot["id"]})
        self.settle("notebooks", ("Running",))
        self.jupyter().wait(READY_DEADLINE_S)
        again = hashlib.sha256(self.jupyter().read(NOTEBOOK)).hexdigest()
        if damaged == good or again != good:
            raise ApplianceError(f"the bytes differ: {good[:12]} before, {again[:12]} after", hint="please report this")
        return f"sha256 {good[:12]} -> damaged {damaged[:12]} -> {again[:12]}: the same bytes again"

    def jupyter(self) -> Jupyter:
        access = self.client.access("digits")
        return Jupyter(access["base_url"], access["token"])

    def settle(self, kind: str, wanted: tuple[str, ...]) -> Any:
        deadline = time.monotonic() + READY_DEADLINE_S
        while True:
            item = self.client.get(kind, "digits")
            if item["observed"] == item["generation"] and item["phase"] in wanted:
                return item
            if item["phase"] in ("Failed", "Degraded"):
                tail = self.log_tail(item["kind"], "digits")
                raise ApplianceError(f"{item['kind']} digits: {item['phase']}: {item['message']}\n{tail}")
            if time.monotonic() > deadline:
                raise ApplianceError(
                    f"{item['kind']} digits is still {item['phase']} after {READY_DEADLINE_S:.0f} s: {item['message']}"
                )
            self.progress.detail(f"{item['phase']} {item['message']}")
            time.sleep(0.2)

    def log_tail(self, kind: str, name: str) -> str:
        lines = self.client.logs(kind=kind, name=name, limit=15)
        return "\n".join(f"    {line['part']} | {render.clean(line['line'])}" for line in lines)


def run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    demo = Demo(render.client(), Progress(sys.stderr), examples())
    status = demo.client.status()
    for part in status["parts"]:
        if not part["ok"]:
            render.say(f"degraded: {part['name']}: {part['message']}")
    demo.run()
    print(report(demo.facts, time.monotonic() - began))
    return 0


def report(facts: dict[str, Any], took_s: float) -> str:
    endpoint = facts["endpoint"]
    return f"""
The demo is done in {took_s:.0f} s.
  model     {facts["model"]} ({facts["best"]}), {facts["held_out"]:.1%} on the held-out images it was chosen by
  accuracy  {facts["right"]} of {facts["images"]} images that no trainer saw = {facts["right"] / facts["images"]:.1%}
  latency   {facts["p50"]:.1f} ms median, {facts["p95"]:.1f} ms p95, one image a request through the front door
  endpoint  {endpoint}/predict
  notebook  {facts["notebook"]}

Try next:
  curl -s {endpoint}/healthz
  appliance workflow show {facts["run"]}
  appliance tui
"""


def examples() -> Path:
    """The example specs: inside an installed package, else beside it in the checkout."""
    installed = Path(str(resources.files("appliance"))) / "examples"
    return installed if installed.is_dir() else installed.parents[1] / "specs" / "examples"


def _jobs(run: Any) -> str:
    """Where each job is, and the message of the one that has one."""
    parts = [f"{job['name']} {job['phase'].lower()}" for job in run["jobs"] if job["phase"] != "Pending"]
    telling = [job["message"] for job in run["jobs"] if job["message"] and job["phase"] not in FINAL]
    return ", ".join(parts) + (f" ({telling[0]})" if telling else "")
