"""The daemon may be killed between any two acts: every run still comes to its end, and no job runs twice."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import anyio
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from appliance.settings import load as load_settings
from appliance.workflows.submit import cancel_run
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, killer, script

OUTPUTS = {
    "word": {"type": "string"},
    "tree": {"type": "volume"},
    "data": {"type": "dataset", "with": {"ref": "digits"}},
}
DOCUMENT = flow(
    make=script(outputs=OUTPUTS),
    read=script("make", inputs={name: f"make.outputs.{name}" for name in OUTPUTS}),
    register={
        "uses": "create-model@v1",
        "with": {"name": "digits", "type": "Custom"},
        "needs": ["make"],
        "inputs": {"model": "make.outputs.data"},
        "outputs": {"model-id": {"type": "string"}},
    },
    fail=script("read"),
    never=script("fail"),
)


def make(inside: Inside) -> int:
    inside.path("/outputs/word").write_text("word")
    inside.path("/outputs/tree/file").write_text("tree")
    inside.path("/outputs/data/file").write_text("data")
    return 0


def read(inside: Inside) -> int:
    found = [inside.path(f"/inputs/{name}").read_text() for name in ("word", "tree/file", "data/file")]
    return 0 if found == ["word", "tree", "data"] else 9


async def whole_run(kills: list[int], cancel_after: int | None) -> None:
    with tempfile.TemporaryDirectory() as home:
        clock = Clock()
        bench = Bench(load_settings({}, home=Path(home)), clock)
        bench.datasets.create("digits")
        run = bench.submit(DOCUMENT, body={"make": make, "read": read, "fail": lambda inside: 1})
        bench.watch(killer(kills))
        if cancel_after is not None:
            await bench.settle_some(cancel_after)
            if bench.run(run).finished is None:
                with suppress(Killed):
                    cancel_run(bench.db, run.id, now=clock())
                bench.hint(run.id)
        await bench.settle()
        bench.watch(lambda call: None)
        phases = bench.phases(run)
        assert len(bench.engine.starts) == len(set(bench.engine.starts))
        assert bench.leftovers() == []
        versions = bench.datasets.versions("digits")
        committed = [version for version in versions if version.committed is not None]
        assert committed == versions
        assert len(versions) == (phases["make"] == "Succeeded")
        assert len(bench.models.every()) == (phases["register"] == "Succeeded")
        if bench.run(run).phase != "Canceled":
            assert phases == {
                "make": "Succeeded",
                "read": "Succeeded",
                "register": "Succeeded",
                "fail": "Failed",
                "never": "Omitted",
            }
            assert bench.run(run).phase == "Failed"
        else:
            assert cancel_after is not None
            assert "Canceled" in phases.values()
        bench.close()


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kills=st.lists(st.integers(0, 200), max_size=12),
    cancel_after=st.none() | st.integers(0, 25),
)
@example(kills=[], cancel_after=None)
@example(kills=list(range(0, 400, 3)), cancel_after=None)
@example(kills=list(range(1, 400, 7)), cancel_after=None)
@example(kills=list(range(2, 400, 5)), cancel_after=9)
def test_a_run_survives_any_kill(kills: list[int], cancel_after: int | None) -> None:
    anyio.run(whole_run, kills, cancel_after)
