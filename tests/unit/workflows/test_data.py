"""What goes into a job, from job to job, and out of it: strings, volumes, datasets, secrets, models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.datasets.ref import dataset_id
from appliance.errors import UsageError
from appliance.state import runs
from appliance.workflows import exchange
from tests.unit.workflows.bodies import forever, remove_dataset, write
from tests.unit.workflows.fakes import Bench, Inside, flow, script

pytestmark = pytest.mark.anyio


async def test_a_chain_passes_on_strings_volumes_and_datasets(bench: Bench) -> None:
    bench.datasets.create("digits")
    seen: dict[str, object] = {}

    def train(inside: Inside) -> int:
        seen["text"] = inside.path("/inputs/word").read_text()
        seen["volume"] = inside.path("/inputs/repo/file").read_text()
        seen["read only"] = (inside.read_only("/inputs/data"), inside.read_only("/inputs/repo"))
        seen["data"] = inside.path("/inputs/data/x").read_text()
        inside.path("/inputs/repo/file").write_text("mine alone")
        return 0

    def prepare(inside: Inside) -> int:
        inside.path("/outputs/repo/file").write_text("in the volume")
        inside.path("/outputs/data/x").write_text("in the dataset")
        inside.path("/outputs/word").write_text("a word\n")
        inside.path("/outputs/undeclared").write_text("lost")
        return 0

    outputs = {
        "repo": {"type": "volume"},
        "data": {"type": "dataset", "with": {"ref": "digits"}},
        "word": {"type": "string"},
    }
    inputs = {name: f"prepare.outputs.{name}" for name in outputs}
    document = flow(
        prepare=script(outputs=outputs),
        train=script("prepare", inputs=inputs),
        again=script("train", inputs={**inputs, "fixed": {"type": "dataset", "with": {"ref": "digits"}}}),
    )
    body = {"prepare": prepare, "train": train, "again": lambda inside: int(not _unchanged(inside))}
    run = bench.submit(document, body=body)
    await bench.settle()
    assert bench.phases(run) == {"prepare": "Succeeded", "train": "Succeeded", "again": "Succeeded"}
    assert seen == {
        "text": "a word\n",
        "volume": "in the volume",
        "read only": (True, False),
        "data": "in the dataset",
    }
    (version,) = bench.datasets.versions("digits")
    assert version.committed is not None
    jobs = bench.jobs(run)
    assert jobs["prepare"].outputs["data"]["id"] == f"digits:{version.version}"
    assert jobs["again"].inputs["fixed"]["id"] == f"digits:{version.version}"
    assert bench.run(run).phase == "Succeeded"
    assert bench.leftovers() == []
    assert sorted(bench.telemetry.drained) == ["again", "prepare", "train"]


def _unchanged(inside: Inside) -> bool:
    return inside.path("/inputs/repo/file").read_text() == "in the volume"


async def test_what_only_one_job_used_goes_with_it(bench: Bench) -> None:
    volume = {"v": {"type": "volume"}}
    run = bench.submit(
        flow(
            make=script(outputs=volume),
            read=script("make", inputs={"v": "make.outputs.v"}, outputs=volume),
            slow=script("read"),
        ),
        body={"slow": forever},
    )
    await bench.settle()
    kept = {bench.scratch.volume(run.id, job, "v") for job in ("make", "read")}
    assert set(bench.store.volumes("runs")) == kept | {bench.scratch.volume(run.id, "slow", exchange.VOLUME)}


async def test_a_refused_string_output_commits_no_dataset(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {"a": {"type": "dataset", "with": {"ref": "digits"}}, "word": {"type": "string"}}
    run = bench.submit(flow(job=script(outputs=outputs)), body={"job": write("/outputs/a/x", "x")})
    await bench.settle()
    assert bench.phases(run) == {"job": "Failed"}
    assert "did not write its string output /outputs/word" in bench.jobs(run)["job"].message
    assert bench.datasets.versions("digits") == []


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (script(env={"TOKEN": "secret:MISSING"}), "no secret named 'MISSING'"),
        (script(inputs={"d": {"type": "dataset", "with": {"ref": "nowhere"}}}), "no dataset 'nowhere'"),
        ({"uses": "script@v1", "with": {"image": "nothing", "script": "true"}}, "no image nothing"),
    ],
)
async def test_what_is_missing_is_said_before_anything_starts(bench: Bench, job: dict[str, Any], words: str) -> None:
    run = bench.submit(flow(job=job))
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert words in bench.jobs(run)["job"].message
    assert "next:" in bench.jobs(run)["job"].message
    assert bench.engine.starts == []
    assert bench.leftovers() == []


async def test_secrets_reach_the_container_and_nothing_that_is_kept(bench: Bench) -> None:
    bench.vault.set("TOKEN", "hunter2hunter2")
    specs = bench.engine.specs
    run = bench.submit(flow(job=script(env={"TOKEN": "secret:TOKEN", "APPLIANCE_JOB": "mine"})))
    await bench.settle()
    (spec,) = specs.values()
    assert spec.env["TOKEN"] == "hunter2hunter2"
    assert spec.env["APPLIANCE_JOB"] == "mine"
    assert spec.env["APPLIANCE_RUN"] == "flow.1"
    assert spec.env["APPLIANCE_URL"].startswith("http://host.docker.internal:")
    assert "hunter2" not in json.dumps([dict(spec.labels), list(spec.command or ()), list(spec.entrypoint or ())])
    assert bench.phases(run) == {"job": "Succeeded"}
    dump = "\n".join(bench.db.read.iterdump())
    assert "hunter2" not in dump


async def test_create_model_registers_the_version_that_came_in(bench: Bench) -> None:
    bench.datasets.create("weights")
    document = flow(
        train=script(outputs={"model": {"type": "dataset", "with": {"ref": "weights"}}}),
        register={
            "uses": "create-model@v1",
            "with": {"name": "digits", "type": "Custom"},
            "needs": ["train"],
            "inputs": {"model": "train.outputs.model"},
            "outputs": {"model-id": {"type": "string"}},
        },
        use=script("register", inputs={"id": "register.outputs.model-id"}),
    )
    seen: list[str] = []

    def use(inside: Inside) -> int:
        seen.append(inside.path("/inputs/id").read_text())
        return 0

    run = bench.submit(document, body={"train": write("/outputs/model/w.bin", "1"), "use": use})
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"
    (model,) = bench.models.every()
    assert seen == [model.id]
    assert (model.name, model.version) == ("digits", bench.datasets.resolve("weights").version)
    assert bench.engine.starts == ["train", "use"]


async def test_all_jobs_of_a_run_see_the_version_of_its_start(bench: Bench) -> None:
    bench.datasets.create("digits")
    old = await bench.datasets.commit(await bench.datasets.begin("digits"))
    read = {"d": "workflow.inputs.data"}
    document = {
        "inputs": {"data": {"type": "dataset", "with": {"ref": "digits"}}},
        **flow(
            first=script(inputs=read, outputs={"o": {"type": "dataset", "with": {"ref": "digits"}}}),
            second=script("first", inputs=read),
        ),
    }
    run = bench.submit(document)
    await bench.settle()
    assert len(bench.datasets.versions("digits")) == 2
    for job in bench.jobs(run).values():
        assert job.inputs["d"]["id"] == f"digits:{old.version}"
    assert bench.run(run).inputs["data"]["id"] == f"digits:{old.version}"


def _writes_to(*refs: str) -> dict[str, Any]:
    return script(outputs={f"o{number}": {"type": "dataset", "with": {"ref": ref}} for number, ref in enumerate(refs)})


def test_a_run_that_writes_to_datasets_that_are_not_there_is_refused_with_all_of_them(bench: Bench) -> None:
    there = bench.datasets.create("there")
    document = flow(
        a=_writes_to("there", "some/there", dataset_id(there.uid), "here", "some/where"),
        b=_writes_to("where", "here", "ds" + "0" * 13),
    )
    with pytest.raises(UsageError) as refused:
        bench.submit(document)
    assert refused.value.message == "no datasets 'here', 'where' and 'ds0000000000000', to which its jobs write"
    assert refused.value.hint == (
        "`appliance dataset create here && appliance dataset create where"
        " && appliance dataset create ds0000000000000`, then start it again"
    )
    assert refused.value.where == "workflow flow"
    assert runs.newest(bench.db.read) == []
    with pytest.raises(UsageError, match="no dataset 'one', to which job a writes"):
        bench.submit(flow(a=_writes_to("one")))


async def test_a_dataset_that_goes_after_the_start_ends_its_job_in_words(bench: Bench) -> None:
    made = bench.datasets.create("nowhere")
    run = bench.submit(flow(job=_writes_to("nowhere")))
    remove_dataset(bench, made.uid)
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert "no dataset 'nowhere'" in bench.jobs(run)["job"].message
    assert bench.leftovers() == []
