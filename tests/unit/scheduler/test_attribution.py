"""To whom a card's energy, time and memory are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gpu.types import Device, Inventory, Mig, Process
from appliance.scheduler.attribution import GB, IDLE, UNATTRIBUTED, Share, shares
from appliance.scheduler.types import Held, Request, Who
from appliance.spec.machines import Shape

NOW = 1000.0
CARD = Device("GPU-1", 0, energy_j=100.0, power_w=200.0, utilisation=50, used=4 * 10**9, processes=())


def lease(name: str, *cards: str, share: int = 0) -> Held:
    return Held(Request(name, Who("notebook", name, name), Shape(gpus=1, share=share)), cards or ("GPU-1",), NOW)


def looked(
    device: Device, *, seconds: float = 2.0, energy: float | None = 300.0, **after: object
) -> tuple[Inventory, Inventory]:
    """`seconds` apart; `energy` is what the card took between."""
    later = device.energy_j + energy if device.energy_j is not None and energy is not None else None
    second = replace(device, **{"energy_j": later, **after})  # type: ignore[arg-type]
    return Inventory(NOW, (device,)), Inventory(NOW + seconds, (second,))


def by_lease(found: tuple[Share, ...]) -> dict[str, Share]:
    assert len({(share.lease, share.card) for share in found}) == len(found)
    return {share.lease: share for share in found}


def test_one_that_has_the_card_alone_gets_all_that_its_counter_says() -> None:
    (found,) = shares(*looked(CARD, processes=(Process(7, 3 * 10**9),)), [lease("a")], {7: "a"})
    assert found == Share("a", "GPU-1", "GPU-1", 1.0, 6.0, 300.0, measured=True)


def test_a_holder_that_does_nothing_pays_for_what_the_card_takes_meanwhile() -> None:
    (found,) = shares(*looked(CARD, utilisation=0), [lease("a")], {})
    assert (found.used_s, found.energy_j, found.memory_gb_s) == (0.0, 300.0, 0.0)


def test_a_stranger_on_a_leased_card_pays_for_the_time_of_its_own_kernels() -> None:
    programs = (Process(7, 10**9, sm=30), Process(8, 2 * 10**9, sm=10))
    found = by_lease(shares(*looked(CARD, processes=programs), [lease("a")], {7: "a", 8: "elsewhere"}))
    assert found["a"].energy_j == pytest.approx(150 + 150 * 0.75)
    assert found[UNATTRIBUTED].energy_j == pytest.approx(150 * 0.25)
    assert found["a"].used_s == pytest.approx(0.75)
    assert (found["a"].memory_gb_s, found[UNATTRIBUTED].memory_gb_s) == (2.0, 4.0)
    assert not found["a"].measured


def test_two_that_share_pay_idle_time_by_what_they_were_promised() -> None:
    holders = [lease("a", share=30), lease("b", share=10)]
    programs = (Process(7, 10**9, sm=50), Process(8, 10**9, sm=0))
    found = by_lease(shares(*looked(CARD, processes=programs), holders, {7: "a", 8: "b"}))
    assert found["a"].energy_j == pytest.approx(150 * 0.75 + 150)
    assert found["b"].energy_j == pytest.approx(150 * 0.25)
    assert (found["a"].used_s, found["b"].used_s) == (1.0, 0.0)


def test_two_that_share_and_cannot_be_told_apart_have_no_time_of_use() -> None:
    programs = (Process(7, 10**9), Process(8, 10**9))
    found = by_lease(shares(*looked(CARD, processes=programs), [lease("a"), lease("b")], {7: "a", 8: "b"}))
    assert (found["a"].used_s, found["b"].used_s) == (None, None)
    assert (found["a"].energy_j, found["b"].energy_j) == (150.0, 150.0)


def test_a_card_of_nobody_is_idle_and_what_computes_there_is_unattributed() -> None:
    found = by_lease(shares(*looked(CARD, processes=(Process(8, 10**9),)), [], {}))
    assert (found[IDLE].energy_j, found[UNATTRIBUTED].energy_j) == (150.0, 150.0)
    assert found[UNATTRIBUTED].used_s == 1.0
    alone = shares(*looked(CARD, utilisation=0), [], {})
    assert [(share.lease, share.energy_j) for share in alone] == [(IDLE, 300.0)]


def test_a_desktop_is_no_stranger() -> None:
    (found,) = shares(*looked(CARD, processes=(Process(8, 10**9, graphics=True),)), [lease("a")], {})
    assert (found.lease, found.energy_j, found.used_s) == ("a", 300.0, 1.0)


def test_without_a_counter_power_over_time_is_an_estimate() -> None:
    (found,) = shares(*looked(CARD, energy=None, power_w=100.0), [lease("a")], {})
    assert (found.energy_j, found.measured) == (300.0, False)
    (unknown,) = shares(*looked(replace(CARD, power_w=None), energy=None), [lease("a")], {})
    assert (unknown.energy_j, unknown.measured) == (None, False)


def test_a_counter_that_began_anew_takes_nothing_back() -> None:
    (found,) = shares(*looked(CARD, energy=-90.0), [lease("a")], {})
    assert (found.energy_j, found.measured) == (400.0, False)


def test_what_cannot_be_seen_is_none_and_never_nothing() -> None:
    (found,) = shares(*looked(CARD, utilisation=None, processes=None), [lease("a")], {})
    assert (found.used_s, found.memory_gb_s, found.energy_j) == (None, 8.0, 300.0)
    (no_memory,) = shares(*looked(CARD, used=None, processes=None), [lease("a")], {})
    assert no_memory.memory_gb_s is None
    (unknown,) = shares(*looked(CARD, processes=(Process(7, None),), used=None), [lease("a")], {7: "a"})
    assert unknown.memory_gb_s is None


def test_looks_far_apart_tell_of_the_counter_only() -> None:
    (found,) = shares(*looked(CARD, seconds=60.0), [lease("a")], {})
    assert (found.energy_j, found.used_s, found.memory_gb_s) == (300.0, None, None)
    assert shares(*looked(CARD, seconds=60.0, energy=None), [lease("a")], {})[0].energy_j is None


@pytest.mark.parametrize("where", [0, 1])
def test_a_card_that_does_not_answer_is_left_out(where: int) -> None:
    both = list(looked(CARD))
    both[where] = replace(both[where], devices=(replace(CARD, lost="fell off the bus"),))
    assert shares(both[0], both[1], [lease("a")], {}) == ()


def test_time_that_stands_still_or_goes_back_counts_nothing() -> None:
    assert shares(*looked(CARD, seconds=0.0), [lease("a")], {}) == ()
    assert shares(*looked(CARD, seconds=-5.0), [lease("a")], {}) == ()


def test_instances_pay_by_their_slices_and_the_rest_of_the_card_is_idle() -> None:
    migs = (
        Mig("MIG-1", "1g.10gb", used=10**9, processes=(Process(7, 10**9),)),
        Mig("MIG-2", "3g.40gb", processes=()),
        Mig("MIG-3", "1c.2g.20gb", processes=(Process(9, 10**9),)),
    )
    card = replace(CARD, mig=True, migs=migs, utilisation=None, processes=None)
    found = shares(*looked(card, energy=700.0), [lease("a", "MIG-1")], {7: "a"})
    assert {(share.lease, share.card): share.energy_j for share in found} == {
        ("a", "MIG-1"): pytest.approx(100.0),
        (IDLE, "MIG-2"): pytest.approx(300.0),
        (UNATTRIBUTED, "MIG-3"): pytest.approx(100.0),
        (IDLE, "GPU-1"): pytest.approx(200.0),
    }
    assert {share.used_s for share in found} == {None}
    assert by_lease(found[:1])["a"].memory_gb_s == 2.0
    assert not any(share.measured for share in found)


@st.composite
def days(draw: st.DrawFn) -> tuple[list[Inventory], list[Held], dict[int, str]]:
    """Two looks at a machine, with whatever a driver tells and leaves out."""
    percent = st.none() | st.integers(0, 100)
    pids = st.integers(1, 6)
    process = st.builds(Process, pids, st.none() | st.integers(0, 8 * 10**9), percent, st.booleans())
    programs = st.none() | st.lists(process, max_size=4, unique_by=lambda one: one.pid).map(tuple)
    profile = st.sampled_from(["1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb", "1c.2g.20gb", "odd"])
    devices, later, cards = [], [], []
    for number in range(draw(st.integers(1, 3))):
        migs = tuple(
            Mig(f"MIG-{number}-{index}", draw(profile), processes=draw(programs))
            for index in range(draw(st.integers(0, 4)))
        )
        watts = st.none() | st.floats(0, 700)
        device = Device(f"GPU-{number}", number, power_w=draw(watts), energy_j=draw(st.none() | st.floats(0, 1e9)))
        device = replace(device, mig=bool(migs), migs=migs, processes=draw(programs), utilisation=draw(percent))
        devices.append(device)
        after = None if device.energy_j is None else device.energy_j + draw(st.floats(-100, 1e5))
        later.append(replace(device, energy_j=after, power_w=draw(watts)))
        cards += [mig.uuid for mig in migs] or [device.uuid]
    seconds = draw(st.floats(0.1, 30))
    some = st.lists(st.sampled_from(cards), max_size=2, unique=True).map(tuple)
    held = [
        replace(lease(f"l{number}", share=draw(st.integers(0, 9))), cards=draw(some))
        for number in range(draw(st.integers(0, 5)))
    ]
    leases = draw(st.dictionaries(pids, st.sampled_from([f"l{number}" for number in range(6)])))
    return [Inventory(NOW, tuple(devices)), Inventory(NOW + seconds, tuple(later))], held, leases


@given(days())
def test_the_shares_of_a_card_add_up_to_what_it_used(day: tuple[list[Inventory], list[Held], dict[int, str]]) -> None:
    (before, after), held, leases = day
    seconds = after.at - before.at
    found = shares(before, after, held, leases)
    for first, second in zip(before.devices, after.devices, strict=True):
        own = [share for share in found if share.parent == first.uuid]
        assert all(share.energy_j is None or share.energy_j >= 0 for share in own)
        if first.energy_j is not None and second.energy_j is not None and second.energy_j >= first.energy_j:
            told = second.energy_j - first.energy_j
            assert sum(share.energy_j or 0 for share in own) == pytest.approx(told, rel=1e-9, abs=1e-9)
        if not first.mig:
            used = [share.used_s for share in own if share.used_s is not None]
            assert sum(used) <= seconds * (second.utilisation or 0) / 100 + 1e-9
    for share in found:
        holder = next((one for one in held if one.request.id == share.lease), None)
        assert holder is None or share.card in holder.cards or share.card == share.parent
        assert holder is not None or share.lease in (IDLE, UNATTRIBUTED)
        assert share.memory_gb_s is None or 0 <= share.memory_gb_s <= seconds * 4 * 8e9 / GB + 1e-6
    every = {(one.request.id, card) for one in held for card in one.cards}
    assert every <= {(share.lease, share.card) for share in found}
