"""Resume and replay, told by which containers are started, on which inputs and images, also across kills."""

from __future__ import annotations

import json

import pytest

from appliance.datasets import uses
from appliance.errors import Conflict, ImageNotFound
from appliance.fetching.programs import FILES, TOLD
from appliance.settings import load as load_settings
from appliance.state import events, resources, runs
from appliance.workflows import again
from appliance.workflows.steps import actions
from appliance.workflows.submit import cancel_run, start_run
from tests.conftest import Clock
from tests.unit.workflows.bodies import write
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, script

pytestmark = pytest.mark.anyio

OUTPUTS = {
    "word": {"type": "string"},
    "tree": {"type": "volume"},
    "data": {"type": "dataset", "with": {"ref": "digits"}},
}
FIXED = {"type": "dataset", "with": {"ref": "base"}}


def make(inside: Inside) -> int:
    inside.path("/outputs/word").write_text("word")
    inside.path("/outputs/tree/file").write_text("tree")
    inside.path("/outputs/data/file").write_text("data")
    return 0


class Reader:
    """Fails until the secret is right; notes what it was given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, inside: Inside) -> int:
        files = ("word", "tree/file", "data/file", "fixed/file")
        self.seen.append("+".join(inside.path(f"/inputs/{name}").read_text() for name in files))
        inside.path("/inputs/tree/file").write_text("spoiled")
        return 0 if inside.spec.env["TOKEN"] == "right" else 1


DOCUMENT = flow(
    make=script(outputs=OUTPUTS),
    other=script(outputs={"side": {"type": "volume"}}),
    read=script(
        "make",
        inputs={**{name: f"make.outputs.{name}" for name in OUTPUTS}, "fixed": FIXED},
        outputs={"side": {"type": "volume"}},
        env={"TOKEN": "secret:TOKEN"},
    ),
    last=script("read", "other", inputs={"side": "read.outputs.side", "mine": "other.outputs.side", "fixed": FIXED}),
)


async def put_base(bench: Bench, text: str) -> str:
    bench.datasets.create("base")
    version = await bench.datasets.begin("base")
    (await bench.datasets.path(version) / "file").write_text(text)
    return f"base:{(await bench.datasets.commit(version)).version}"


async def failed_run(bench: Bench) -> tuple[runs.Run, Reader]:
    bench.datasets.create("digits")
    await put_base(bench, "first")
    bench.vault.set("TOKEN", "wrong")
    reader = Reader()
    run = bench.submit(DOCUMENT, body={"make": make, "read": reader})
    await bench.settle()
    assert bench.phases(run) == {"make": "Succeeded", "other": "Succeeded", "read": "Failed", "last": "Omitted"}
    bench.engine.starts.clear()
    return run, reader


def resume(bench: Bench, run: runs.Run) -> runs.Run:
    found = again.resume_run(bench.db, run, now=bench.clock())
    bench.hint(found.id)
    return found


async def replay(bench: Bench, run: runs.Run) -> runs.Run:
    found = await again.replay_run(bench.db, bench.engine, run, now=bench.clock())  # type: ignore[arg-type]
    bench.hint(found.id)
    return found


async def test_only_what_failed_and_was_omitted_runs_on_the_inputs_of_then(bench: Bench) -> None:
    run, reader = await failed_run(bench)
    bench.vault.set("TOKEN", "right")
    newer = await put_base(bench, "second")
    resumed = resume(bench, run)
    await bench.settle()
    assert bench.engine.starts == ["read", "last"]
    assert reader.seen == ["word+tree+data+first"] * 2
    jobs = bench.jobs(resumed)
    assert {job.phase for job in jobs.values()} == {"Succeeded"}
    assert (jobs["make"].reused, jobs["other"].reused) == ("flow.1/make", "flow.1/other")
    assert jobs["make"].message == "taken over from flow.1/make"
    assert jobs["last"].inputs["fixed"]["id"] == newer  # it had not begun, so it looks for itself
    assert len(bench.datasets.versions("digits")) == 1
    found = bench.run(resumed)
    assert (found.cause, found.parent, found.mode, found.number) == ("resume", run.id, "resume", 2)
    assert bench.leftovers() == []


async def test_a_retry_of_the_resumed_job_has_the_same_inputs(bench: Bench) -> None:
    bench.datasets.create("digits")
    first = await put_base(bench, "first")
    document = flow(read=script(inputs={"fixed": FIXED}, retry={"limit": 1, "delay": 5}))
    run = bench.submit(document, body={"read": lambda inside: 1})
    await bench.settle()
    bench.wait(5)
    await bench.settle()
    assert bench.run(run).phase == "Failed"
    await put_base(bench, "second")
    resumed = resume(bench, run)
    await bench.settle()
    bench.wait(5)
    await bench.settle()
    assert bench.jobs(resumed)["read"].attempt == 2
    assert bench.jobs(resumed)["read"].inputs["fixed"]["id"] == first


@pytest.mark.parametrize("gone", ["digits", "base"])
async def test_a_version_that_only_a_job_to_come_reads_must_still_be_there(bench: Bench, gone: str) -> None:
    """`first` has made it, or the run was given it; `last` had not begun, so no job's own row names it."""
    bench.datasets.create("digits")
    await put_base(bench, "first")
    document = {
        **flow(
            first=script(outputs={"data": OUTPUTS["data"]}),
            fails=script("first"),
            last=script("fails", "first", inputs={"data": "first.outputs.data", "given": "workflow.inputs.given"}),
        ),
        "inputs": {"given": FIXED},
    }
    run = bench.submit(document, body={"fails": lambda inside: 1})
    await bench.settle()
    assert bench.phases(run) == {"first": "Succeeded", "fails": "Failed", "last": "Omitted"}
    (version,) = bench.datasets.versions(gone)
    await bench.datasets.remove(version)
    with pytest.raises(Conflict, match=f"{gone}:{version.version} that last reads is gone"):
        resume(bench, run)
    assert len(runs.newest(bench.db.read)) == 1


async def test_a_version_that_only_jobs_taken_over_have_read_may_go(bench: Bench) -> None:
    await put_base(bench, "first")
    document = {
        **flow(first=script(inputs={"given": "workflow.inputs.given"}), fails=script("first")),
        "inputs": {"given": FIXED},
    }
    run = bench.submit(document, body={"fails": lambda inside: 1})
    await bench.settle()
    await bench.datasets.remove(bench.datasets.versions("base")[0])
    bench.engine.body = {}
    resumed = resume(bench, run)
    await bench.settle()
    assert bench.run(resumed).phase == "Succeeded"


async def test_a_resumed_run_can_be_resumed_again(bench: Bench) -> None:
    run, reader = await failed_run(bench)
    second = resume(bench, run)
    await bench.settle()
    assert bench.run(second).phase == "Failed"
    bench.vault.set("TOKEN", "right")
    third = resume(bench, second)
    await bench.settle()
    assert bench.run(third).phase == "Succeeded"
    assert bench.engine.starts == ["read", "read", "last"]
    assert reader.seen == ["word+tree+data+first"] * 3
    assert bench.jobs(third)["make"].reused == "flow.1/make"


@pytest.mark.parametrize("number", range(0, 90, 6))
async def test_a_kill_during_a_resumed_run_starts_nothing_twice(bench: Bench, number: int) -> None:
    run, reader = await failed_run(bench)
    bench.vault.set("TOKEN", "right")
    resumed = resume(bench, run)
    count = iter(range(10**6))

    def before(call: str) -> None:
        if next(count) == number:
            raise Killed(call)

    bench.watch(before)
    await bench.settle()
    bench.watch(lambda call: None)
    for _ in range(3):
        bench.wake_all()
        await bench.settle()
    assert bench.run(resumed).phase == "Succeeded", bench.jobs(resumed)
    assert bench.engine.starts == ["read", "last"]
    assert reader.seen == ["word+tree+data+first"] * 2
    assert bench.leftovers() == []


async def test_resume_is_refused_in_words(bench: Bench, clock: Clock) -> None:
    run, _ = await failed_run(bench)
    good = bench.submit(flow(job=script()), name="good")
    await bench.settle()
    with pytest.raises(Conflict, match=r"all jobs of run good\.1 have succeeded"):
        resume(bench, good)
    slow = bench.submit(flow(job=script()), name="slow", body={"job": lambda inside: None})
    await bench.settle()
    with pytest.raises(Conflict, match=r"run slow\.1 has not ended"):
        resume(bench, slow)
    version = bench.jobs(run)["read"].inputs["fixed"]["id"]
    with pytest.raises(Conflict, match=r"what is kept of run flow\.1, job read"):
        await bench.datasets.remove(bench.datasets.resolve(version))
    bench.no_room = ""
    clock.now += 8 * 86_400
    await bench.controller.tend(clock.now)
    with pytest.raises(Conflict, match=r"the volume '(tree|side)' of job (make|other), which \w+ reads, is gone"):
        resume(bench, run)
    assert [volume for volume in bench.store.volumes("runs") if run.id in volume] == []
    count = len(runs.newest(bench.db.read))
    await bench.datasets.remove(bench.datasets.resolve(version))
    with pytest.raises(Conflict):
        resume(bench, run)
    assert len(runs.newest(bench.db.read)) == count


async def test_a_version_that_vanished_is_named(bench: Bench) -> None:
    run, _ = await failed_run(bench)
    with bench.db.write() as db:
        db.execute("DELETE FROM capsules")
    version = bench.jobs(run)["read"].inputs["fixed"]["id"]
    assert uses.of_versions(bench.db.read) == {}
    await bench.datasets.remove(bench.datasets.resolve(version))
    with pytest.raises(Conflict, match=f"the dataset version {version} that read reads is gone"):
        resume(bench, run)


async def test_a_canceled_run_goes_on_where_no_volume_is_missing(bench: Bench) -> None:
    document = flow(
        quick=script(outputs={"word": {"type": "string"}}), slow=script("quick", inputs={"w": "quick.outputs.word"})
    )

    def quick(inside: Inside) -> int:
        inside.path("/outputs/word").write_text("word")
        return 0

    run = bench.submit(document, body={"quick": quick, "slow": lambda inside: None})
    await bench.settle()
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    assert bench.run(run).phase == "Canceled"
    assert bench.store.volumes("runs") == []
    bench.engine.body = {"quick": quick}
    resumed = resume(bench, run)
    await bench.settle()
    assert bench.run(resumed).phase == "Succeeded"
    assert bench.engine.starts == ["quick", "slow", "slow"]


@pytest.mark.parametrize("use", [{"repo": {"type": "volume"}}, {"mine": "workflow.inputs.repo"}])
async def test_a_volume_of_the_run_that_jobs_share_cannot_be_gone_back_to(bench: Bench, use: dict[str, object]) -> None:
    document = flow(fill=script(inputs={"place": "workflow.inputs.repo"}), use=script("fill", inputs=use))
    run = bench.submit(
        {"inputs": {"repo": {"type": "volume"}, "word": {"type": "string", "with": {"value": "w"}}}, **document},
        body={"fill": write("/inputs/place/file", "by fill"), "use": lambda inside: 1},
    )
    await bench.settle()
    assert bench.phases(run) == {"fill": "Succeeded", "use": "Failed"}
    with pytest.raises(Conflict, match="job use shares the volume 'repo'"):
        resume(bench, run)


async def test_volumes_that_jobs_share_cannot_be_gone_back_to(bench: Bench) -> None:
    shared = {"repo": {"type": "volume"}}
    document = flow(fill=script(inputs=shared), use=script("fill", inputs=shared))
    run = bench.submit(document, body={"use": lambda inside: 1})
    await bench.settle()
    with pytest.raises(Conflict, match="job use shares the volume 'repo'"):
        resume(bench, run)


async def test_a_workflow_that_is_being_deleted_takes_no_run(bench: Bench) -> None:
    run, _ = await failed_run(bench)
    with bench.db.write() as db:
        row, _ = resources.put(db, "workflow", "flow", DOCUMENT, source="cli", now=1.0)
        db.execute("UPDATE runs SET workflow_uid = ?", (row.uid,))
        resources.set_deleting(db, row.uid, now=1.0)
    with pytest.raises(Conflict, match="is being deleted"):
        resume(bench, run)


async def test_replay_runs_everything_on_the_versions_and_images_of_then(bench: Bench) -> None:
    run, reader = await failed_run(bench)
    bench.vault.set("TOKEN", "right")
    good = resume(bench, run)
    await bench.settle()
    await put_base(bench, "second")
    bench.engine.moved["busybox"] = "sha256:another"
    bench.engine.starts.clear()
    replayed = await replay(bench, good)
    await bench.settle()
    assert sorted(bench.engine.starts) == ["last", "make", "other", "read"]
    assert reader.seen[-1] == "word+tree+data+first"
    before, after = bench.jobs(good), bench.jobs(replayed)
    assert {job.image for job in after.values()} == {"sha256:busybox"}
    assert after["read"].inputs["fixed"] == before["read"].inputs["fixed"]
    assert {job.reused for job in after.values()} == {""}
    assert len(bench.datasets.versions("digits")) == 2
    assert bench.run(replayed).phase == "Succeeded"
    assert bench.leftovers() == []


async def test_what_a_run_has_made_and_read_by_name_is_made_and_read_anew(bench: Bench) -> None:
    bench.datasets.create("digits")
    document = flow(
        write=script(outputs={"data": {"type": "dataset", "with": {"ref": "digits"}}}),
        read=script("write", inputs={"d": {"type": "dataset", "with": {"ref": "digits"}}}),
    )
    run = bench.submit(document)
    await bench.settle()
    replayed = await replay(bench, run)
    await bench.settle()
    made = bench.jobs(replayed)["write"].outputs["data"]["id"]
    assert bench.jobs(replayed)["read"].inputs["d"]["id"] == made != bench.jobs(run)["read"].inputs["d"]["id"]


async def test_replay_is_refused_in_words(bench: Bench) -> None:
    run, _ = await failed_run(bench)
    version = bench.jobs(run)["read"].inputs["fixed"]["id"]
    bench.engine.gone.add("sha256:busybox")
    with pytest.raises(ImageNotFound, match="sha256:busybox, is not on this machine any more"):
        await replay(bench, run)
    bench.engine.gone.clear()
    with bench.db.write() as db:
        db.execute("DELETE FROM capsules")
    await bench.datasets.remove(bench.datasets.resolve(version))
    with pytest.raises(Conflict, match=f"the dataset version {version} that read reads is gone"):
        await replay(bench, run)
    assert len(runs.newest(bench.db.read)) == 1


async def test_an_image_that_goes_after_the_replay_was_made_ends_its_job_in_words(bench: Bench) -> None:
    run = bench.submit(flow(job=script()))
    await bench.settle()
    replayed = await replay(bench, run)
    bench.engine.gone.add("sha256:busybox")
    await bench.settle()
    assert bench.phases(replayed) == {"job": "Error"}
    assert "busybox as sha256:busybox, is not on this machine" in bench.jobs(replayed)["job"].message
    assert bench.engine.starts == ["job"]


async def test_with_nothing_kept_only_what_needs_no_volume_is_resumed(bench: Bench) -> None:
    bench.settings = load_settings(
        {"APPLIANCE_KEEP_CAPSULES_DAYS": "0", "APPLIANCE_KEEP_CACHE_DAYS": "0"}, home=bench.settings.home
    )
    bench.kill()
    run, _ = await failed_run(bench)
    assert bench.store.volumes("runs") == []
    with pytest.raises(Conflict, match="is gone"):
        resume(bench, run)


class Remote:
    """A branch on a server, and what the checkouts of it were asked for."""

    def __init__(self) -> None:
        self.head = "a" * 40
        self.asked: list[str] = []

    def __call__(self, inside: Inside) -> int:
        request = json.loads(inside.path(f"{FILES}/request.json").read_text())
        self.asked.append(request["commit"] or request["ref"])
        inside.path(TOLD).joinpath("commit").write_text(request["commit"] or self.head)
        return 0


CLONE = {
    "uses": "git-checkout@v1",
    "with": {"url": "https://example.com/a/b", "ref": "main"},
    "outputs": {"repo": {"type": "volume"}},
}
CLONING = flow(clone=CLONE, read=script("clone", inputs={"repo": "clone.outputs.repo"}))


async def test_a_replay_takes_the_commit_of_then_and_so_does_a_replay_of_that(bench: Bench) -> None:
    remote = Remote()
    run = bench.submit(CLONING, body={"clone": remote})
    await bench.settle()
    remote.head = "b" * 40
    replayed = await replay(bench, run)
    await bench.settle()
    twice = await replay(bench, replayed)
    await bench.settle()
    assert remote.asked == ["main", "a" * 40, "a" * 40]
    assert [bench.jobs(each)["clone"].commit_id for each in (run, replayed, twice)] == ["a" * 40] * 3


async def test_a_resumed_checkout_of_a_whole_commit_is_the_same_as_ever(bench: Bench) -> None:
    remote = Remote()
    commit = "a" * 40
    clone = {**CLONE, "with": {"url": "https://example.com/a/b", "ref": commit}}
    document = flow(clone=clone, read=script("clone", inputs={"repo": "clone.outputs.repo"}))
    run = bench.submit(document, body={"clone": remote})
    await bench.settle()
    failed = await replay(bench, run)
    bench.engine.body = {"clone": lambda inside: 1}
    await bench.settle()
    assert bench.phases(failed)["clone"] == "Failed"
    resumed = resume(bench, failed)
    with bench.db.write() as db:  # a replay leaves the cache out, and so does what goes on from it
        db.execute("UPDATE runs SET cache = 1 WHERE id = ?", (resumed.id,))
    await bench.settle()
    assert bench.jobs(resumed)["clone"].reused == "flow.1/clone"
    assert bench.jobs(resumed)["clone"].commit_id == commit == remote.asked[0]


async def test_a_replay_of_a_resumed_run_knows_the_commit_that_was_taken_over(bench: Bench) -> None:
    remote = Remote()
    run = bench.submit(CLONING, body={"clone": remote, "read": lambda inside: 1})
    await bench.settle()
    remote.head = "b" * 40
    bench.engine.body = {"clone": remote}
    resumed = resume(bench, run)
    await bench.settle()
    assert bench.run(resumed).phase == "Succeeded"
    await replay(bench, resumed)
    await bench.settle()
    assert remote.asked == ["main", "a" * 40]


async def test_a_replay_says_which_checkouts_have_no_commit_to_go_back_to(bench: Bench) -> None:
    run = bench.submit(CLONING, body={"clone": lambda inside: 1})
    await bench.settle()
    replayed = await replay(bench, run)
    (said,) = [each.message for each in events.newest(bench.db.read, kind="run", name=actions.subject(replayed))]
    assert "no commit is known, so at what their refs mean now: clone" in said


async def test_a_checkout_that_failed_is_resumed_at_its_ref_and_one_of_a_replay_at_its_commit(bench: Bench) -> None:
    remote = Remote()
    run = bench.submit(CLONING, body={"clone": lambda inside: 1})
    await bench.settle()
    bench.engine.body = {"clone": remote}
    resumed = resume(bench, run)
    await bench.settle()
    bench.engine.body = {"clone": lambda inside: 1}
    replayed = await replay(bench, resumed)
    await bench.settle()
    assert bench.phases(replayed)["clone"] == "Failed"
    remote.head = "b" * 40
    bench.engine.body = {"clone": remote}
    resume(bench, replayed)
    await bench.settle()
    assert remote.asked == ["main", "a" * 40]


async def test_resume_says_where_the_declared_file_has_changed_since(bench: Bench) -> None:
    document = flow(a=script())
    with bench.db.write() as db:
        declared, _ = resources.put(db, "workflow", "flow", document, source="cli", now=bench.clock())
    run = start_run(bench.db, declared, "flow", document, {}, now=bench.clock())
    bench.engine.body = {"a": lambda inside: 1}
    bench.hint(run.id)
    await bench.settle()
    same = again.resume_run(bench.db, run, now=bench.clock())
    assert "changed since" not in _submitted(bench, same)
    cancel_run(bench.db, same.id, now=bench.clock())
    with bench.db.write() as db:
        resources.put(db, "workflow", "flow", flow(a=script(env={"FIXED": "1"})), source="cli", now=bench.clock())
    resumed = again.resume_run(bench.db, run, now=bench.clock())
    assert resumed.spec == document
    assert _submitted(bench, resumed) == (
        "goes on from flow.1: 0 of 1 jobs are taken over; it runs the file as it was then, the declared one has changed"
        " since: `appliance workflow run flow` runs that"
    )


def _submitted(bench: Bench, run: runs.Run) -> str:
    found = events.last(bench.db.read, "run", actions.subject(run), "Submitted")
    return found.message if found else ""
