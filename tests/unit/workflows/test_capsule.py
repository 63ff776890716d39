"""What is kept of a job that failed, and how it comes into a workspace, however hostile it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.datasets import uses
from appliance.errors import NotFound, StorageError
from appliance.history.workspaces import Workspaces
from appliance.settings import load as load_settings
from appliance.state import capsules, kept, resources, runs
from appliance.telemetry.types import LogLine
from appliance.workflows import exchange
from appliance.workflows.kept import capsule, opening
from appliance.workflows.kept.opening import CapsuleReport, fill_workspace
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, script

pytestmark = pytest.mark.anyio

MADE = {"tree": {"type": "volume"}, "word": {"type": "string"}}
WRITES = {
    "tree": {"type": "volume"},
    "data": {"type": "dataset", "with": {"ref": "digits"}},
    "word": {"type": "string"},
}
DOCUMENT = flow(
    make=script(outputs=MADE),
    bad=script(
        "make",
        inputs={"tree": "make.outputs.tree", "word": "make.outputs.word", "base": {"type": "dataset", "ref": "base"}},
        outputs=WRITES,
        env={"TOKEN": "secret:TOKEN", "MODE": "fast", "ALSO": "hunter2hunter2"},
    ),
)
DOCUMENT["jobs"]["bad"]["inputs"]["base"] = {"type": "dataset", "with": {"ref": "base"}}


def make(inside: Inside) -> int:
    inside.path("/outputs/tree/file").write_text("from make")
    inside.path("/outputs/word").write_text("a word")
    return 0


def bad(inside: Inside) -> int:
    inside.path("/inputs/tree/file").write_text("spoiled")
    inside.path("/outputs/tree/half").write_text("half a model")
    inside.path("/outputs/data/part").write_text("half a table")
    inside.path("/outputs/word").write_text("half a word")
    inside.path("/outputs/undeclared").write_text("beside")
    return 3


async def failed(bench: Bench, *, body: object = bad) -> runs.Run:
    for name in ("digits", "base"):
        bench.datasets.create(name)
    version = await bench.datasets.begin("base")
    (await bench.datasets.path(version) / "row").write_text("1,2")
    await bench.datasets.commit(version)
    bench.vault.set("TOKEN", "hunter2hunter2")
    run = bench.submit(DOCUMENT, body={"make": make, "bad": body})  # type: ignore[dict-item]
    await bench.settle()
    return run


async def opened(bench: Bench, run: runs.Run, job: str = "bad") -> tuple[CapsuleReport, Path]:
    workspaces = Workspaces(bench.db, bench.store, bench.clock)
    report = await fill_workspace(bench.controller.rooms, workspaces, "u" * 32, run, job)
    return report, await workspaces.open("u" * 32)


def contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


async def test_inputs_as_given_outputs_as_left_and_the_reason(bench: Bench) -> None:
    bench.telemetry.lines["bad"] = []
    run = await failed(bench)
    assert bench.phases(run) == {"make": "Succeeded", "bad": "Failed"}
    assert bench.datasets.versions("digits") == []
    report, root = await opened(bench, run)
    note = (root / "capsule.md").read_text()
    found = contents(root)
    del found["capsule.md"]
    assert found == {
        "inputs/tree/file": "from make",
        "inputs/word": "a word",
        "inputs/base/row": "1,2",
        "outputs/tree/half": "half a model",
        "outputs/data/part": "half a table",
        "outputs/word": "half a word",
        "outputs/undeclared": "beside",
    }
    assert (report.missing, report.reason) == ((), "Failed: exit code 3")
    assert set(report.inputs) == {"tree", "word", "base"}
    assert set(report.outputs) == {"tree", "data"}
    assert (report.image, report.image_name) == ("sha256:busybox", "busybox")
    for words in ("# flow.1/bad", "exit code 3", "secret:TOKEN", "MODE: fast", "image: busybox"):
        assert words in note
    for words in ("flow.1/make", "inputs/tree", "inputs/base", "output: tree"):
        assert words in note
    assert run.id not in note
    assert "hunter2" not in note
    assert "***" in note
    assert bench.leftovers() == []
    again, _ = await opened(bench, run)
    assert again == report


async def test_a_notebook_whose_filling_was_killed_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def killed(*_: object) -> None:
        raise Killed

    run = await failed(bench)
    with monkeypatch.context() as patch:
        patch.setattr(opening, "_bring", killed)
        with pytest.raises(Killed):
            await opened(bench, run)
    root = await Workspaces(bench.db, bench.store, bench.clock).open("u" * 32)
    half = (root / "capsule.md").read_text()
    assert "being filled" in half
    assert "exit code 3" in half
    _, root = await opened(bench, run)
    assert "being filled" not in (root / "capsule.md").read_text()


async def test_the_last_lines_of_the_right_attempt(bench: Bench) -> None:
    def line(number: int, container: str) -> LogLine:
        return LogLine(number, 0.0, "run", "flow.1", "bad", container, "stdout", f"line {number} ```` of {container}")

    def write(inside: Inside) -> int:
        (mine,) = [id_ for id_, spec in bench.engine.specs.items() if spec is inside.spec]
        others = [line(number, "another") for number in range(5)]
        bench.telemetry.lines["bad"] = [*others, *(line(number, mine) for number in range(300))]
        return 3

    run = await failed(bench, body=write)
    found = capsules.find(bench.db.read, run.id, "bad")
    assert found
    assert len(found.log) == capsule.LINES
    assert found.log[-1].startswith("line 299")
    _, root = await opened(bench, run)
    note = (root / "capsule.md").read_text()
    assert "`````\nline 100" in note


async def test_of_a_deployment_it_keeps_what_the_replicas_of_its_generation_wrote(bench: Bench) -> None:
    def line(number: int, part: str) -> LogLine:
        return LogLine(number, 0.0, "deployment", "web", part, "c", "stdout", f"line {number}")

    document = {"image": "web", "port": 8000, "resources": {"instanceType": "C4", "replicas": 1}}
    run = bench.submit(flow(act={"uses": "deploy@v1", "with": {"name": "web", "spec": document}}))
    await bench.settle()
    bench.telemetry.lines[""] = [line(1, "1-0"), line(2, "11-0"), line(3, "2-0"), line(4, "1-1")]
    web = resources.get(bench.db.read, "deployment", "web")
    with bench.db.write() as db:
        resources.set_status(db, web.uid, generation=1, phase="Failed", message="crash loop")
    bench.wake_all()
    await bench.settle()
    assert bench.phases(run) == {"act": "Error"}
    found = capsules.find(bench.db.read, run.id, "act")
    assert found
    assert found.log == ["1-0: line 1", "1-1: line 4"]


async def test_nothing_in_it_leads_out_or_holds_anybody_up(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("root:x")

    def hostile(inside: Inside) -> int:
        tree = inside.path("/outputs/tree")
        (tree / "link").symlink_to(secret)
        (tree / "up").symlink_to("../../../../../..")
        os.mkfifo(tree / "fifo")
        (tree / os.fsdecode(b"b\xff\n-rf")).write_text("odd")
        (tree / "mine").write_text("x")
        (tree / "mine").chmod(0o4755)
        outputs = inside.path("/outputs")
        (outputs / "word").symlink_to(secret)
        (outputs / "data").rmdir()
        (outputs / "data").symlink_to(tmp_path)
        return 1

    run = await failed(bench, body=hostile)
    report, root = await opened(bench, run)
    assert secret.read_text() == "root:x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "shadow"]
    outputs = root / "outputs"
    assert (outputs / "tree/link").is_symlink()
    assert (outputs / "word").is_symlink()
    assert (outputs / "tree/fifo").is_fifo()
    assert (outputs / "tree" / os.fsdecode(b"b\xff\n-rf")).read_text() == "odd"
    assert not (outputs / "data").is_symlink()
    assert report.missing == ()


async def test_what_went_meanwhile_is_named(bench: Bench) -> None:
    run = await failed(bench)
    bench.store.destroy(bench.scratch.volume(run.id, "make", "tree"))
    bench.store.destroy(bench.scratch.volume(run.id, "bad", "tree"))
    with bench.db.write() as db:
        db.execute("DELETE FROM versions")
    report, root = await opened(bench, run)
    assert [line.partition(":")[0] for line in report.missing] == ["inputs/tree", "inputs/base", "outputs/tree"]
    note = (root / "capsule.md").read_text()
    assert "## Not here" in note
    assert (root / "inputs/word").read_text() == "a word"


async def test_there_is_none_of_what_succeeded_or_is_unknown(bench: Bench) -> None:
    run = await failed(bench)
    with pytest.raises(NotFound, match=r"nothing is kept of job make of flow\.1"):
        await opened(bench, run, "make")
    with pytest.raises(NotFound, match="no job 'nobody'"):
        await opened(bench, run, "nobody")


async def test_it_keeps_what_it_refers_to_until_it_is_removed(bench: Bench) -> None:
    run = await failed(bench)
    used = [who for names in uses.of_versions(bench.db.read).values() for who in names]
    assert used == ["what is kept of run flow.1, job bad"]
    capsule.remove(bench.db, run, "bad")
    with bench.db.write() as db:
        kept.keep(db, run.id, False)
    assert uses.of_versions(bench.db.read) == {}
    await bench.controller.tend(bench.clock())
    cached = bench.scratch.volume(run.id, "make", "tree")
    assert bench.store.volumes("runs") == [cached]


async def test_a_job_that_is_tried_again_leaves_one_of_its_last_attempt(bench: Bench) -> None:
    attempts: list[int] = []

    def twice(inside: Inside) -> int:
        attempts.append(len(attempts))
        inside.path(f"/outputs/v/attempt-{len(attempts)}").touch()
        return 1

    job = script(outputs={"v": {"type": "volume"}}, retry={"limit": 1, "delay": 1})
    run = bench.submit(flow(bad=job), body={"bad": twice})
    await bench.settle()
    assert capsules.every(bench.db.read) == []
    bench.wait(1)
    await bench.settle()
    assert bench.run(run).phase == "Failed"
    _, root = await opened(bench, run)
    assert [path.name for path in (root / "outputs/v").iterdir()] == ["attempt-2"]


async def test_credentials_are_not_kept(bench: Bench) -> None:
    bench.vault.set("TOKEN", "hunter2hunter2")
    checkout = {
        "uses": "git-checkout@v1",
        "with": {"url": "https://example.com/a", "password": "secret:TOKEN"},
        "outputs": {"repo": {"type": "volume"}},
    }
    run = bench.submit(flow(bad=checkout), body={"bad": lambda inside: 1})
    await bench.settle()
    root = bench.store.path(bench.scratch.volume(run.id, "bad", exchange.VOLUME))
    assert sorted(path.name for path in root.iterdir()) == ["inputs", "outputs"]


async def test_what_cannot_be_kept_is_said_and_holds_nothing_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise StorageError("the pool is suspended")

    monkeypatch.setattr(capsule, "_take_over", refuse)
    run = await failed(bench)
    found = capsules.find(bench.db.read, run.id, "bad")
    assert found
    assert "what it wrote to data is not kept: the pool is suspended" in found.reason
    assert set(found.outputs) == {"tree"}
    assert bench.datasets.versions("digits") == []


async def test_the_setting_turns_it_off(bench: Bench) -> None:
    bench.settings = load_settings(
        {"APPLIANCE_KEEP_CAPSULES_DAYS": "0", "APPLIANCE_KEEP_CACHE_DAYS": "0"}, home=bench.settings.home
    )
    bench.kill()
    run = await failed(bench)
    assert capsules.every(bench.db.read) == []
    assert bench.store.volumes("runs") == []
    assert bench.run(run).phase == "Failed"


@pytest.mark.parametrize("number", range(30, 90, 4))
async def test_a_kill_leaves_a_whole_capsule(bench: Bench, number: int) -> None:
    count = iter(range(10**6))

    def before(call: str) -> None:
        if next(count) == number:
            raise Killed(call)

    for name in ("digits", "base"):
        bench.datasets.create(name)
    await bench.datasets.commit(await bench.datasets.begin("base"))
    bench.vault.set("TOKEN", "hunter2hunter2")
    run = bench.submit(DOCUMENT, body={"make": make, "bad": bad})
    bench.watch(before)
    await bench.settle()
    bench.watch(lambda call: None)
    for _ in range(3):
        bench.wake_all()
        await bench.settle()
    assert bench.run(run).phase == "Failed"
    assert bench.datasets.versions("digits") == []
    report, root = await opened(bench, run)
    assert report.missing == ()
    assert (root / "outputs/data/part").read_text() == "half a table"
    assert bench.leftovers() == []
