"""What is known of the cards, whatever does not answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.gpu.sight import GONE, Sight
from appliance.gpu.types import Device, Inventory, Mig, Process

NOW = 1_800_000_000.0
A = Device("GPU-a", 0, "NVIDIA A", memory=8, used=1, processes=(Process(1),), power_w=9.0)
B = Device("GPU-b", 1, "NVIDIA B", memory=8, mig=True, migs=(Mig("MIG-b", "1g.5gb", 1, 0, 4, 1, (Process(2),)),))


def look(*devices: Device) -> Inventory:
    return Inventory(0.0, devices, "580", "13.0", present=True)


def test_cards_that_answer() -> None:
    found = Sight().seen(look(A, B), {}, NOW)
    assert found == Inventory(
        NOW, (A, B), "580", "13.0", "NVIDIA A, NVIDIA B, driver 580, CUDA 13.0", ok=True, present=True
    )


def test_no_card_is_fine() -> None:
    found = Sight().seen(look(), {}, NOW)
    assert (found.ok, found.message) == (True, "the driver sees no GPU")


def test_a_card_that_is_gone_stays_with_what_is_true_of_it() -> None:
    sight = Sight()
    sight.seen(look(A, B), {}, NOW)
    found = sight.seen(look(A), {}, NOW + 1)
    assert not found.ok
    gone = found.devices[1]
    assert (gone.uuid, gone.lost, gone.memory, gone.processes) == ("GPU-b", GONE, 8, None)
    assert gone.migs == (Mig("MIG-b", "1g.5gb", 1, 0, 4),), "an instance that is leased is known by its uuid"
    assert sight.seen(look(A, B), {}, NOW + 2).devices == (A, B)


def test_a_card_that_does_not_say_who_it_is_is_known_by_its_place() -> None:
    sight = Sight()
    assert sight.seen(look(A), {1: "needs a reset"}, NOW).message.endswith("; GPU 1 needs a reset")
    sight.seen(look(A, B), {}, NOW)
    found = sight.seen(look(A), {1: "needs a reset"}, NOW)
    assert found.devices[1].lost == "needs a reset"
    assert found.message.count("needs a reset") == 1


def test_a_driver_that_fails_has_not_lost_its_cards() -> None:
    """Whoever holds one would be moved for nothing: an upgrade of the driver's library ends no program."""
    sight = Sight()
    sight.seen(look(A), {}, NOW)
    for later in (0, 3600):
        found = sight.failed("no answer", NOW + later)
        assert (found.ok, found.present, found.devices[0].lost, found.devices[0].processes) == (False, True, "", None)


def test_who_cannot_ask_knows_of_no_driver_until_one_has_spoken() -> None:
    sight = Sight()
    assert not sight.failed("the process was ended", NOW).present
    assert sight.failed("the library and the driver differ", NOW, driver=True).present
    assert sight.failed("the process was ended", NOW).present


def test_a_driver_that_was_there_and_is_not_is_no_machine_without_one() -> None:
    sight = Sight()
    assert (sight.absent("none", NOW).ok, sight.absent("none", NOW).present) == (True, False)
    sight.seen(look(A), {}, NOW)
    assert (sight.absent("none", NOW).ok, sight.absent("none", NOW).present) == (False, True)


def test_a_card_that_hangs_again_while_it_is_looked_for_is_known_by_its_place_too() -> None:
    sight = Sight()
    sight.seen(look(A, B), {}, NOW)
    assert sight.hung(1, "GPU-b", "hangs", NOW).devices[1].lost == "hangs"
    assert (set(sight.silent), set(sight.silent_index)) == ({"GPU-b"}, set())
    assert sight.hung(1, "", "hangs", NOW).devices[1].lost == "hangs"
    assert (set(sight.silent), set(sight.silent_index)) == ({"GPU-b"}, {1})
    assert sight.seen(look(A), {1: "skipped"}, NOW).devices[1].lost == "hangs"
    sight.forgive()
    assert not sight.silent
    assert not sight.silent_index


CARDS = st.lists(st.integers(0, 4).map(lambda at: Device(f"GPU-{at}", at, "N")), unique_by=lambda one: one.uuid)
STEP: st.SearchStrategy[tuple[str, list[Device]]] = st.one_of(
    CARDS.map(lambda cards: ("seen", cards)),
    st.just(("failed", [])),
    st.just(("absent", [])),
    st.integers(0, 4).map(lambda at: ("hung", [Device(f"GPU-{at}", at)])),
)


@given(st.lists(STEP))
def test_no_card_is_forgotten_or_told_twice_and_every_lost_one_is_said(steps: list[tuple[str, list[Device]]]) -> None:
    sight, met = Sight(), set[str]()
    for number, (what, cards) in enumerate(steps):
        at = NOW + number
        if what == "seen":
            met |= {one.uuid for one in cards}
            found = sight.seen(look(*cards), {}, at)
        elif what == "hung":
            found = sight.hung(cards[0].index, cards[0].uuid, "hangs", at)
        else:
            found = sight.failed("no", at) if what == "failed" else sight.absent("none", at)
        uuids = [one.uuid for one in found.devices]
        assert len(set(uuids)) == len(uuids)
        assert set(uuids) == met
        assert not (found.ok and any(one.lost for one in found.devices))
        assert found.message
