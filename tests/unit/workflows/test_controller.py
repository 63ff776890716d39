"""Whole runs on an engine in memory: volumes, datasets, secrets, slots, cancels, timeouts, lost containers."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from appliance.datasets.ref import dataset_id
from appliance.errors import Conflict, EngineDown, EngineError, SpecError, StorageError, TelemetryError, UsageError
from appliance.settings import load as load_settings
from appliance.state import events, resources, runs
from appliance.state.db import Connection
from appliance.telemetry.draining import TRIES
from appliance.workflows import exchange, hosted, keeping, plan, preparing
from appliance.workflows.controller import RECHECK_S
from appliance.workflows.submit import cancel_run, start_run
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, script

pytestmark = pytest.mark.anyio


def write(target: str, text: str) -> Any:
    def body(inside: Inside) -> int:
        inside.path(target).write_text(text)
        return 0

    return body


def forever(inside: Inside) -> None:
    return None


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


async def test_a_failed_job_omits_what_needs_it_and_commits_nothing(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {"data": {"type": "dataset", "with": {"ref": "digits"}}}
    run = bench.submit(
        flow(bad=script(outputs=outputs), after=script("bad"), deep=script("after"), other=script()),
        body={"bad": lambda inside: 3},
    )
    await bench.settle()
    assert bench.phases(run) == {"bad": "Failed", "after": "Omitted", "deep": "Omitted", "other": "Succeeded"}
    jobs = bench.jobs(run)
    assert (jobs["bad"].message, jobs["bad"].exit_code) == ("exit code 3", 3)
    assert jobs["deep"].message == "bad failed"
    assert (bench.run(run).phase, bench.run(run).message) == ("Failed", "bad: exit code 3")
    assert bench.datasets.versions("digits") == []
    assert bench.leftovers() == []


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


async def test_a_container_that_cannot_start_is_an_error_in_words(bench: Bench) -> None:
    bench.engine.start_error = "no such device"
    run = bench.submit(flow(job=script()))
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert "no such device" in bench.jobs(run)["job"].message


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


async def test_cancel_stops_what_runs_and_leaves_nothing(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {"d": {"type": "dataset", "with": {"ref": "digits"}}, "v": {"type": "volume"}}
    run = bench.submit(
        flow(quick=script(), slow=script("quick", outputs=outputs), never=script("slow")), body={"slow": forever}
    )
    await bench.settle()
    assert bench.phases(run) == {"quick": "Succeeded", "slow": "Running", "never": "Pending"}
    cancel_run(bench.db, run.id, now=bench.clock())
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    assert bench.phases(run) == {"quick": "Succeeded", "slow": "Canceled", "never": "Canceled"}
    assert bench.run(run).phase == "Canceled"
    assert bench.engine.starts == ["quick", "slow"]
    assert bench.leftovers() == []
    assert bench.datasets.versions("digits") == []


async def test_a_cancel_after_the_commit_comes_too_late_for_that_job(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {"d": {"type": "dataset", "with": {"ref": "digits"}}}
    run = bench.submit(flow(make=script(outputs=outputs), after=script("make")))

    def kill_after_commit(call: str) -> None:
        if call == "commit done" and any(version.committed for version in bench.datasets.versions("digits")):
            bench.watch(lambda call: None)
            bench.queue.clear()
            raise Killed

    bench.watch(kill_after_commit)
    while not bench.kills:
        await bench.settle_some(1)
    cancel_run(bench.db, run.id, now=bench.clock())
    await bench.settle()
    assert bench.phases(run) == {"make": "Succeeded", "after": "Canceled"}
    assert bench.run(run).phase == "Canceled"
    assert len(bench.datasets.versions("digits")) == 1


async def test_a_run_that_has_ended_cannot_be_canceled(bench: Bench) -> None:
    run = bench.submit(flow(job=script()))
    await bench.settle()
    with pytest.raises(Conflict, match="has ended already: Succeeded"):
        cancel_run(bench.db, run.id, now=bench.clock())


async def test_a_timeout_stops_the_job_and_says_so(bench: Bench) -> None:
    run = bench.submit(flow(slow=script(timeout=60), after=script("slow")), body={"slow": forever})
    await bench.settle()
    bench.wait(59)
    await bench.settle()
    assert bench.phases(run)["slow"] == "Running"
    assert bench.again == pytest.approx(1.0)
    bench.wait(1)
    await bench.settle()
    assert bench.phases(run) == {"slow": "Failed", "after": "Omitted"}
    assert "timeout of 60 s" in bench.jobs(run)["slow"].message


async def test_a_runs_timeout_ends_everything(bench: Bench) -> None:
    run = bench.submit({**flow(slow=script(), after=script("slow")), "timeout": 100}, body={"slow": forever})
    await bench.settle()
    bench.wait(100)
    await bench.settle()
    assert bench.phases(run) == {"slow": "Failed", "after": "Omitted"}
    assert "run's timeout of 100 s" in bench.run(run).message


async def test_an_end_before_the_timeout_counts_even_if_it_is_seen_later(bench: Bench, clock: Clock) -> None:
    run = bench.submit(flow(job=script(timeout=60)), body={"job": forever})
    await bench.settle()
    clock.now += 30
    bench.engine.exit("job", 0)
    clock.now += 500
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}


async def test_a_container_that_vanished_is_never_run_again(bench: Bench) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    (container,) = bench.engine.containers.values()
    await bench.engine.remove(container.id)
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert "disappeared" in bench.jobs(run)["job"].message
    assert bench.engine.starts == ["job"]
    assert bench.leftovers() == []


async def test_a_start_that_nobody_saw_the_end_of_is_not_repeated(bench: Bench) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})

    def kill_after_start(call: str) -> None:
        if call == "start done":
            bench.engine.containers.clear()
            raise Killed

    bench.engine.before = kill_after_start
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert bench.engine.starts == ["job"]


async def test_a_new_daemon_adopts_what_runs_and_reads_its_log_again(bench: Bench) -> None:
    run = bench.submit(flow(job=script(), after=script("job")), body={"job": forever})
    await bench.settle()
    bench.kill()
    await bench.settle()
    assert bench.telemetry.attached == ["job", "job"]
    bench.engine.exit("job", 0)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded", "after": "Succeeded"}
    assert bench.engine.starts == ["job", "after"]


async def test_jobs_of_all_runs_share_the_slots_oldest_run_first(bench: Bench, clock: Clock) -> None:
    bench.settings = load_settings({"APPLIANCE_MAX_PARALLEL_JOBS": "2"}, home=bench.settings.home)
    bench.kill()
    body = {f"{name}{number}": forever for name in "ab" for number in range(3)}
    first = bench.submit(flow(a0=script(), a1=script(), a2=script()), name="first", body=body)
    clock.now += 1
    second = bench.submit(flow(b0=script(), b1=script(), b2=script()), name="second")
    await bench.settle()
    assert bench.engine.running() == ["a0", "a1"]
    assert bench.run(second).phase == "Pending"
    assert "free slot" in bench.run(second).message
    for expected in (["a1", "a2"], ["a2", "b0"], ["b0", "b1"], ["b1", "b2"], ["b2"], []):
        bench.engine.exit(bench.engine.running()[0], 0)
        await bench.settle()
        assert bench.engine.running() == expected
    assert bench.engine.most_running == 2
    assert bench.run(first).phase == bench.run(second).phase == "Succeeded"


async def test_without_disk_space_no_job_begins_and_what_runs_goes_on(bench: Bench) -> None:
    run = bench.submit(flow(a=script(), b=script("a")), body={"a": forever})
    await bench.settle()
    bench.no_room = "waits for disk space"
    waiting = bench.submit(flow(c=script()), name="other")
    bench.engine.exit("a", 0)
    await bench.settle()
    assert bench.phases(run) == {"a": "Succeeded", "b": "Pending"}
    assert bench.jobs(run)["b"].message == bench.run(run).message == "waits for disk space"
    assert (bench.run(waiting).phase, bench.run(waiting).message) == ("Pending", "waits for disk space")
    bench.no_room = ""
    bench.wake_all()
    await bench.settle()
    assert bench.run(run).phase == bench.run(waiting).phase == "Succeeded"
    assert bench.run(run).message == bench.jobs(run)["b"].message == ""


def _one_slot(bench: Bench) -> None:
    bench.settings = load_settings({"APPLIANCE_MAX_PARALLEL_JOBS": "1"}, home=bench.settings.home)
    bench.kill()


async def test_a_newer_run_does_not_take_the_slot_an_older_one_waits_for(bench: Bench, clock: Clock) -> None:
    _one_slot(bench)
    older = bench.submit(flow(a=script()), name="older", body={"a": forever, "b0": forever, "b1": forever})
    bench.queue.clear()
    clock.now += 1
    bench.submit(flow(b0=script(), b1=script()), name="newer")
    await bench.settle()
    bench.hint(older.id)
    await bench.settle()
    assert bench.engine.running() == ["b0"]
    bench.engine.exit("b0", 0)
    await bench.settle()
    assert bench.engine.running() == ["a"]


async def test_a_waiting_run_that_gives_up_lets_the_next_one_in(bench: Bench, clock: Clock) -> None:
    _one_slot(bench)
    body = {"first": forever, "second": forever, "third": forever}
    found = []
    for name in body:
        found.append(bench.submit(flow(**{name: script()}), name=name, body=body))
        clock.now += 1
    await bench.settle()
    cancel_run(bench.db, found[1].id, now=clock())
    bench.engine.exit("first", 0)
    await bench.settle()
    assert bench.run(found[1]).phase == "Canceled"
    assert bench.engine.running() == ["third"]


async def test_a_run_whose_spec_became_unreadable_ends(bench: Bench) -> None:
    run = bench.submit(flow(job=script(outputs={"v": {"type": "volume"}})), body={"job": forever})
    await bench.settle()
    with bench.db.write() as db:
        db.execute("UPDATE runs SET spec = '{}'")
    bench.kill()
    await bench.settle()
    assert (bench.run(run).phase, bench.phases(run)) == ("Error", {"job": "Error"})
    assert "cannot be read any more" in bench.run(run).message
    assert bench.leftovers() == []


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


async def test_an_engine_that_is_down_is_waited_for(bench: Bench) -> None:
    run = bench.submit(flow(job=script()))

    def down(call: str) -> None:
        raise EngineDown("is not running", where="docker engine", hint="start it")

    bench.engine.before = down
    with pytest.raises(EngineDown):
        await bench.settle()
    assert bench.jobs(run)["job"].message == "is not running; trying again"
    bench.engine.before = lambda call: None
    bench.kill()
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"


async def test_a_container_of_the_same_name_that_is_not_ours_is_left_alone(bench: Bench) -> None:
    run = bench.submit(flow(job=script()))
    await bench.controller.reconcile(run.id)
    name = bench.jobs(run)["job"].container
    created = await bench.engine.create(
        _foreign(name),
    )
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert "not this job's" in bench.jobs(run)["job"].message
    assert created.id in bench.engine.containers
    assert bench.engine.starts == []


def _foreign(name: str) -> Any:
    from appliance.engine.labels import Owner
    from appliance.engine.types import ContainerSpec

    owner = Owner(instance="ffffffff", kind="run", name="x.1", uid="someone", part="job")
    return ContainerSpec(name=name, image="busybox", labels=owner.to_labels())


async def test_sweep_removes_what_no_run_knows(bench: Bench) -> None:
    run = bench.submit(flow(job=script(outputs={"v": {"type": "volume"}})), body={"job": forever})
    await bench.settle()
    await bench.controller.sweep()
    assert len(bench.leftovers()) > 1
    with bench.db.write() as db:
        runs.set_phase(db, run.id, "Canceled", finished=bench.clock())
    await bench.controller.sweep()
    assert bench.leftovers() == []


async def test_a_log_that_cannot_be_stored_holds_the_job_up_for_a_while_only(bench: Bench) -> None:
    run = bench.submit(flow(job=script()))
    bench.telemetry.error = TelemetryError("the disk is full")
    for _ in range(TRIES - 1):
        with pytest.raises(TelemetryError):
            await bench.settle()
        assert bench.jobs(run)["job"].message == "the disk is full; trying again"
        bench.hint(f"{run.id}/job")
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"
    reasons = [event.reason for event in events.newest(bench.db.read, kind="run")]
    assert "LogsIncomplete" in reasons


async def test_what_is_ignored_is_said(bench: Bench) -> None:
    resources_ = {"instance-type": "A4000", "container-registries": ["mine"]}
    bench.submit(
        {"defaults": {"resources": resources_}, **flow(job=script(), cpu=script(resources={"instance-type": "C5"}))}
    )
    told = [event.message for event in events.newest(bench.db.read, kind="run") if event.reason == "Ignored"]
    assert [message.partition(":")[0] for message in told] == [
        "container-registries (mine) are not used yet",
        "GPUs are not leased yet",
    ]
    assert "A4000" in told[1]
    assert "C5" not in told[1]


async def test_events_tell_the_story(bench: Bench) -> None:
    bench.submit(flow(good=script(), bad=script("good"), after=script("bad")), body={"bad": lambda inside: 1})
    await bench.settle()
    told = [(event.reason, event.message) for event in events.newest(bench.db.read, kind="run", name="flow.1")]
    assert told == [
        ("Submitted", "3 jobs"),
        ("Started", "the first job starts"),
        ("JobStarted", "good runs"),
        ("JobSucceeded", "good"),
        ("JobStarted", "bad runs"),
        ("JobFailed", "bad: exit code 1"),
        ("JobOmitted", "after: bad failed"),
        ("Failed", "bad: exit code 1"),
    ]


async def test_a_hundred_waiting_runs_never_ask_the_engine(bench: Bench) -> None:
    bench.submit(flow(**{f"job{number}": script() for number in range(4)}), body={f"job{n}": forever for n in range(4)})
    await bench.settle()
    calls: list[str] = []
    bench.engine.before = calls.append
    for number in range(100):
        bench.submit(flow(waiting=script()), name=f"flow{number}")
    await bench.settle()
    assert calls == []


def test_numbers_count_within_a_workflow_and_the_document_is_kept(bench: Bench) -> None:
    document = flow(job=script())
    with bench.db.write() as db:
        workflow, _ = resources.put(db, "workflow", "flow", document, source="cli", now=1.0)
    found = [start_run(bench.db, workflow, "flow", document, {}, now=1.0) for _ in range(2)]
    assert [run.number for run in found] == [1, 2]
    assert found[0].spec == document
    assert found[0].workflow_uid == workflow.uid


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        (
            flow(
                get={
                    "uses": "git-checkout@v1",
                    "with": {"url": "context.event.github.url"},
                    "outputs": {"d": {"type": "volume"}},
                }
            ),
            UsageError,
            "no GitHub event",
        ),
        ({"inputs": {"d": {"type": "dataset"}}, **flow(job=script())}, UsageError, "no value for input d"),
        (flow(job={"uses": "script@v2", "with": {}}), SpecError, "script@v2"),
    ],
)
def test_what_cannot_run_is_refused_at_once(
    bench: Bench, document: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        start_run(bench.db, None, "flow", document, {}, now=1.0)
    assert runs.newest(bench.db.read) == []


RETRIED = {"limit": 2, "delay": 10}


async def test_a_job_that_fails_is_tried_again_with_back_off(bench: Bench) -> None:
    codes = iter([1, 2, 0])
    run = bench.submit(flow(job=script(retry=RETRIED), after=script("job")), body={"job": lambda inside: next(codes)})
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert (job.phase, job.attempt) == ("Pending", 2)
    assert job.message == "attempt 1 of 3: exit code 1; the next begins 10 s later"
    bench.wait(9)
    await bench.settle()
    assert bench.engine.starts == ["job"]
    bench.wait(1)
    await bench.settle()
    assert bench.jobs(run)["job"].message == "attempt 2 of 3: exit code 2; the next begins 20 s later"
    assert bench.engine.containers == {}
    bench.wait(20)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded", "after": "Succeeded"}
    assert bench.engine.starts == ["job", "job", "job", "after"]
    names = [spec.name for spec in bench.engine.specs.values()]
    assert len(set(names)) == 4, "each attempt has a container of its own"


async def test_the_last_attempt_says_why_it_failed(bench: Bench) -> None:
    run = bench.submit(flow(job=script(retry={"limit": 1, "delay": 0})), body={"job": lambda inside: 3})
    await bench.settle()
    bench.wait(0)
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert (job.phase, job.attempt, job.message, job.exit_code) == ("Failed", 2, "exit code 3", 3)


async def test_an_attempt_begins_with_empty_folders(bench: Bench) -> None:
    found: list[list[str]] = []

    def body(inside: Inside) -> int:
        found.append(sorted(path.name for path in inside.path("/outputs/v").iterdir()))
        inside.path("/outputs/v/left").write_text("by the first")
        return int(len(found) == 1)

    document = flow(job=script(retry={"limit": 1, "delay": 0}, outputs={"v": {"type": "volume"}}))
    run = bench.submit(document, body={"job": body})
    await bench.settle()
    bench.wait(0)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}
    assert found == [[], []]


@pytest.mark.parametrize("why", ["a backup", "the store"])
async def test_an_attempt_waits_until_the_one_before_can_be_cleared_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    run, found = await _stuck_attempt(bench, monkeypatch, why)
    job = bench.jobs(run)["job"]
    assert (job.phase, job.attempt, bench.engine.starts) == ("Starting", 2, ["job"])
    words = "a backup reads volume" if why == "a backup" else "busy"
    assert job.message.startswith(f"what attempt 1 has left cannot be removed yet: {words}")
    assert job.message.endswith("; trying again")
    bench.store.gate.unpin("point")
    monkeypatch.undo()
    bench.hint(f"{run.id}/job")
    await bench.settle()
    assert (bench.phases(run), found) == ({"job": "Succeeded"}, [[], []])
    assert bench.leftovers() == []


async def test_a_cancel_ends_an_attempt_that_waits_for_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = await _stuck_attempt(bench, monkeypatch, "a backup")
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    with suppress(Conflict):
        await bench.settle()
    assert bench.phases(run) == {"job": "Canceled"}


async def _stuck_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch, why: str) -> tuple[runs.Run, list[list[str]]]:
    """The second attempt, while the volume of the first one cannot be destroyed; what each attempt found in it."""
    found: list[list[str]] = []
    destroy = bench.store.destroy

    def refuse(volume: str) -> None:
        if "/out-" in volume:
            raise StorageError("busy")
        destroy(volume)

    def body(inside: Inside) -> int:
        found.append(sorted(path.name for path in inside.path("/outputs/v").iterdir()))
        inside.path("/outputs/v/left").write_text("by the first")
        if len(found) == 1 and why == "a backup":
            bench.store.gate.pin("point", bench.store.volumes("runs"))
        elif len(found) == 1:
            monkeypatch.setattr(bench.store, "destroy", refuse)
        return int(len(found) == 1)

    document = flow(job=script(retry={"limit": 1, "delay": 0}, outputs={"v": {"type": "volume"}}))
    run = bench.submit(document, body={"job": body})
    for _ in range(4):
        with suppress(Conflict, StorageError):
            await bench.settle()
        bench.wait(0)
        bench.hint(f"{run.id}/job")
    return run, found


async def test_a_cancel_ends_the_wait_for_the_next_attempt_at_once(bench: Bench) -> None:
    run = bench.submit(flow(job=script(retry={"limit": 2, "delay": 3000})), body={"job": lambda inside: 1})
    await bench.settle()
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    assert (bench.run(run).phase, bench.phases(run)) == ("Canceled", {"job": "Canceled"})
    assert bench.leftovers() == []


async def test_what_a_killed_attempt_has_left_is_not_taken_for_the_next(bench: Bench) -> None:
    """The daemon dies after it wrote that there will be another attempt, and before it removed the container."""
    run = bench.submit(flow(job=script(retry={"limit": 1, "delay": 5})), body={"job": lambda inside: 1})

    def kill(call: str) -> None:
        if call == "remove" and bench.jobs(run)["job"].attempt == 2:
            bench.watch(lambda call: None)
            raise Killed

    bench.watch(kill)
    await bench.settle()
    (left,) = bench.engine.containers.values()
    assert left.state == "exited"
    bench.engine.body = {"job": lambda inside: 0}
    bench.wait(5)
    bench.hint(run.id)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}
    assert bench.engine.starts == ["job", "job"]
    assert bench.leftovers() == []


async def test_a_sweep_removes_what_a_killed_attempt_has_left(bench: Bench) -> None:
    run = bench.submit(flow(job=script(retry={"limit": 1, "delay": 500})), body={"job": lambda inside: 1})

    def kill(call: str) -> None:
        if call == "remove":
            bench.watch(lambda call: None)
            raise Killed

    bench.watch(kill)
    await bench.settle()
    assert len(bench.engine.containers) == 1
    await bench.controller.sweep()
    assert bench.engine.containers == {}
    assert bench.phases(run) == {"job": "Pending"}


@pytest.fixture
def slow_hosted(monkeypatch: pytest.MonkeyPatch) -> None:
    """create-model@v1 that never gets done."""

    async def act(*given: object) -> str:
        return "waits for something"

    monkeypatch.setattr(hosted, "act", act)


HOSTED_JOB = {
    "uses": "create-model@v1",
    "with": {"name": "digits", "type": "Custom"},
    "needs": ["train"],
    "inputs": {"model": "train.outputs.model"},
}
TRAIN = script(outputs={"model": {"type": "dataset", "with": {"ref": "weights"}}})


@pytest.mark.usefixtures("slow_hosted")
async def test_what_the_daemon_does_itself_times_out_too(bench: Bench) -> None:
    bench.datasets.create("weights")
    run = bench.submit(flow(train=TRAIN, register={**HOSTED_JOB, "timeout": 60}))
    await bench.settle()
    assert (bench.phases(run)["register"], bench.jobs(run)["register"].message) == ("Running", "waits for something")
    for _ in range(59):
        bench.wait(1)
        await bench.settle()
    assert bench.phases(run)["register"] == "Running"
    bench.wait(1)
    await bench.settle()
    assert bench.phases(run)["register"] == "Failed"
    assert "its timeout of 60 s" in bench.jobs(run)["register"].message


@pytest.mark.usefixtures("slow_hosted")
async def test_what_the_daemon_does_itself_can_be_canceled(bench: Bench) -> None:
    bench.datasets.create("weights")
    run = bench.submit(flow(train=TRAIN, register=HOSTED_JOB))
    await bench.settle()
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    assert bench.phases(run) == {"train": "Succeeded", "register": "Canceled"}
    assert bench.run(run).phase == "Canceled"


async def test_a_queued_run_waits_for_the_older_one_and_says_so(bench: Bench) -> None:
    document = {"concurrency": "queue", **flow(job=script())}
    first = bench.submit(document, body={"job": forever})
    await bench.settle()
    second = bench.submit(document)
    other = bench.submit(flow(other=script()), name="other")
    await bench.settle()
    assert bench.run(second).phase == "Pending"
    assert bench.run(second).message == "waits for flow.1: one run at a time (concurrency: queue)"
    assert bench.run(other).phase == "Succeeded", "a held run holds up nobody else"
    bench.kill()
    await bench.settle()
    assert bench.run(second).phase == "Pending"
    bench.engine.body = {}
    bench.engine.exit("job", 0)
    await bench.settle()
    assert (bench.run(first).phase, bench.run(second).phase) == ("Succeeded", "Succeeded")
    assert bench.run(second).message == ""


async def test_a_long_queue_costs_each_look_no_spec_but_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"concurrency": "queue", **flow(job=script())}
    bench.submit(document, body={"job": forever})
    held = [bench.submit(document) for _ in range(12)]
    await bench.settle()
    read: list[str] = []
    made = runs._run

    def counted(row: Any) -> runs.Run:
        read.append(row["spec"])
        return made(row)

    monkeypatch.setattr(runs, "_run", counted)
    for run in held:
        bench.hint(run.id)
    await bench.settle()
    assert set(read) == {"{}"}
    assert len(read) <= 2 * len(held)


async def test_the_end_of_a_run_wakes_the_oldest_held_one_of_its_workflow_only(bench: Bench) -> None:
    document = {"concurrency": "queue", **flow(job=script())}
    first, foreign = bench.submit(document, body={"job": forever}), bench.submit(document, name="other")
    await bench.settle()
    held = [bench.submit(document, name=name) for name in ("flow", "flow", "flow", "other")]
    await bench.settle()
    cancel_run(bench.db, held[0].id, now=bench.clock())
    bench.hint(held[0].id)
    await bench.settle()
    hinted: list[str] = []
    hint = bench.controller._hint

    def noted(kind: str, key: str) -> None:
        hinted.append(key)
        hint(kind, key)

    bench.controller._hint = noted
    bench.engine.body = {}
    bench.engine.exit("job", 0)  # of both workflows
    while bench.run(first).finished is None:
        await bench.settle_some(1)
    assert not set(hinted) & {held[2].id}, "it waits for the one that waits already"
    await bench.settle()
    assert hinted.index(held[1].id) < hinted.index(held[2].id)
    assert {bench.run(run).phase for run in (first, foreign, *held[1:])} == {"Succeeded"}


async def test_a_start_that_nobody_saw_is_told_all_the_same(bench: Bench) -> None:
    at_once = bench.submit(flow(job=script()))
    await bench.settle()
    seen = bench.submit(flow(slow=script()), body={"slow": forever}, name="seen")
    await bench.settle()
    bench.engine.exit("slow", 0)
    await bench.settle()
    assert [bench.run(run).phase for run in (at_once, seen)] == ["Succeeded", "Succeeded"]
    told = [(event.name, event.message) for event in _events(bench, "JobStarted")]
    assert told == [("flow.1", "job runs"), ("seen.1", "slow runs")]


async def test_an_attempt_that_failed_before_anybody_looked_has_started_too(bench: Bench) -> None:
    bench.submit(flow(job=script(retry=1)), body={"job": lambda inside: 3})
    await bench.settle()
    bench.wait(3600)
    await bench.settle()
    assert len(bench.engine.starts) == 2
    assert len(_events(bench, "JobStarted")) == 2


async def test_a_container_that_never_began_has_not_started(bench: Bench) -> None:
    bench.engine.start_error = "no such command"
    run = bench.submit(flow(job=script()))
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert _events(bench, "JobStarted") == []


def _events(bench: Bench, reason: str) -> list[events.Event]:
    return [event for event in events.newest(bench.db.read, kind="run", limit=1000) if event.reason == reason]


@pytest.mark.parametrize("error", [NameError("no `kept`"), EngineDown("no engine", hint="start it")])
async def test_a_run_whose_end_fails_says_so_and_one_event_tells_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    settle = keeping.settle

    async def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(keeping, "settle", broken)
    run = bench.submit(flow(job=script()))
    for _ in range(4):
        bench.hint(run.id)
        with suppress(type(error)):
            await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}
    shown = bench.run(run)
    assert shown.phase == "Running"
    assert shown.message.startswith("all jobs are over; ending it fails: ")
    assert str(error.args[0]) in shown.message
    assert shown.message.endswith("; tried again")
    bench.kill()
    with suppress(type(error)):
        await bench.settle()
    (told,) = _events(bench, "EndingFailed")
    assert (told.level, told.message) == ("error", shown.message)
    monkeypatch.setattr(keeping, "settle", settle)
    bench.hint(run.id)
    await bench.settle()
    assert (bench.run(run).phase, bench.run(run).message) == ("Succeeded", "")


async def test_what_nobody_expected_is_shown_by_the_run_until_it_passes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.vault.set("WORD", "s3cr3t-word")
    make = preparing.prepare

    async def broken(*_: object, **__: object) -> None:
        raise KeyError("s3cr3t-word of the vault")

    monkeypatch.setattr(preparing, "prepare", broken)
    run = bench.submit(flow(job=script()))
    for _ in range(3):
        with suppress(KeyError):
            await bench.settle()
    await bench.settle()
    said = bench.run(run).message
    assert said.startswith("job job: unexpected KeyError: ")
    assert said.endswith("; tried again")
    assert "s3cr3t-word" not in said
    assert bench.jobs(run)["job"].message.startswith("unexpected KeyError")
    monkeypatch.setattr(preparing, "prepare", make)
    bench.wake_all()
    await bench.settle()
    assert (bench.run(run).phase, bench.run(run).message) == ("Succeeded", "")


async def test_a_run_that_cannot_be_looked_at_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(plan, "plan", broken)
        run = bench.submit(flow(job=script()), body={"job": forever})
        with pytest.raises(ZeroDivisionError):
            await bench.settle()
        assert (bench.run(run).phase, bench.run(run).message) == (
            "Pending",
            "unexpected ZeroDivisionError; tried again",
        )
    bench.hint(run.id)
    await bench.settle()
    assert (bench.run(run).phase, bench.run(run).message) == ("Running", "")


async def test_a_container_that_does_not_go_is_asked_about_now_and_then(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = bench.engine.remove

    async def stays(container_id: str) -> None:
        """Docker calls a removal done that is under way already."""

    monkeypatch.setattr(bench.engine, "remove", stays)
    run = bench.submit(flow(job=script()))
    await bench.settle(most=100)
    assert bench.run(run).phase == "Running"
    assert bench.wakes[run.id] - bench.clock() == plan.REMOVAL_S
    monkeypatch.setattr(bench.engine, "remove", remove)
    for _ in range(2):  # one look removes it, the next one sees it gone
        bench.wait(plan.REMOVAL_S)
        await bench.settle()
    assert bench.run(run).phase == "Succeeded"
    assert bench.engine.containers == {}


async def test_the_sweep_reads_what_stays_once_where_nothing_changes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_runs, asked = keeping.kept_runs, 0

    def counted(db: Connection) -> list[str]:
        nonlocal asked
        asked += 1
        return kept_runs(db)

    made = [bench.submit(flow(job=script(outputs={"o": {"type": "volume"}})), name=f"w{n}") for n in range(6)]
    await bench.settle()
    assert len({volume.split("/")[1] for volume in bench.store.volumes("runs")}) == len(made)
    monkeypatch.setattr(keeping, "kept_runs", counted)
    await bench.controller.sweep()
    assert asked == 1
    bench.store.create("runs/unknown/job/o")
    await bench.controller.sweep()
    assert "runs/unknown/job/o" not in bench.store.volumes("runs")


async def test_a_missed_event_is_made_up_for(bench: Bench) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    bench.engine.notice = lambda owner, action: None
    bench.engine.exit("job", 0)
    bench.wait(RECHECK_S)
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"


async def test_a_clean_up_that_fails_is_done_again_and_the_run_goes_on(bench: Bench) -> None:
    run = bench.submit(flow(job=script(), after=script("job")), body={"after": forever})

    def refuse(call: str) -> None:
        if call == "remove":
            raise EngineError("busy")

    bench.engine.before = refuse
    for _ in range(3):
        with suppress(EngineError):
            await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded", "after": "Running"}
    bench.engine.before = lambda call: None
    bench.hint(f"{run.id}/job")
    await bench.settle()
    assert [container.state for container in bench.engine.containers.values()] == ["running"]


async def test_the_engine_is_asked_only_about_the_job_concerned(bench: Bench) -> None:
    bench.settings = load_settings({"APPLIANCE_MAX_PARALLEL_JOBS": "9"}, home=bench.settings.home)
    bench.kill()
    names = [f"job{number}" for number in range(8)]
    bench.submit(flow(**{name: script() for name in names}), body=dict.fromkeys(names, forever))
    await bench.settle()
    calls: list[str] = []
    bench.engine.before = calls.append
    bench.engine.exit("job3", 0)
    await bench.settle()
    assert calls == ["inspect", "remove", "remove done"]


async def test_a_job_costs_these_calls_of_the_engine(bench: Bench) -> None:
    calls: list[str] = []
    bench.engine.before = calls.append
    bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    bench.engine.exit("job", 0)
    await bench.settle()
    assert [call for call in calls if not call.endswith(" done")] == [
        "ensure", "create", "start", "inspect", "inspect", "remove", "list",
    ]  # fmt: skip


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
    await bench.datasets.destroy(made.uid)
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert "no dataset 'nowhere'" in bench.jobs(run)["job"].message
    assert bench.leftovers() == []
