"""Versions that something needs cannot vanish; branches share their content; lineage tells both ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.datasets import lineage, uses
from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.errors import Conflict, NotFound
from appliance.state import capsules, events, kept, resources, rollouts, runs
from appliance.state.db import Database
from appliance.state.runs import Run
from appliance.state.versions import Version
from appliance.storage.base import Usage
from appliance.storage.directory.store import DirectoryStore

pytestmark = pytest.mark.anyio


async def written(datasets: Datasets, name: str, text: str, *, run: str = "", job: str = "") -> Version:
    datasets.create(name)
    version = await datasets.begin(name, run=run, job=job)
    (await datasets.path(version) / "data").write_text(text)
    return await datasets.commit(version, message=f"wrote {text}")


def begin_run(db: Database, *, inputs: Mapping[str, Any] | None = None, jobs: Mapping[str, Any] | None = None) -> Run:
    spec = {"jobs": dict(jobs or {"train": {}})}
    with db.write() as transaction:
        return runs.create(
            transaction,
            workflow_uid="w",
            workflow="flow",
            spec=spec,
            inputs=inputs or {},
            jobs=list(spec["jobs"]),
            now=1.0,
        )


def start_job(db: Database, run: Run, name: str, given: Mapping[str, str], phase: str = "Starting") -> None:
    documents = {key: {"type": "dataset", "ref": ref, "id": ref} for key, ref in given.items()}
    with db.write() as transaction:
        assert runs.move_job(transaction, run.id, name, "Pending", phase, inputs=documents)


def end_run(db: Database, run: Run) -> None:
    with db.write() as transaction:
        runs.set_phase(transaction, run.id, "Succeeded", finished=2.0)


def declare(db: Database, kind: str, name: str, status: Mapping[str, Any], *, desired: str = "running") -> str:
    with db.write() as transaction:
        row, _ = resources.put(transaction, kind, name, {}, source="cli", now=1.0, desired=desired)
        resources.set_status(transaction, row.uid, generation=1, phase="Running", status=status)
    return row.uid


async def refused(datasets: Datasets, version: Version, who: str) -> None:
    for attempt in (datasets.remove(version), datasets.destroy(version.dataset)):
        with pytest.raises(Conflict, match=who):
            await attempt
    assert (await datasets.path(version) / "data").exists()


async def test_a_version_nobody_needs_is_removed_with_its_tags(
    datasets: Datasets, store: DirectoryStore, db: Database
) -> None:
    first = await written(datasets, "d", "one")
    second = await written(datasets, "d", "two")
    datasets.tag("d", first.version, "old")
    datasets.tag("d", second.version, "good")
    await datasets.remove(first)
    assert datasets.versions("d") == [second]
    assert datasets.tags("d") == {"good": second.version}
    assert store.volumes() == [second.volume]
    assert events.newest(db.read, kind="dataset", name="d")[-1].reason == "Removed"
    with pytest.raises(NotFound):
        datasets.resolve(f"d:{first.version}")


async def test_a_dataset_that_a_job_is_going_to_write_to_stays(datasets: Datasets, db: Database) -> None:
    dataset = datasets.create("out")
    declared = {
        "uses": "container@v1",
        "with": {"image": "i"},
        "outputs": {"made": {"type": "dataset", "with": {"ref": "out"}}},
        "strategy": {"matrix": {"LR": ["1", "2"]}},
    }
    with db.write() as transaction:
        run = runs.create(
            transaction,
            workflow_uid="w",
            workflow="flow",
            spec={"jobs": {"train": declared}},
            inputs={},
            jobs=["train-1", "train-2"],
            now=1.0,
        )
    start_job(db, run, "train-1", {}, phase="Succeeded")
    with pytest.raises(Conflict, match=r"in use by run flow\.1, whose job train-2 writes to it"):
        await datasets.destroy(dataset.uid)
    start_job(db, run, "train-2", {}, phase="Failed")
    await datasets.destroy(dataset.uid)
    with pytest.raises(NotFound):
        datasets.get("out")


async def test_an_open_run_holds_what_it_was_given_and_what_it_has_made(datasets: Datasets, db: Database) -> None:
    given = await written(datasets, "in", "data")
    run = begin_run(db, inputs={"data": {"type": "dataset", "ref": "in", "id": f"in:{given.version}"}})
    made = await written(datasets, "out", "weights", run=run.id, job="train")
    await refused(datasets, given, r"run flow\.1")
    await refused(datasets, made, r"run flow\.1, which has made it")
    end_run(db, run)
    await datasets.remove(given)
    await datasets.remove(made)


async def test_an_open_job_holds_its_inputs_until_it_has_ended(datasets: Datasets, db: Database) -> None:
    given = await written(datasets, "in", "data")
    run = begin_run(db)
    start_job(db, run, "train", {"data": f"in:{given.version}"})
    await refused(datasets, given, "job train")
    with db.write() as transaction:
        runs.move_job(transaction, run.id, "train", "Starting", "Succeeded")
    await datasets.remove(given)


@pytest.mark.parametrize("inner", [{"with": {"ref": "in:{}"}}, {"with": {"id": "in:{}"}}, {"with": {"ref": "in:keep"}}])
async def test_a_version_that_a_later_job_names_is_held(
    datasets: Datasets, db: Database, inner: dict[str, dict[str, str]]
) -> None:
    given = await written(datasets, "in", "data")
    datasets.tag("in", given.version, "keep")
    asked = {key: ref.format(given.version) for key, ref in inner["with"].items()}
    begin_run(db, jobs={"first": {}, "later": {"inputs": {"data": {"type": "dataset", "with": asked}}}})
    await refused(datasets, given, r"run flow\.1")


async def test_the_newest_that_a_later_job_asks_for_is_no_version_in_particular(
    datasets: Datasets, db: Database
) -> None:
    given = await written(datasets, "in", "data")
    begin_run(db, jobs={"later": {"inputs": {"data": {"type": "dataset", "with": {"ref": "in"}}, "text": "a.b"}}})
    await datasets.remove(given)


async def test_a_live_notebook_holds_what_it_has_mounted(datasets: Datasets, db: Database) -> None:
    version = await written(datasets, "d", "data")
    uid = declare(db, "notebook", "nb", {"datasets": {"d": f"d:{version.version}"}, "container": "c"})
    await refused(datasets, version, "notebook nb")
    with db.write() as transaction:
        resources.set_desired(transaction, uid, "stopped", now=1.0)
    await refused(datasets, version, "notebook nb")
    with db.write() as transaction:
        status = {"datasets": {"d": f"d:{version.version}"}, "container": ""}
        resources.set_status(transaction, uid, generation=1, phase="Stopped", status=status)
    await datasets.remove(version)


async def test_a_model_holds_its_version_and_a_deployment_its_model(
    datasets: Datasets, models: Models, db: Database
) -> None:
    version = await written(datasets, "d", "weights")
    model = models.register("m", "Custom", version)
    uid = declare(db, "deployment", "web", {})
    with db.write() as transaction:
        rollouts.add(transaction, uid, 1, digest="d", cause="applied", now=1.0)
        rollouts.set_pin(transaction, uid, 1, {"image": "i", "models": {"/opt": model.id}}, began=1.0)
    await refused(datasets, version, r"model m \(mo.*deployment web")
    with pytest.raises(Conflict, match="deployment web"):
        models.delete(model.id)
    with db.write() as transaction:
        rollouts.rest(transaction, uid, 1)
    models.delete(model.id)
    await datasets.remove(version)


async def test_a_person_holds_and_releases(datasets: Datasets, db: Database) -> None:
    version = await written(datasets, "d", "data")
    datasets.hold(version, "the paper cites it")
    datasets.hold(version, "the paper cites it")
    await refused(datasets, version, "user: the paper cites it")
    datasets.release(version)
    datasets.release(version)
    await datasets.remove(version)
    assert uses.of_versions(db.read) == {}


async def test_what_is_read_at_this_moment_stays(datasets: Datasets) -> None:
    version = await written(datasets, "d", "data")
    with datasets.reading(version):
        await refused(datasets, version, "a download")
    await datasets.remove(version)


async def test_a_branch_shares_the_content_and_outlives_its_source(datasets: Datasets, store: DirectoryStore) -> None:
    source = await written(datasets, "d", "data")
    made = datasets.branch(source, "copy", message="to try something")
    assert (made.volume, made.bytes, made.message) == (source.volume, source.bytes, "to try something")
    assert datasets.resolve("copy") == made
    assert made.parent == f"{source.dataset}:{source.version}"
    assert store.volumes() == [source.volume]
    await datasets.destroy(source.dataset)
    await datasets.sweep()
    assert (await datasets.path(datasets.resolve("copy")) / "data").read_text() == "data"
    datasets.create("d")
    again = await written(datasets, "d", "new")
    await datasets.destroy(made.dataset)
    assert store.volumes() == [again.volume]


async def test_a_branch_of_a_branch_goes_without_the_others(datasets: Datasets, store: DirectoryStore) -> None:
    source = await written(datasets, "d", "data")
    second = datasets.branch(datasets.branch(source, "b"), "c")
    datasets.hold(source)
    await datasets.remove(second)
    await datasets.remove(datasets.resolve("b"))
    assert (await datasets.path(source) / "data").exists()
    datasets.release(source)
    await datasets.remove(source)
    assert store.volumes() == []


async def test_a_branch_needs_a_free_name_and_a_committed_version(datasets: Datasets) -> None:
    source = await written(datasets, "d", "data")
    with pytest.raises(Conflict, match="already"):
        datasets.branch(source, "d")
    with pytest.raises(Conflict, match="not committed"):
        datasets.branch(await datasets.begin("d"), "e")


async def test_several_versions_are_committed_together_or_not_at_all(
    datasets: Datasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.create("a")
    datasets.create("b")
    both = [await datasets.begin("a", run="r", job="j"), await datasets.begin("b", run="r", job="j")]
    with pytest.raises(Conflict, match="cannot be a tag"):
        await datasets.commit_all(both, tags=["latest"])
    assert all(datasets.find(name, row.version).committed is None for name, row in zip("ab", both, strict=True))
    done = await datasets.commit_all(both, message="m", tags=["good"])
    assert await datasets.commit_all(both) == done
    assert [datasets.resolve(f"{name}:good") for name in "ab"] == done


async def test_sizes_tell_what_comes_back(
    datasets: Datasets, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = await written(datasets, "d", "data")
    calls: list[str] = []

    def usage(volume: str) -> Usage:
        calls.append(volume)
        return Usage(referenced=100, unique=80, history=0, snapshots={})

    monkeypatch.setattr(store, "usage", usage)
    (alone,) = await datasets.sizes.of([version])
    assert (alone.referenced, alone.unique, alone.shared) == (100, 80, 20)
    branch = datasets.branch(version, "b")
    assert [(size.unique, size.shared) for size in await datasets.sizes.of([version, branch])] == [(0, 100)] * 2
    assert calls == [version.volume], "a version does not change, so one walk over it is enough"


async def test_lineage_is_told_both_ways(datasets: Datasets, models: Models, db: Database, tmp_path: Path) -> None:
    raw = await written(datasets, "raw", "data")
    run = begin_run(db, inputs={"raw": {"type": "dataset", "ref": "raw", "id": f"raw:{raw.version}"}})
    start_job(db, run, "train", {"raw": f"raw:{raw.version}"})
    made = await written(datasets, "weights", "w", run=run.id, job="train")
    outputs = {"weights": {"type": "dataset", "ref": "weights", "id": f"weights:{made.version}", "committed": True}}
    with db.write() as transaction:
        runs.move_job(transaction, run.id, "train", "Starting", "Succeeded", outputs=outputs)
    model = models.register("net", "ONNX", made, run.id, "register")
    branch = datasets.branch(raw, "mine")
    end_run(db, run)

    down = lineage.of_version(db.read, raw)
    assert (down.ref, down.run, down.parent) == (f"raw:{raw.version}", "", "")
    assert down.readers == (lineage.Reader("flow.1", "train", "Succeeded", (f"weights:{made.version}",)),)
    assert down.children == (f"mine:{branch.version}",)
    up = lineage.of_version(db.read, made)
    assert (up.run, up.job, up.inputs) == ("flow.1", "train", {"raw": f"raw:{raw.version}"})
    assert up.models == (model,)
    assert up.used_by == (f"model net ({model.id})",)
    assert lineage.of_version(db.read, branch).parent == f"raw:{raw.version}"
    of_version, by, given = lineage.of_model(db.read, model)
    assert (of_version, by, given) == (up, "flow.1", {"raw": f"raw:{raw.version}"})


async def test_lineage_of_what_is_gone_is_told_as_far_as_it_is_known(datasets: Datasets, db: Database) -> None:
    raw = await written(datasets, "raw", "data")
    branch = datasets.branch(raw, "mine")
    await datasets.destroy(raw.dataset)
    assert lineage.of_version(db.read, branch).parent == f"{raw.dataset}:{raw.version}"
    orphan = await written(datasets, "d", "x", run="a run whose row is gone", job="j")
    assert lineage.of_version(db.read, orphan).run == "a run whose row is gone"


async def test_what_was_given_from_elsewhere_and_what_is_kept_of_a_failure_is_held(
    datasets: Datasets, db: Database
) -> None:
    given = [await written(datasets, f"d{number}", str(number)) for number in range(4)]
    names = [f"d{number}:{version.version}" for number, version in enumerate(given)]
    run = begin_run(db, jobs={"reused": {}, "pinned": {}, "gathers": {}})
    document = [{"type": "dataset", "ref": name, "id": name} for name in names]
    with db.write() as transaction:
        moved = {"outputs": {"o": document[0]}, "reused": "flow.0/reused"}
        runs.move_job(transaction, run.id, "reused", "Pending", "Succeeded", **moved)  # type: ignore[arg-type]
        kept.pin(transaction, run.id, "pinned", pins={"x": document[1]})
        many = {"all": {"type": "many", "of": {"a": document[2], "b": {"type": "string", "value": "x"}}}}
        runs.move_job(transaction, run.id, "gathers", "Pending", "Starting", inputs=many)
        capsules.put(transaction, capsules.Capsule(run.id, "bad", 1.0, "", [], {"x": document[3]}, {}))
    used = uses.of_versions(db.read)
    found = [used[version.dataset, version.version] for version in given]
    assert found == [
        ["run flow.1, job reused"],
        ["run flow.1, job pinned"],
        ["run flow.1, job gathers"],
        ["what is kept of run flow.1, job bad"],
    ]
    assert [job.name for _, job in runs.readers(db.read, names[2])] == ["gathers"]
    end_run(db, run)
    with pytest.raises(Conflict, match="what is kept of run"):
        await datasets.remove(given[3])
    await datasets.remove(given[0])
