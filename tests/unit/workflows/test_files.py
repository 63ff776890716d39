"""The files a job sees (section 1.8 of the reference), by the mounts that its container is given."""

from __future__ import annotations

import pytest

from appliance.engine.types import Mount
from tests.unit.workflows.fakes import Bench, Inside, flow, script

pytestmark = pytest.mark.anyio
SHARED = {"repo": {"type": "volume"}}


def write(text: str) -> object:
    def body(inside: Inside) -> int:
        inside.path("/outputs/v/file").write_text(text)
        inside.path("/outputs/word").write_text(text)
        inside.path("/outputs/d/file").write_text(text)
        return 0

    return body


async def test_one_output_of_many_jobs_is_a_directory_of_their_names(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {
        "v": {"type": "volume"},
        "word": {"type": "string"},
        "d": {"type": "dataset", "with": {"ref": "digits"}},
    }
    seen: dict[str, str] = {}

    def gather(inside: Inside) -> int:
        for number in (1, 2):
            job = f"train-{number}"
            seen[job] = inside.path(f"/inputs/words/{job}").read_text()
            seen[job] += inside.path(f"/inputs/volumes/{job}/file").read_text()
            seen[job] += inside.path(f"/inputs/sets/{job}/file").read_text()
            assert inside.read_only(f"/inputs/sets/{job}")
            assert not inside.read_only(f"/inputs/volumes/{job}")
            inside.path(f"/inputs/volumes/{job}/file").write_text("mine alone")
        return 0

    inputs = {"words": "train.outputs.word", "volumes": "train.outputs.v", "sets": "train.outputs.d"}
    document = flow(
        train=script(outputs=outputs, strategy={"matrix": {"LR": ["0.1", "0.2"]}}),
        gather=script("train", inputs=inputs),
        again=script("gather", "train", inputs=inputs),
    )
    body = {"train-1": write("one"), "train-2": write("two"), "gather": gather, "again": gather}
    run = bench.submit(document, body=body)  # type: ignore[arg-type]
    await bench.settle()
    assert bench.run(run).phase == "Succeeded", bench.jobs(run)
    assert seen == {"train-1": "oneoneone", "train-2": "twotwotwo"}
    assert len(bench.datasets.versions("digits")) == 2
    assert bench.leftovers() == []


async def test_a_volume_of_the_dialect_of_2021_is_the_same_for_every_job_and_goes_with_its_run(bench: Bench) -> None:
    seen: list[str] = []

    def fill(inside: Inside) -> int:
        inside.path("/inputs/repo/file").write_text("written by fill")
        return 0

    def use(inside: Inside) -> int:
        seen.append(inside.path("/inputs/repo/file").read_text())
        return 0

    document = flow(fill=script(inputs=SHARED), use=script("fill", inputs=SHARED))
    for _ in range(2):
        run = bench.submit(document, body={"fill": fill, "use": use})
        await bench.settle()
        assert bench.run(run).phase == "Succeeded", bench.jobs(run)
        assert bench.store.volumes("runs") == []
    assert bench.engine.starts == ["fill", "use"] * 2
    assert seen == ["written by fill"] * 2


async def test_an_input_and_an_output_of_one_name_are_two_directories(bench: Bench) -> None:
    volume = {"repo": {"type": "volume"}}

    def make(inside: Inside) -> int:
        inside.path("/outputs/repo/file").write_text("made")
        return 0

    def change(inside: Inside) -> int:
        assert list(inside.path("/outputs/repo").iterdir()) == []
        inside.path("/outputs/repo/file").write_text(inside.path("/inputs/repo/file").read_text() + " and changed")
        return 0

    def look(inside: Inside) -> int:
        found = [inside.path(f"/inputs/{name}/file").read_text() for name in ("one", "other")]
        return int(found != ["made", "made and changed"])

    document = flow(
        make=script(outputs=volume),
        change=script("make", inputs={"repo": "make.outputs.repo"}, outputs=volume),
        look=script("change", inputs={"one": "make.outputs.repo", "other": "change.outputs.repo"}),
    )
    run = bench.submit(document, body={"make": make, "change": change, "look": look})
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"


async def test_the_folders_themselves_are_writable_and_the_images_directory_is_kept(bench: Bench) -> None:
    bench.submit(flow(job=script(outputs={"v": {"type": "volume"}})))
    await bench.settle()
    (spec,) = bench.engine.specs.values()
    mounts = {mount.target: mount for mount in spec.mounts}
    assert set(mounts) == {"/inputs", "/outputs", "/outputs/v", "/storage", "/run/appliance"}
    assert [target for target, mount in mounts.items() if mount.read_only] == ["/run/appliance"]
    assert spec.workdir is None
    assert isinstance(mounts["/outputs"], Mount)
