"""Whom an Xid concerns: the program, the card, or nobody yet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gpu.xids import AGAIN_S, APPLICATION, BESIDE_S, TABLE, Xid, verdict

NOW = 1_800_000_000.0


@pytest.mark.parametrize("number", [13, 31, 43, 68, 94, 109, 137, 141, 8, 69, 100])
def test_what_a_program_did_marks_the_run(number: int) -> None:
    assert verdict(number, NOW, ()).kind == "run"


CARD = [46, 48, 54, 62, 64, 74, 79, 95, 110, 119, 120, 136, 140, 143, 151, 156, 158, 167, 169, 171, 172]


@pytest.mark.parametrize("number", CARD)
def test_what_the_card_did_takes_it_away(number: int) -> None:
    told = verdict(number, NOW, ())
    assert told.kind == "card"
    assert told.words.startswith(f"Xid {number}: ")
    assert "; " in told.words, "and the next step"


@pytest.mark.parametrize("number", [63, 92, 154, 14, 157, 160, 100_000])
def test_all_else_is_told_and_takes_nothing_away(number: int) -> None:
    assert verdict(number, NOW, ()).kind == "note"


def test_the_removal_of_channels_follows_the_error_before_it() -> None:
    """Alone it is what every program leaves that somebody has killed."""
    assert verdict(45, NOW, ()).kind == "note"
    assert verdict(45, NOW, [Xid(NOW - 1, 31)]).kind == "run"
    assert verdict(45, NOW, [Xid(NOW - BESIDE_S - 1, 31)]).kind == "note"
    assert verdict(45, NOW, [Xid(NOW - 1, 45), Xid(NOW - 1, 45)]).kind == "note"


def test_a_context_switch_that_hangs_twice_is_of_the_card() -> None:
    assert verdict(109, NOW, [Xid(NOW - AGAIN_S + 1, 109)]).kind == "card"
    assert verdict(109, NOW, [Xid(NOW - AGAIN_S - 1, 109)]).kind == "run"
    assert verdict(109, NOW, [Xid(NOW - 1, 31)]).kind == "run"


def test_no_number_is_listed_twice() -> None:
    assert not APPLICATION & TABLE.keys()


@given(number=st.integers(0, 2**64 - 1), before=st.lists(st.tuples(st.floats(0, 2e9), st.integers(0, 200))))
def test_any_number_is_told(number: int, before: list[tuple[float, int]]) -> None:
    told = verdict(number, NOW, [Xid(*one) for one in before])
    assert told.kind in ("run", "card", "note")
    assert f"Xid {number}: " in told.words
