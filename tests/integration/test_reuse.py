"""The step cache, resume and replay on a real engine, told by Docker's own `start` events; and a capsule opened."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.docker import Engine
from appliance.history.workspaces import Workspaces
from appliance.state import runs
from appliance.storage.base import Store
from appliance.workflows import again
from appliance.workflows.kept.opening import fill_workspace
from tests.integration.test_workflows import BASE, Floor, a_floor, any_store, call, flow

__all__ = ["any_store"]

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.images]


@pytest.fixture
async def floor(engine: Engine, base_image: str, any_store: Store, tmp_path: Path) -> AsyncIterator[Floor]:
    async with a_floor(engine, tmp_path / "home", any_store, stop_grace_s="1") as made:
        yield made


@pytest.fixture
def image(base_image: str) -> Iterator[str]:
    """A name of this test's own, which it may let mean another image."""
    name = f"appliance-test-{secrets.token_hex(4)}"
    subprocess.run(["docker", "tag", BASE, name], check=True, timeout=60)
    yield name
    call("docker", "image", "rm", name)


def move(name: str) -> None:
    """Let the name mean another image."""
    recipe = f"FROM {BASE}\nENV OTHER=1\n"
    subprocess.run(["docker", "build", "-q", "-t", name, "-"], input=recipe, text=True, check=True, timeout=120)


def starts(run: runs.Run) -> list[str]:
    """Jobs of this run whose containers Docker has started, one entry a start."""
    label = f"label=dev.appliance.uid={run.id}"
    argv = ["docker", "events", "--since", str(int(run.created) - 1), "--until", str(int(time.time()) + 1)]
    form = '{{index .Actor.Attributes "dev.appliance.part"}}'
    done = call(*argv, "--filter", "event=start", "--filter", "type=container", "--filter", label, "--format", form)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.split())


def script(image: str, text: str, *needs: str, **more: Any) -> dict[str, Any]:
    return {"uses": "script@v1", "with": {"image": image, "script": f"set -e\n{text}"}, "needs": list(needs), **more}


def document(image: str) -> dict[str, Any]:
    """Four jobs; `train` fails while the secret is wrong."""
    volume, string = {"type": "volume"}, {"type": "string"}
    data = {"type": "dataset", "with": {"ref": "digits"}}
    return flow(
        fetch=script(image, "mkdir /outputs/repo/src; echo code > /outputs/repo/src/x", outputs={"repo": volume}),
        data=script(image, "cat /inputs/raw/rows > /outputs/data/rows; date +%N > /outputs/data/when",
                    inputs={"raw": {"type": "dataset", "with": {"ref": "raw"}}}, outputs={"data": data}),
        train=script(
            image,
            "cat /inputs/repo/src/x /inputs/data/rows > /outputs/model/w; echo spoiled > /inputs/repo/src/x\n"
            "echo half > /outputs/model/half; echo $TOKEN; test $TOKEN = right-password; rm /outputs/model/half",
            "fetch", "data",
            inputs={"repo": "fetch.outputs.repo", "data": "data.outputs.data"},
            outputs={"model": volume},
            env={"TOKEN": "secret:TOKEN"},
        ),
        score=script(image, "cat /inputs/model/w | tee /outputs/score", "train",
                     inputs={"model": "train.outputs.model"}, outputs={"score": string}),
    )  # fmt: skip


async def put_raw(floor: Floor, text: str) -> str:
    floor.datasets.create("raw")
    version = await floor.datasets.begin("raw")
    (await floor.datasets.path(version) / "rows").write_text(text)
    return (await floor.datasets.commit(version)).version


async def prepared(floor: Floor, token: str) -> None:
    floor.datasets.create("digits")
    floor.vault.set("TOKEN", token)
    await put_raw(floor, "1 2 3\n")


EVERY = ["data", "fetch", "score", "train"]


async def test_an_equal_run_starts_no_container(floor: Floor, image: str) -> None:
    await prepared(floor, "right-password")
    first = floor.submit(document(image))
    assert (await floor.finish(first)).phase == "Succeeded", floor.jobs(first)
    second = floor.submit(document(image))
    assert (await floor.finish(second)).phase == "Succeeded", floor.jobs(second)
    assert (starts(first), starts(second)) == (EVERY, [])
    jobs = floor.jobs(second)
    assert {job.reused for job in jobs.values()} == {f"flow.1/{name}" for name in EVERY}
    assert jobs["score"].outputs["score"]["value"] == "code\n1 2 3\n"
    assert len(floor.datasets.versions("digits")) == 1
    await put_raw(floor, "4 5 6\n")
    third = floor.submit(document(image))
    assert (await floor.finish(third)).phase == "Succeeded"
    assert starts(third) == ["data", "score", "train"]
    assert floor.jobs(third)["score"].outputs["score"]["value"] == "code\n4 5 6\n"
    assert [container.name for container in await floor.engine.list()] == []


async def test_a_failed_run_goes_on_where_it_failed_and_is_repeated_as_it_was(floor: Floor, image: str) -> None:
    await prepared(floor, "wrong-password")
    failed = floor.submit(document(image))
    assert (await floor.finish(failed)).phase == "Failed"
    assert floor.phases(failed) == {
        "fetch": "Succeeded",
        "data": "Succeeded",
        "train": "Failed",
        "score": "Omitted",
    }
    assert starts(failed) == ["data", "fetch", "train"]
    await look_into(floor, failed)

    floor.vault.set("TOKEN", "right-password")
    newer = await put_raw(floor, "4 5 6\n")
    resumed = again.resume_run(floor.db, failed, now=time.time())
    floor.hint("run", resumed.id)
    await floor.drop()  # a daemon that dies in between starts nothing twice
    floor.begin()
    assert (await floor.finish(resumed)).phase == "Succeeded", floor.jobs(resumed)
    assert starts(resumed) == ["score", "train"]
    assert floor.jobs(resumed)["score"].outputs["score"]["value"] == "code\n1 2 3\n"

    await asyncio.to_thread(move, image)
    replayed = await again.replay_run(floor.db, floor.images, resumed, now=time.time())
    floor.hint("run", replayed.id)
    assert (await floor.finish(replayed)).phase == "Succeeded", floor.jobs(replayed)
    assert starts(replayed) == EVERY
    before, after = floor.jobs(resumed), floor.jobs(replayed)
    assert {job.image for job in after.values()} == {before["train"].image} != {await floor.images.identity(image)}
    assert after["data"].inputs == before["data"].inputs
    assert newer not in after["data"].inputs["raw"]["id"]
    assert after["score"].outputs["score"]["value"] == "code\n1 2 3\n"
    assert [container.name for container in await floor.engine.list()] == []
    gone = time.time() + 8 * 86_400
    await floor.controller.tend(gone)
    assert floor.store.volumes("runs") == []


async def look_into(floor: Floor, failed: runs.Run) -> None:
    workspaces = Workspaces(floor.db, floor.store, time.time)
    report = await fill_workspace(floor.controller.rooms, workspaces, "u" * 32, failed, "train")
    root = await workspaces.open("u" * 32)
    assert report.missing == ()
    assert (root / "inputs/repo/src/x").read_text() == "code\n"
    assert (root / "inputs/data/rows").read_text() == "1 2 3\n"
    assert (root / "outputs/model/half").read_text() == "half\n"
    note = (root / "capsule.md").read_text()
    assert "Failed: exit code 1" in note
    assert "secret:TOKEN" in note
    assert "wrong-password" not in note
    assert "***" in note  # what the job printed


LOOK = """
test "$(pwd)" = /
test -d outputs/v
test -d /outputs/repo
test -d /inputs/repo
if touch /inputs/data/new 2>/dev/null; then exit 9; fi
echo mine > /inputs/repo/file
mkdir -p /inputs/beside /outputs/model/deep
test -z "$(ls /outputs/repo)"
cp -R /inputs/repo /outputs
cat inputs/repo/file
"""


async def test_the_files_of_a_job_are_as_the_reference_says(floor: Floor) -> None:
    await put_raw(floor, "1\n")
    volume = {"type": "volume"}
    shared = {"old": {"type": "volume"}}
    raw = {"type": "dataset", "with": {"ref": "raw"}}
    many = {"matrix": {"LR": ["0.1", "0.2"]}}
    found = flow(
        make=script(BASE, "echo made > /outputs/repo/file", outputs={"repo": volume}),
        look=script(BASE, LOOK, "make", inputs={"repo": "make.outputs.repo", "data": raw},
                    outputs={"repo": volume, "v": volume}),
        after=script(BASE, 'test "$(cat /inputs/*/file)" = "made\nmine"\ntest ! -e /inputs/beside', "look",
                     inputs={"first": "make.outputs.repo", "then": "look.outputs.repo"}),
        sweep=script(BASE, "printf $LR > /outputs/lr; touch /outputs/v/$LR", strategy=many,
                     outputs={"lr": {"type": "string"}, "v": volume}),
        gather=script(BASE, "test $(cat /inputs/lr/sweep-1) = 0.1; test $(cat /inputs/lr/sweep-2) = 0.2\n"
                      "test -e /inputs/v/sweep-1/0.1; test -e /inputs/v/sweep-2/0.2; touch /inputs/v/sweep-1/new",
                      "sweep", inputs={"lr": "sweep.outputs.lr", "v": "sweep.outputs.v"}),
        fill=script(BASE, "echo shared > /inputs/old/file", inputs=shared),
        use=script(BASE, "test $(cat /inputs/old/file) = shared", "fill", inputs=shared),
    )  # fmt: skip
    run = floor.submit(found)
    ended = await floor.finish(run)
    assert ended.phase == "Succeeded", [(job.name, job.message) for job in floor.jobs(run).values()]
