"""Foreign text cannot do anything to a terminal, and a name cannot pass for another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.foreign import clean, line

R = "\N{REPLACEMENT CHARACTER}"
HOSTILE = st.text(st.sampled_from("ab[]0;m\\\x07\x1b\t\n\r\x9b\u202e\x00ü日"), max_size=40)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("58M\t/inputs/d", "58M\t/inputs/d"),
        ("\x1b[1;31mred\x1b[0m and \x1b[38;5;12mblue\x1b[m", "red and blue"),
        ("\x1b]8;;http://x.test\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]0;never ended", "0;never ended"),
        ("\x1b(Bcharset\x1b7", "charset"),
        ("at its end \x1b", f"at its end {R}"),
        ("\x9b2J\u202eevil\x00", f"{R}2J{R}evil{R}"),
        ("größe 日本", "größe 日本"),
    ],
)
def test_a_line_is_shown_as_without_colours(text: str, shown: str) -> None:
    assert line(text) == shown


@given(HOSTILE)
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    assert clean(text).isprintable()
    assert line(text).replace("\t", "").isprintable()


@given(HOSTILE)
def test_every_character_of_a_name_is_seen(text: str) -> None:
    assert len(clean(text)) == len(text)
    assert all(shown in (character, R) for character, shown in zip(text, clean(text), strict=True))


def test_a_long_hostile_line_takes_no_time() -> None:
    for text in ("\x1b]" * 500_000, "\x1b[" * 500_000, "\x1b[" + "0;" * 500_000, "\x1b" + " " * 1_000_000):
        line(text)
