"""Names: what is refused, and parts made of any text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.storage.names import MOST_IN_PART, check_snapshot, check_volume, part

ANY_TEXT = st.text() | st.text(st.sampled_from("ab./~_- "), max_size=80)


@given(ANY_TEXT, st.integers(20, MOST_IN_PART))
def test_a_part_of_any_text_is_a_name(text: str, most: int) -> None:
    made = part(text, most)
    assert len(made) <= most
    assert check_volume(made) == check_snapshot(made) == made


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_are_different_parts(one: str, other: str) -> None:
    assert (part(one, 24) == part(other, 24)) == (one == other)


@given(ANY_TEXT)
def test_a_text_that_looks_like_a_made_part_is_not_taken_for_it(text: str) -> None:
    made = part(text, 24)
    assert made == text or part(made, 24) != made


def test_a_plain_text_is_its_own_part() -> None:
    assert part("CloneRepo") == "CloneRepo"
    assert part("efficient-net_B2.v1") == "efficient-net_B2.v1"
