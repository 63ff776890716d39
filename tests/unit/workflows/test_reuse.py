"""The step cache, told by which containers are started: what is the same, what is not, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from appliance.datasets import uses
from appliance.errors import Conflict
from appliance.fetching.programs import TOLD
from appliance.settings import load as load_settings
from appliance.state import events, runs, step_cache
from appliance.workflows.kept import reuse
from appliance.workflows.kept.deleting import delete_run
from appliance.workflows.submit import start_run
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, script

pytestmark = pytest.mark.anyio

OUTPUTS = {
    "word": {"type": "string"},
    "tree": {"type": "volume"},
    "data": {"type": "dataset", "with": {"ref": "digits"}},
}


def make(inside: Inside) -> int:
    inside.path("/outputs/word").write_text("word")
    inside.path("/outputs/tree/file").write_text("tree")
    inside.path("/outputs/data/file").write_text("data")
    return 0


def read(inside: Inside) -> int:
    found = [inside.path(f"/inputs/{name}").read_text() for name in ("word", "tree/file", "data/file")]
    inside.path("/outputs/result").write_text("+".join(found))
    return 0


def chain(**more: Any) -> dict[str, Any]:
    inputs = {name: f"make.outputs.{name}" for name in OUTPUTS}
    return flow(
        make=script(outputs=OUTPUTS, **more),
        read=script("make", inputs=inputs, outputs={"result": {"type": "string"}}),
    )


async def ran(bench: Bench, document: dict[str, Any], **more: Any) -> list[str]:
    """The containers that a run starts."""
    before = len(bench.engine.starts)
    run = bench.submit(document, body={"make": make, "read": read}, **more)
    await bench.settle()
    assert bench.run(run).phase == "Succeeded", bench.jobs(run)
    return bench.engine.starts[before:]


async def test_an_equal_run_starts_no_container_and_says_why(bench: Bench, clock: Clock) -> None:
    bench.datasets.create("digits")
    assert await ran(bench, chain()) == ["make", "read"]
    clock.now += 7200
    run = bench.submit(chain())
    await bench.settle()
    assert bench.engine.starts == ["make", "read"]
    jobs = bench.jobs(run)
    assert {job.phase for job in jobs.values()} == {"Succeeded"}
    assert jobs["make"].message == "cached: same image, command, env and inputs as flow.1/make (2 h ago)"
    assert jobs["read"].reused == "flow.1/read"
    assert jobs["read"].outputs["result"]["value"] == "word+tree+data"
    assert len(bench.datasets.versions("digits")) == 1
    assert jobs["make"].outputs["data"]["id"].startswith("digits:")
    told = [event.reason for event in events.newest(bench.db.read, kind="run", name="flow.2")]
    assert told.count("JobReused") == 2
    assert bench.leftovers() == []


async def test_a_run_that_is_deleted_while_it_is_looked_into_gives_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = flow(make=script(outputs={"tree": OUTPUTS["tree"]}))
    bench.engine.body = {"make": lambda inside: 0}
    first = bench.submit(document)
    await bench.settle()
    look = reuse._still_there

    async def deleted_meanwhile(*given: Any) -> Any:
        found = await look(*given)
        await delete_run(bench.controller.rooms, first, "flow.1")
        return found

    monkeypatch.setattr(reuse, "_still_there", deleted_meanwhile)
    second = bench.submit(document)
    await bench.settle()
    assert bench.engine.starts == ["make", "make"]
    assert bench.run(second).phase == "Succeeded", bench.jobs(second)


@pytest.mark.parametrize(
    "change",
    [
        {"with": {"image": "busybox", "script": "false"}},
        {"with": {"image": "appliance/base", "script": "true"}},
        {"env": {"A": "2"}},
        {"env": {"TOKEN": "secret:TOKEN"}},
        {"resources": {"instance-type": "C5"}},
        {"inputs": {"word": {"type": "string", "with": {"value": "x"}}}},
        {"inputs": {"base": {"type": "dataset", "with": {"ref": "base"}}}},
        {"outputs": {**OUTPUTS, "data": {"type": "dataset", "with": {"ref": "other"}}}},
        {"outputs": {**OUTPUTS, "more": {"type": "volume"}}},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_whatever_a_job_can_see_makes_it_another_one(bench: Bench, change: dict[str, Any]) -> None:
    for name in ("digits", "other", "base"):
        bench.datasets.create(name)
    await bench.datasets.commit(await bench.datasets.begin("base"))
    bench.vault.set("TOKEN", "hunter2hunter2")
    await ran(bench, flow(make=script(outputs=OUTPUTS)))
    assert await ran(bench, flow(make=script(**{"outputs": OUTPUTS, **change}))) == ["make"]
    assert await ran(bench, flow(make=script(**{"outputs": OUTPUTS, **change}))) == []


async def test_a_new_secret_a_new_version_and_a_moved_tag_are_noticed(bench: Bench) -> None:
    for name in ("digits", "base"):
        bench.datasets.create(name)
    await bench.datasets.commit(await bench.datasets.begin("base"))
    bench.vault.set("TOKEN", "hunter2hunter2")
    inputs = {"base": {"type": "dataset", "with": {"ref": "base"}}}
    document = flow(make=script(outputs=OUTPUTS, env={"TOKEN": "secret:TOKEN"}, inputs=inputs))
    assert await ran(bench, document) == ["make"]
    bench.vault.set("TOKEN", "hunter3hunter3")
    assert await ran(bench, document) == ["make"]
    await bench.datasets.commit(await bench.datasets.begin("base"))
    assert await ran(bench, document) == ["make"]
    bench.engine.moved["busybox"] = "sha256:another"
    assert await ran(bench, document) == ["make"]
    assert await ran(bench, document) == []
    dump = "\n".join(bench.db.read.iterdump())
    assert "hunter" not in dump


@pytest.mark.parametrize(
    "job",
    [
        script(outputs=OUTPUTS, cache=False),
        script(),
        script(inputs={"shared": {"type": "volume"}}, outputs={"tree": {"type": "volume"}}),
    ],
    ids=["told not to", "no outputs", "a volume that others write to"],
)
async def test_what_is_never_cached(bench: Bench, job: dict[str, Any]) -> None:
    bench.datasets.create("digits")
    body = {"make": make if job.get("outputs") == OUTPUTS else (lambda inside: 0)}
    for _ in range(2):
        run = bench.submit(flow(make=job), body=body)
        await bench.settle()
        assert bench.run(run).phase == "Succeeded", bench.jobs(run)
    assert bench.engine.starts == ["make", "make"]
    assert step_cache.every(bench.db.read) == []


@pytest.mark.parametrize(("ref", "starts"), [("main", 2), ("0" * 40, 1), ("0" * 12, 2)])
async def test_a_checkout_is_cached_by_its_whole_commit_only(bench: Bench, ref: str, starts: int) -> None:
    checkout = {
        "uses": "git-checkout@v1",
        "with": {"url": "https://example.com/a/b", "ref": ref},
        "outputs": {"repo": {"type": "volume"}},
    }
    for _ in range(2):
        bench.submit(flow(make=checkout))
        await bench.settle()
    assert len(bench.engine.starts) == starts


class Branch:
    """What a checkout of a branch finds: `commit` as the program tells it, empty: it tells nothing."""

    def __init__(self, commit: str) -> None:
        self.commit = commit

    def __call__(self, inside: Inside) -> int:
        inside.path("/outputs/repo/file").write_text(self.commit)
        if self.commit:
            inside.path(TOLD).joinpath("commit").write_text(self.commit)
        return 0


def compiled(inside: Inside) -> int:
    inside.path("/outputs/tree/file").write_text(inside.path("/inputs/repo/file").read_text())
    return 0


def checked(inside: Inside) -> int:
    inside.path("/outputs/word").write_text(inside.path("/inputs/tree/file").read_text())
    return 0


def building(ref: str = "main", url: str = "https://example.com/a/b", path: str = "", **more: Any) -> dict[str, Any]:
    """A checkout and two jobs behind it."""
    return flow(
        clone={
            "uses": "git-checkout@v1",
            "with": {"url": url, "ref": ref, **({"path": path} if path else {})},
            "outputs": {"repo": {"type": "volume"}},
            **more,
        },
        build=script("clone", inputs={"repo": "clone.outputs.repo"}, outputs={"tree": {"type": "volume"}}),
        test=script("build", inputs={"tree": "build.outputs.tree"}, outputs={"word": {"type": "string"}}),
    )


async def built(bench: Bench, document: dict[str, Any], branch: Branch) -> tuple[runs.Run, list[str]]:
    before = len(bench.engine.starts)
    run = bench.submit(document, body={"clone": branch, "build": compiled, "test": checked})
    await bench.settle()
    assert bench.run(run).phase == "Succeeded", bench.jobs(run)
    return run, bench.engine.starts[before:]


async def test_jobs_behind_a_branch_that_has_not_moved_are_not_run_again(bench: Bench) -> None:
    branch = Branch("a" * 40)
    first, starts = await built(bench, building(), branch)
    assert starts == ["clone", "build", "test"]
    assert bench.jobs(first)["clone"].commit_id == "a" * 40
    second, starts = await built(bench, building(), branch)
    assert starts == ["clone"]
    assert [bench.jobs(second)[name].reused for name in ("build", "test")] == ["flow.1/build", "flow.1/test"]
    branch.commit = "b" * 40
    third, starts = await built(bench, building(), branch)
    assert starts == ["clone", "build", "test"]
    assert bench.jobs(third)["test"].outputs["word"]["value"] == "b" * 40
    branch.commit = "a" * 40
    last, starts = await built(bench, building(), branch)
    assert starts == ["clone"]
    assert bench.jobs(last)["test"].outputs["word"]["value"] == "a" * 40
    assert bench.leftovers() == []


async def test_a_commit_taken_from_the_cache_is_known_as_well(bench: Bench) -> None:
    commit = "a" * 40
    await built(bench, building(ref=commit), Branch(commit))
    run, starts = await built(bench, building(ref=commit), Branch(commit))
    assert starts == []
    assert bench.jobs(run)["clone"].commit_id == commit
    assert bench.jobs(run)["clone"].outputs["repo"]["run"] != run.id


@pytest.mark.parametrize(
    "other",
    [
        building(url="https://example.com/a/fork"),
        building(ref="v1"),
        building(path="/outputs/repo/deep"),
    ],
    ids=["url", "ref, whose name a job can ask git for", "path"],
)
async def test_one_commit_in_another_place_is_another_input(bench: Bench, other: dict[str, Any]) -> None:
    branch = Branch("a" * 40)
    await built(bench, building(), branch)
    assert (await built(bench, other, branch))[1] == ["clone", "build", "test"]


async def test_a_url_from_a_secret_counts_as_what_it_stands_for(bench: Bench) -> None:
    document = building(url="$PLACE", env={"PLACE": "secret:PLACE"})
    bench.vault.set("PLACE", "https://example.com/one")
    branch = Branch("a" * 40)
    await built(bench, document, branch)
    assert (await built(bench, document, branch))[1] == ["clone"]
    bench.vault.set("PLACE", "https://example.com/two")
    assert (await built(bench, document, branch))[1] == ["clone", "build", "test"]


@pytest.mark.parametrize("said", ["", "a" * 39, "A" * 40, "g" * 40, "a" * 41, "a" * 40 + "\nmore", "a" * 5000])
async def test_what_is_no_commit_identifies_nothing_and_nothing_is_kept_for_it(bench: Bench, said: str) -> None:
    for _ in range(2):
        run, starts = await built(bench, building(), Branch(said))
        assert starts == ["clone", "build", "test"]
        assert {job.commit_id for job in bench.jobs(run).values()} == {""}
        assert {job.cache_key for job in bench.jobs(run).values()} == {""}
    assert step_cache.every(bench.db.read) == []
    assert bench.store.volumes("runs") == []


@pytest.mark.parametrize("number", range(0, 40, 2))
async def test_a_kill_loses_no_commit(bench: Bench, number: int) -> None:
    count = iter(range(10**6))

    def before(call: str) -> None:
        if next(count) == number:
            raise Killed(call)

    run = bench.submit(building(), body={"clone": Branch("a" * 40), "build": compiled, "test": checked})
    bench.watch(before)
    await bench.settle()
    bench.watch(lambda call: None)
    bench.wake_all()
    await bench.settle()
    assert bench.engine.starts == ["clone", "build", "test"]
    assert bench.jobs(run)["clone"].commit_id == "a" * 40
    assert (await built(bench, building(), Branch("a" * 40)))[1] == ["clone"]
    assert bench.leftovers() == []


async def test_what_many_jobs_made_is_known_only_where_each_of_it_is(bench: Bench) -> None:
    def document(cached: bool) -> dict[str, Any]:
        strategy = {"matrix": {"LR": ["1", "2"]}}
        outputs = {"tree": {"type": "volume"}}
        return flow(
            make=script(outputs=outputs, strategy=strategy, cache=cached),
            read=script("make", inputs={"all": "make.outputs.tree"}, outputs={"tree": {"type": "volume"}}),
        )

    for cached, starts in ((False, 6), (True, 3)):
        before = len(bench.engine.starts)
        for _ in range(2):
            run = bench.submit(document(cached))
            await bench.settle()
            assert bench.run(run).phase == "Succeeded", bench.jobs(run)
        assert len(bench.engine.starts) - before == starts
        assert len(step_cache.every(bench.db.read)) == (3 if cached else 0)


async def test_a_job_after_one_that_always_runs_runs_too_and_is_not_remembered(bench: Bench) -> None:
    """What it was given never comes again, so nobody can ever ask for what it made of that."""
    bench.datasets.create("digits")
    assert await ran(bench, chain(cache=False)) == ["make", "read"]
    assert await ran(bench, chain(cache=False)) == ["make", "read"]
    assert step_cache.every(bench.db.read) == []
    assert bench.store.volumes("runs") == []


async def test_a_run_without_the_cache_runs_everything_and_is_what_later_ones_get(bench: Bench) -> None:
    bench.datasets.create("digits")
    await ran(bench, chain())
    run = start_run(bench.db, None, "flow", chain(), {}, now=bench.clock(), cache=False)
    bench.hint(run.id)
    await bench.settle()
    assert bench.engine.starts == ["make", "read"] * 2
    last = bench.submit(chain())
    await bench.settle()
    assert bench.engine.starts == ["make", "read"] * 2
    assert {job.reused for job in bench.jobs(last).values()} == {"flow.2/make", "flow.2/read"}


async def test_a_failure_is_not_remembered(bench: Bench) -> None:
    bench.datasets.create("digits")
    bench.submit(flow(make=script(outputs=OUTPUTS)), body={"make": lambda inside: 1})
    await bench.settle()
    assert await ran(bench, flow(make=script(outputs=OUTPUTS))) == ["make"]


async def _remove_version(bench: Bench) -> None:
    await bench.datasets.remove(bench.datasets.resolve("digits"))


async def _remove_dataset(bench: Bench) -> None:
    await bench.datasets.destroy(bench.datasets.get("digits").uid)
    bench.datasets.create("digits")


async def _remove_volume(bench: Bench) -> None:
    (entry,) = step_cache.every(bench.db.read)
    bench.store.destroy(bench.scratch.volume(entry.run, "make", "tree"))


@pytest.mark.parametrize("lose", [_remove_version, _remove_dataset, _remove_volume])
async def test_all_outputs_or_none(bench: Bench, lose: Callable[[Bench], Any]) -> None:
    bench.datasets.create("digits")
    document = flow(make=script(outputs=OUTPUTS))
    await ran(bench, document)
    await lose(bench)
    assert await ran(bench, document) == ["make"]
    assert await ran(bench, document) == []


async def test_what_goes_between_the_look_and_the_gift_is_not_given(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.workflows.kept import reuse

    bench.datasets.create("digits")
    document = flow(make=script(outputs=OUTPUTS))
    await ran(bench, document)
    look = reuse.look

    async def look_and_lose(*arguments: Any) -> reuse.Hit | None:
        hit = await look(*arguments)
        with bench.db.write() as db:
            db.execute("DELETE FROM step_cache")
        return hit

    monkeypatch.setattr(reuse, "look", look_and_lose)
    assert await ran(bench, document) == ["make"]


async def test_a_version_that_was_given_cannot_be_removed_while_its_run_goes_on(bench: Bench) -> None:
    bench.datasets.create("digits")
    await ran(bench, flow(make=script(outputs=OUTPUTS)))
    run = bench.submit(flow(make=script(outputs=OUTPUTS), slow=script("make")), body={"slow": lambda inside: None})
    await bench.settle()
    version = bench.datasets.resolve("digits")
    assert bench.jobs(run)["make"].reused
    with pytest.raises(Conflict, match=r"in use by run flow\.2, job make"):
        await bench.datasets.remove(version)
    bench.engine.exit("slow", 0)
    await bench.settle()
    assert uses.of_versions(bench.db.read) == {}
    await bench.datasets.remove(version)


async def test_equal_jobs_at_the_same_moment_both_run_without_harm(bench: Bench) -> None:
    bench.datasets.create("digits")

    def slow(inside: Inside) -> None:
        make(inside)

    document = chain()
    both = [bench.submit(document, body={"make": slow, "read": read}) for _ in range(2)]
    await bench.settle()
    assert bench.engine.starts == ["make", "make"]
    bench.engine.exit("make", 0)
    await bench.settle()
    assert [bench.run(run).phase for run in both] == ["Succeeded", "Succeeded"]
    for run in both:
        assert bench.jobs(run)["read"].outputs["result"]["value"] == "word+tree+data"
    assert len(bench.datasets.versions("digits")) == 2
    assert await ran(bench, document) == []
    assert len(step_cache.every(bench.db.read)) == 3  # one `make`, and `read` of what each `make` has made


@pytest.mark.parametrize("number", range(0, 60, 3))
async def test_a_kill_during_a_hit_starts_nothing_and_leaves_nothing(bench: Bench, number: int) -> None:
    bench.datasets.create("digits")
    await ran(bench, chain())
    count = iter(range(10**6))

    def before(call: str) -> None:
        if next(count) == number:
            raise Killed(call)

    run = bench.submit(chain())
    bench.watch(before)
    await bench.settle()
    bench.watch(lambda call: None)
    bench.wake_all()
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"
    assert bench.engine.starts == ["make", "read"]
    assert len(bench.datasets.versions("digits")) == 1
    assert bench.leftovers() == []


async def test_a_matrix_that_grows_runs_its_new_jobs_only(bench: Bench) -> None:
    def sweep(*values: str) -> dict[str, Any]:
        strategy = {"matrix": {"LR": list(values)}}
        return flow(make=script(outputs={"word": {"type": "string"}}, strategy=strategy))

    def write(inside: Inside) -> int:
        inside.path("/outputs/word").write_text(inside.spec.env["LR"])
        return 0

    body = {f"make-{number}": write for number in (1, 2, 3)}
    bench.submit(sweep("0.1", "0.3"), body=body)
    await bench.settle()
    run = bench.submit(sweep("0.1", "0.2", "0.3"))
    await bench.settle()
    assert bench.engine.starts == ["make-1", "make-2", "make-2"]
    jobs = bench.jobs(run)
    assert [jobs[f"make-{number}"].outputs["word"]["value"] for number in (1, 2, 3)] == ["0.1", "0.2", "0.3"]
    assert jobs["make-3"].reused == "flow.1/make-2"


async def test_the_setting_turns_it_off(bench: Bench) -> None:
    bench.datasets.create("digits")
    bench.settings = load_settings({"APPLIANCE_KEEP_CACHE_DAYS": "0"}, home=bench.settings.home)
    bench.kill()
    assert await ran(bench, chain()) == ["make", "read"]
    assert await ran(bench, chain()) == ["make", "read"]
    assert bench.store.volumes("runs") == []


async def test_the_key_tells_nothing_without_the_key_file(bench: Bench) -> None:
    bench.datasets.create("digits")
    await ran(bench, chain())
    (one, other) = step_cache.every(bench.db.read)
    assert one.key != other.key
    text = '{"version": 1}'
    assert bench.vault.fingerprint(text) == bench.vault.fingerprint(text) != bench.vault.fingerprint(text + " ")
    (bench.settings.home / "key").unlink()
    again = type(bench.vault)(bench.db, bench.settings.home / "key", bench.clock)
    assert again.fingerprint(text) != bench.vault.fingerprint(text)
    assert runs.job(bench.db.read, one.run, one.job).cache_key == one.key


def _trains_and_reads(rate: str) -> dict[str, Any]:
    model = {"m": {"type": "dataset", "with": {"ref": "model"}}}
    return flow(train=script(outputs=model, env={"LR": rate}), evaluate=script("train", inputs=model))


async def test_a_version_that_is_not_the_latest_any_more_is_made_again(bench: Bench) -> None:
    """Whoever reads the dataset by its name after the job, in this run or later, reads what this job stands for."""
    bench.datasets.create("model")
    seen: list[str] = []

    def train(inside: Inside) -> int:
        inside.path("/outputs/m/f").write_text(inside.spec.env["LR"])
        return 0

    def evaluate(inside: Inside) -> int:
        seen.append(inside.path("/inputs/m/f").read_text())
        return 0

    for rate in ("0.1", "0.2", "0.1"):
        run = bench.submit(_trains_and_reads(rate), body={"train": train, "evaluate": evaluate})
        await bench.settle()
        assert bench.run(run).phase == "Succeeded"
    assert seen == ["0.1", "0.2", "0.1"]
    assert len(bench.datasets.versions("model")) == 3
    run = bench.submit(_trains_and_reads("0.1"))
    await bench.settle()
    assert bench.jobs(run)["train"].reused == "flow.3/train"
    assert seen == ["0.1", "0.2", "0.1", "0.1"]


async def test_a_version_that_comes_between_the_look_and_the_gift_makes_the_job_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.workflows.kept import reuse

    bench.datasets.create("digits")
    document = flow(make=script(outputs=OUTPUTS))
    await ran(bench, document)
    look = reuse.look

    async def look_and_overtake(*arguments: Any) -> reuse.Hit | None:
        hit = await look(*arguments)
        assert hit
        await bench.datasets.commit(await bench.datasets.begin("digits"))
        return hit

    monkeypatch.setattr(reuse, "look", look_and_overtake)
    assert await ran(bench, document) == ["make"]


async def test_two_versions_of_one_dataset_by_one_job_are_both_given_again(bench: Bench) -> None:
    bench.datasets.create("digits")
    data = {"type": "dataset", "with": {"ref": "digits"}}
    document = flow(two=script(outputs={"a": data, "b": data}))
    assert await ran(bench, document) == ["two"]
    assert await ran(bench, document) == []
