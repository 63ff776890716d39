"""Runs, kills, failures, resumes, days that pass and sweeps in any order: what is given is right, what is needed stays.

After everything: no container began twice, every run that succeeded has the outputs of its own variant, every volume
that a row needs is in the store, and once all time is over nothing is left.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import anyio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from appliance.errors import Conflict
from appliance.settings import load as load_settings
from appliance.state import runs
from appliance.workflows import again
from appliance.workflows.kept import keeping
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, killer, script

DAY = 86_400.0
Act = tuple[str, int]


def document(variant: int) -> dict[str, object]:
    env = {"VARIANT": str(variant)}
    return flow(
        make=script(outputs={"tree": {"type": "volume"}, "word": {"type": "string"}}, env=env),
        copy=script("make", inputs={"tree": "make.outputs.tree"}, outputs={"tree": {"type": "volume"}}),
        read=script(
            "copy",
            "make",
            inputs={"mine": "copy.outputs.tree", "tree": "make.outputs.tree", "word": "make.outputs.word"},
            outputs={"result": {"type": "string"}},
        ),
    )


class Machine:
    def __init__(self, home: Path) -> None:
        self.clock = Clock()
        self.bench = Bench(load_settings({}, home=home), self.clock)
        self.bench.engine.body = {"make": self.make, "copy": self.copy, "read": self.read}
        self.begun: Counter[str] = Counter()
        self.failing = False
        self.variants: dict[str, int] = {}

    def make(self, inside: Inside) -> int:
        self.begun[inside.spec.name] += 1
        inside.path("/outputs/tree/file").write_text(inside.spec.env["VARIANT"])
        inside.path("/outputs/word").write_text(inside.spec.env["VARIANT"])
        return 0

    def copy(self, inside: Inside) -> int:
        self.begun[inside.spec.name] += 1
        inside.path("/outputs/tree/file").write_text(inside.path("/inputs/tree/file").read_text())
        inside.path("/inputs/tree/file").write_text("spoiled")
        return 0

    def read(self, inside: Inside) -> int:
        self.begun[inside.spec.name] += 1
        found = [inside.path(f"/inputs/{name}").read_text() for name in ("mine/file", "tree/file", "word")]
        inside.path("/outputs/result").write_text("".join(found))
        return int(self.failing)

    async def act(self, what: str, number: int) -> None:
        match what:
            case "run":
                self.failing = number >= 3
                with suppress(Killed):  # after the commit: the run is there
                    self.bench.submit(document(number % 3))
                self.note(number % 3)
            case "kill":
                self.bench.watch(killer([number * 7]))
                return
            case "wait":
                self.clock.now += number * DAY
            case "resume":
                self.resume(number)
        await self.settle()
        if what in ("tend", "wait"):
            with suppress(Killed):
                await self.bench.controller.tend(self.clock.now)
        self.bench.watch(lambda call: None)
        await self.settle()

    def resume(self, number: int) -> None:
        failed = [run for run in runs.newest(self.bench.db.read) if run.phase == "Failed"]
        if not failed:
            return
        old = failed[number % len(failed)]
        self.failing = False
        with suppress(Conflict, Killed):  # refused where what it needs has gone; else it must succeed, see `check`
            run = again.resume_run(self.bench.db, old, now=self.clock.now)
            self.bench.hint(run.id)
        self.note(self.variants[old.id])

    def note(self, variant: int) -> None:
        """Of the run that was just made, if one was."""
        for run in runs.newest(self.bench.db.read, limit=1000):
            self.variants.setdefault(run.id, variant)

    async def settle(self) -> None:
        for _ in range(4):
            await self.bench.settle()
            self.bench.wake_all()
        await self.bench.settle()

    def check(self) -> None:
        db = self.bench.db.read
        assert set(self.begun.values()) <= {1}, self.begun
        for run in runs.newest(db, limit=1000):
            assert run.finished is not None, run
            jobs = self.bench.jobs(run)
            if run.phase == "Succeeded":
                assert jobs["read"].outputs["result"]["value"] == str(self.variants[run.id]) * 3
            else:
                assert (run.phase, jobs["read"].phase) == ("Failed", "Failed"), (run.message, jobs)
        there = set(self.bench.store.volumes("runs"))
        assert keeping.needed(db) <= there
        assert {name.split("/")[1] for name in keeping.needed(db)} <= set(keeping.kept_runs(db))


async def play(acts: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as home:
        machine = Machine(Path(home))
        for what, number in acts:
            await machine.act(what, number)
            if what != "kill":
                machine.check()
        machine.bench.watch(lambda call: None)
        machine.clock.now += 30 * DAY
        await machine.bench.controller.tend(machine.clock.now)
        assert machine.bench.store.volumes("runs") == []
        assert not machine.bench.engine.containers
        machine.bench.close()


ACTS = st.one_of(
    st.tuples(st.just("run"), st.integers(0, 5)),
    st.tuples(st.just("kill"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.integers(1, 8)),
    st.tuples(st.just("tend"), st.just(0)),
    st.tuples(st.just("resume"), st.integers(0, 3)),
)


@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=st.lists(ACTS, min_size=3, max_size=14))
def test_what_is_given_is_right_and_what_is_needed_stays(acts: list[Act]) -> None:
    anyio.run(play, acts)
