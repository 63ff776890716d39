"""Idle time from what the front door counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.deployments import sleeping
from appliance.deployments.sleeping import GIVE_UP_S, Idle, Waking
from appliance.router.meters import Meter, ServerMeter
from appliance.spec.models import Sleep

SLEEP = Sleep(after_s=60)


def meter(requests: int = 0, *, in_flight: int = 0, held: int = 0) -> Meter:
    return Meter(held, {"one": ServerMeter(in_flight, requests, 0)})


def idle_after(*meters: Meter | None, every_s: float = 10) -> float:
    """Seconds without work, as seen at the last of these looks."""
    idle, now = None, 0.0
    for found in meters:
        now += every_s
        idle = sleeping.look(idle, found, ready=True, now=now)
    assert idle is not None
    return now - idle.busy


def test_time_passes_while_nothing_comes() -> None:
    assert idle_after(meter(5), meter(5), meter(5)) == 20


def test_any_work_begins_it_anew() -> None:
    assert idle_after(meter(5), meter(5), meter(6)) == 0
    assert idle_after(meter(5), meter(5), meter(5, in_flight=1)) == 0
    assert idle_after(meter(5), meter(5), meter(5, held=1)) == 0


def test_what_was_not_seen_counts_as_work() -> None:
    assert idle_after(meter(5), meter(5), None) == 0
    assert idle_after(meter(5), None, meter(5)) <= 10


def test_a_front_door_that_counts_anew_has_done_nothing_until_it_counts() -> None:
    assert idle_after(meter(5), meter(0), meter(0)) == 20
    assert idle_after(meter(5), meter(3)) == 0
    assert idle_after(meter(5), Meter(), Meter()) == 20


def test_what_is_on_its_way_is_not_idle() -> None:
    idle = sleeping.look(Idle(0, {}), meter(), ready=False, now=100)
    assert idle.busy == 100


def test_it_is_tired_after_its_time() -> None:
    assert not sleeping.tired(Idle(0, {}), SLEEP, 59.9)
    assert sleeping.tired(Idle(0, {}), SLEEP, 60)


def test_what_a_waking_was_like() -> None:
    state = sleeping.watch(Waking(100), Meter(14), 101)
    assert not sleeping.told(state, 101)
    state = sleeping.watch(state, meter(14), 102)
    assert not sleeping.told(state, 102), "what was logged of the last ones comes a moment later"
    state = sleeping.watch(state, meter(14), 103)
    assert sleeping.told(state, 103)
    assert sleeping.tell(state) == "by a request; 14 waited, the longest for 2.0 s"
    state = sleeping.released(sleeping.released(state, 1.75), 0.5)
    assert sleeping.tell(state) == "by a request; 14 waited, the longest for 1.8 s"


def test_a_waking_that_never_ends_is_given_up() -> None:
    state = sleeping.watch(Waking(100), Meter(1), 101)
    assert not sleeping.told(state, 1e9)
    assert not sleeping.given_up(state, 101)
    assert sleeping.given_up(state, 100 + GIVE_UP_S)


def counted(found: Meter | None) -> int:
    return found.servers["one"].requests if found else 0


looks = st.lists(
    st.one_of(st.none(), st.builds(meter, st.integers(0, 3), in_flight=st.integers(0, 1), held=st.integers(0, 1))),
    max_size=30,
)


@given(looks, st.floats(0.1, 30))
def test_it_never_sleeps_with_work_at_hand(found: list[Meter | None], every_s: float) -> None:
    """Nor before its time has passed since the last look that saw something happen, or saw nothing."""
    idle, now, last = None, 0.0, 0.0
    before: Meter | None = None
    for one in found:
        now += every_s
        idle = sleeping.look(idle, one, ready=True, now=now)
        if one is None or before is None or one.held or one.servers["one"].in_flight or counted(one) > counted(before):
            last = now
        before = one
        assert not (sleeping.tired(idle, SLEEP, now) and now - last < SLEEP.after_s - 1e-6)
