"""The daemon may be killed between any two acts: no card is two jobs' at once, and none stays taken by a run that is
over."""

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
from tests.unit.scheduler.fakes import FakeLeases
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, killer, script

GPU = {"resources": {"instance-type": "P4000"}}
MATRIX = flow(
    cpu=script(),
    a=script(**GPU, outputs={"word": {"type": "string"}}),
    b=script("a", **GPU, retry={"limit": 1, "delay": 1}),
    c=script("cpu", **GPU, timeout=100),
)


async def whole_runs(kills: list[int], cancel_after: int | None, cards: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        clock = Clock()
        bench = Bench(load_settings({"APPLIANCE_MAX_PARALLEL_JOBS": "2"}, home=Path(home)), clock)
        leases = bench.leases = FakeLeases(cards)
        failed: list[str] = []

        def word(inside: Inside) -> int:
            check(inside)
            inside.path("/outputs/word").write_text("word")
            return 0

        def check(inside: Inside) -> int:
            used = [card for id_, spec in bench.engine.specs.items() if _runs(bench, id_) for card in spec.gpus]
            assert len(used) == len(set(used)) <= cards
            assert len(inside.spec.gpus) == 1
            return 0

        def fails_once(inside: Inside) -> int:
            check(inside)
            failed.append(inside.spec.name)
            return int(len(failed) < 3)

        bench.kill()
        body = {"a": word, "b": fails_once, "c": check}
        found = [bench.submit(MATRIX, body=body, name=name) for name in ("one", "two")]
        bench.watch(killer(kills))
        if cancel_after is not None:
            await bench.settle_some(cancel_after)
            if bench.run(found[0]).finished is None:
                with suppress(Killed):
                    cancel_run(bench.db, found[0].id, now=clock())
                bench.hint(found[0].id)
        for _ in range(8):  # pauses between attempts
            await bench.settle()
            bench.wait(60)
        await bench.settle()
        bench.watch(lambda call: None)
        assert len(bench.engine.starts) >= 4 or cancel_after is not None
        assert leases.asked == {}
        assert leases.left == leases.total
        assert bench.leftovers() == []
        assert bench.controller._leases.count_waiting() == 0
        assert bench.run(found[1]).finished is not None
        assert bench.run(found[0]).phase in ("Succeeded", "Failed" if cancel_after is None else "Canceled")
        bench.close()


def _runs(bench: Bench, container: str) -> bool:
    found = bench.engine.containers.get(container)
    return found is not None and found.state == "running"


@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kills=st.lists(st.integers(0, 300), max_size=12),
    cancel_after=st.none() | st.integers(0, 40),
    cards=st.integers(1, 2),
)
@example(kills=[], cancel_after=None, cards=1)
@example(kills=list(range(0, 500, 3)), cancel_after=None, cards=1)
@example(kills=list(range(1, 500, 7)), cancel_after=None, cards=2)
@example(kills=list(range(2, 500, 5)), cancel_after=15, cards=1)
def test_no_card_is_given_twice_or_stays_taken(kills: list[int], cancel_after: int | None, cards: int) -> None:
    anyio.run(whole_runs, kills, cancel_after, cards)
