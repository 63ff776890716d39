"""Datasets: versions that never change, references that find them, and nothing left behind."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.datasets.ref import dataset_id
from appliance.errors import Conflict, NoSpace, NotFound, UsageError
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.versions import Version
from appliance.storage.directory.store import DirectoryStore
from tests.conftest import Clock

pytestmark = pytest.mark.anyio


async def written(datasets: Datasets, name: str, text: str, *, run: str = "", job: str = "") -> Version:
    version = await datasets.begin(name, run=run, job=job)
    (await datasets.path(version) / "data").write_text(text)
    return await datasets.commit(version, message=f"wrote {text}")


async def read(datasets: Datasets, ref: str) -> str:
    return (await datasets.path(datasets.resolve(ref)) / "data").read_text()


class Killed(BaseException):
    """No code after it runs, as if the daemon were gone."""


def _raise(fault: BaseException) -> None:
    raise fault


async def test_a_reference_finds_newest_version_tag_and_id(datasets: Datasets) -> None:
    uid = datasets.create("digits", description="real images").uid
    first = await written(datasets, "digits", "one")
    second = await written(datasets, "digits", "two")
    datasets.tag("digits", first.version, "good")
    for ref in ("digits", "digits:latest", f"digits:{second.version}", dataset_id(uid), f"{dataset_id(uid)}:latest"):
        assert await read(datasets, ref) == "two", ref
    for ref in ("digits:good", f"gradient/digits:{first.version}", f"{dataset_id(first.dataset)}:{first.version}"):
        assert await read(datasets, ref) == "one", ref
    assert [version.message for version in datasets.versions("digits")] == ["wrote two", "wrote one"]
    assert second.bytes > 0
    assert len(second.version) == 7


async def test_the_newest_is_what_was_committed_last(datasets: Datasets, clock: Clock) -> None:
    datasets.create("d")
    slow = await datasets.begin("d", run="r", job="slow")
    await written(datasets, "d", "fast", run="r", job="fast")
    clock.now += 1
    (await datasets.path(slow) / "data").write_text("slow")
    await datasets.commit(slow)
    assert await read(datasets, "d") == "slow"


async def test_what_does_not_exist_is_not_found_with_the_next_step(datasets: Datasets) -> None:
    with pytest.raises(NotFound) as caught:
        datasets.resolve("none:1")
    assert "appliance dataset create none" in caught.value.hint
    with pytest.raises(NotFound):
        await datasets.begin("none")
    datasets.create("d")
    with pytest.raises(NotFound, match="no committed version"):
        datasets.resolve("d")
    with pytest.raises(NotFound, match="no version or tag 'v1'"):
        datasets.resolve("d:v1")
    with pytest.raises(UsageError):
        datasets.resolve("../d")
    with pytest.raises(UsageError):
        datasets.create("../d")


async def test_a_name_may_look_like_an_id_from_elsewhere(datasets: Datasets) -> None:
    """Real specs carry ids of somebody's Gradient account; a dataset of that name makes them run unchanged."""
    datasets.create("dsxbr4wc9x8ttbv")
    await written(datasets, "dsxbr4wc9x8ttbv", "here")
    assert await read(datasets, "dsxbr4wc9x8ttbv") == "here"


async def test_an_open_version_is_no_input_yet(datasets: Datasets) -> None:
    datasets.create("d")
    version = await datasets.begin("d")
    with pytest.raises(NotFound, match="no committed version"):
        datasets.resolve("d")
    with pytest.raises(Conflict, match="not committed"):
        datasets.resolve(f"d:{version.version}")
    with pytest.raises(Conflict):
        datasets.tag("d", version.version, "t")


async def test_a_job_that_begins_again_finds_its_own_version(datasets: Datasets, store: DirectoryStore) -> None:
    datasets.create("d")
    one = await datasets.begin("d", run="r", job="a")
    (await datasets.path(one) / "half").touch()
    again = await datasets.begin("gradient/d", run="r", job="a")
    assert again == one
    assert (await datasets.path(again) / "half").exists()
    others = [
        await datasets.begin("d", run="r", job="b"),
        await datasets.begin("d", run="r2", job="a"),
        await datasets.begin("d", run="r", job="a", token="second output"),
        await datasets.begin("d"),
        await datasets.begin("d"),
    ]
    assert len({version.version for version in [one, *others]}) == 6
    done = await datasets.commit(one, message="m")
    assert await datasets.begin("d", run="r", job="a") == done
    assert await datasets.commit(one, message="other") == done
    assert len(store.volumes("datasets")) == 6


async def test_an_abandoned_version_is_gone_and_starts_empty_again(datasets: Datasets, store: DirectoryStore) -> None:
    datasets.create("d")
    version = await datasets.begin("d", run="r", job="a")
    (await datasets.path(version) / "half").touch()
    await datasets.abandon(version)
    await datasets.abandon(version)
    assert (datasets.versions("d"), store.volumes()) == ([], [])
    store.create(version.volume).joinpath("left by a kill").touch()
    again = await datasets.begin("d", run="r", job="a")
    assert list((await datasets.path(again)).iterdir()) == []
    await datasets.commit(again)
    with pytest.raises(Conflict):
        await datasets.abandon(again)
    with pytest.raises(NotFound):
        await datasets.commit(Version("no", "such", "v", "", 0, None, 0, "", ""))


@pytest.mark.parametrize("fault", [Conflict("a backup reads it"), Killed()])
async def test_what_an_attempt_has_left_is_never_committed_by_the_next(
    datasets: Datasets, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    """`abandon` cannot destroy the volume, and the next `begin` cannot either, or is killed while it does."""
    datasets.create("d")
    version = await datasets.begin("d", run="r", job="a")
    (await datasets.path(version) / "half").touch()

    with monkeypatch.context() as patch:
        patch.setattr(store, "destroy", lambda volume: _raise(Conflict("a backup reads it")))
        await datasets.abandon(version)
    with monkeypatch.context() as patch:
        patch.setattr(store, "destroy", lambda volume: _raise(fault))
        with suppress(Killed):
            await datasets.begin("d", run="r", job="a")
    again = await datasets.begin("d", run="r", job="a")
    assert list((await datasets.path(again)).iterdir()) == []
    (await datasets.path(again) / "whole").touch()
    await datasets.commit(await datasets.begin("d", run="r", job="a"))
    await datasets.sweep()
    assert store.volumes("datasets") == [again.volume]
    assert [path.name for path in (await datasets.path(datasets.resolve("d"))).iterdir()] == ["whole"]


async def test_one_cannot_write_to_a_version(datasets: Datasets) -> None:
    datasets.create("d")
    with pytest.raises(UsageError):
        await datasets.begin("d:v1")
    assert (await datasets.begin("d:latest")).committed is None


async def test_tags_move_and_are_no_versions(datasets: Datasets) -> None:
    datasets.create("d")
    first = await written(datasets, "d", "one")
    second = await written(datasets, "d", "two")
    datasets.tag("d", first.version, "prod")
    datasets.tag("d", "latest", "prod")
    datasets.tag("d", "prod", "also")
    assert datasets.tags("d") == {"also": second.version, "prod": second.version}
    datasets.untag("d", "also")
    datasets.untag("d", "also")
    assert list(datasets.tags("d")) == ["prod"]
    for name in ("latest", first.version):
        with pytest.raises(Conflict):
            datasets.tag("d", second.version, name)
    with pytest.raises(UsageError):
        datasets.tag("d", second.version, "a:b")


async def test_creating_again_keeps_what_there_is(datasets: Datasets) -> None:
    first = datasets.create("d", description="words")
    await written(datasets, "d", "one")
    again = datasets.create("d")
    assert (again.uid, again.spec["description"], again.phase) == (first.uid, "words", "Ready")
    assert datasets.create("d", description="other").spec["description"] == "other"
    assert await read(datasets, "d") == "one"


async def test_a_directory_is_put_as_it_is_and_no_link_is_followed(
    datasets: Datasets, store: DirectoryStore, tmp_path: Path
) -> None:
    source = tmp_path / "my data"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_text("x")
    (source / "link").symlink_to("/etc")
    datasets.create("d")
    version = await datasets.put("d", source, "from my disk")
    path = await datasets.path(version)
    assert (path / "deep" / "file").read_text() == "x"
    assert (path / "link").readlink() == Path("/etc")
    assert (version.message, version.committed is not None) == ("from my disk", True)
    assert datasets.resolve("d") == version
    assert path.stat().st_mode & 0o777 == 0o755


async def test_a_file_is_put_under_its_name(datasets: Datasets, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"123")
    (tmp_path / "link").symlink_to("weights.bin")
    datasets.create("d")
    for named in ("weights.bin", "link"):
        path = await datasets.path(await datasets.put("d", tmp_path / named))
        assert [(entry.name, entry.read_bytes()) for entry in path.iterdir()] == [("weights.bin", b"123")]


async def test_a_put_that_fails_leaves_nothing(
    datasets: Datasets, store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.create("d")
    with pytest.raises(NotFound):
        await datasets.put("d", tmp_path / "none")

    def full(source: Path, target: Path) -> None:
        (target / "half").touch()
        raise NoSpace("full", hint="free some")

    monkeypatch.setattr("appliance.datasets.datasets.copy_in", full)
    with pytest.raises(NoSpace):
        await datasets.put("d", tmp_path)
    assert (datasets.versions("d"), store.volumes()) == ([], [])


async def test_volumes_that_no_version_knows_are_swept(datasets: Datasets, store: DirectoryStore) -> None:
    datasets.create("d")
    kept = await written(datasets, "d", "kept")
    still_open = await datasets.begin("d")
    store.create("datasets/0123456789abcdef/orphan1")
    store.create("workspaces/not/mine")
    await datasets.sweep()
    assert store.volumes() == sorted([kept.volume, still_open.volume, "workspaces/not/mine"])


async def test_a_dataset_goes_with_its_versions_unless_a_model_needs_it(
    datasets: Datasets, models: Models, store: DirectoryStore, db: Database
) -> None:
    uid = datasets.create("d").uid
    version = await written(datasets, "d", "weights")
    model = models.register("m", "custom", version)
    with pytest.raises(Conflict, match="in use by model m"):
        await datasets.destroy(uid)
    assert await read(datasets, "d") == "weights"
    models.delete(model.id)
    models.delete(model.id)
    await datasets.destroy(uid)
    await datasets.destroy(uid)
    assert store.volumes() == []
    assert resources.find(db.read, "dataset", "d") is None
    reasons = [event.reason for event in events.newest(db.read, kind="dataset", name="d")]
    assert reasons == ["Created", "Committed", "Deleted"]


async def test_a_dataset_that_is_being_deleted_takes_no_version(datasets: Datasets, db: Database) -> None:
    uid = datasets.create("d").uid
    resources.set_deleting(db.read, uid, now=0)
    with pytest.raises(Conflict, match="being deleted"):
        await datasets.begin("d")


async def test_a_model_is_a_name_for_a_version(datasets: Datasets, models: Models, clock: Clock) -> None:
    datasets.create("d")
    version = await written(datasets, "d", "weights")
    first = models.register("digits", "tensorflow", version, run="r", job="train")
    assert (len(first.id), first.id[:2], first.type) == (15, "mo", "Tensorflow")
    assert models.register("digits", "Tensorflow", version, run="r", job="train") == first
    clock.now += 1
    second = models.register("digits", "ONNX", version, run="r2", job="train")
    assert models.resolve("digits") == second
    assert models.resolve(first.id) == first
    assert models.every() == [second, first]
    assert (await models.path(first) / "data").read_text() == "weights"


async def test_models_that_make_no_sense_are_refused(datasets: Datasets, models: Models) -> None:
    datasets.create("d")
    still_open = await datasets.begin("d")
    with pytest.raises(Conflict, match="not committed"):
        models.register("m", "Custom", still_open)
    version = await datasets.commit(still_open)
    with pytest.raises(UsageError, match="PyTorch"):
        models.register("m", "PyTorch", version)
    with pytest.raises(UsageError):
        models.register("../m", "Custom", version)
    with pytest.raises(NotFound):
        models.resolve("m")


async def test_a_volume_that_cannot_go_yet_is_left_for_the_sweep(
    datasets: Datasets, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = datasets.create("d").uid
    first, second = await written(datasets, "d", "one"), await written(datasets, "d", "two")
    destroy = store.destroy

    def refuse(volume: str) -> None:
        if volume == first.volume:
            raise Conflict("a backup reads it")
        destroy(volume)

    monkeypatch.setattr(store, "destroy", refuse)
    await datasets.destroy(uid)
    assert store.volumes() == [first.volume]
    assert second.volume not in store.volumes()
    monkeypatch.undo()
    await datasets.sweep()
    assert store.volumes() == []
