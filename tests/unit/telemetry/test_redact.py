from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.telemetry.redact import MASK, Redactor


def test_the_longest_secret_wins() -> None:
    redactor = Redactor(["token", "token-and-more"])
    assert redactor.scrub("a token-and-more b token c") == f"a {MASK} b {MASK} c"


def test_short_values_are_no_secrets() -> None:
    assert Redactor(["", "a", "abc"]).scrub("abcabc") == "abcabc"


def test_a_secret_of_several_lines_is_found_line_by_line() -> None:
    redactor = Redactor(["-----BEGIN KEY-----\nMIIEabcdef\n}\n"])
    assert redactor.scrub_all(["x", "MIIEabcdef", "}"]) == ["x", MASK, "}"]


def test_values_are_literal() -> None:
    assert Redactor(["a.*b("]).scrub("a.*b( axxb(") == f"{MASK} axxb("


def test_lines_without_secrets_are_not_copied() -> None:
    lines = ["one", "two"]
    assert Redactor(["secret"]).scrub_all(lines) is lines


def test_secrets_are_only_added() -> None:
    redactor = Redactor(["first"])
    assert redactor.adding(["first"]) is redactor
    assert redactor.adding(["second"]).scrub("first second") == f"{MASK} {MASK}"


@given(
    before=st.text("xyz", max_size=30),
    secret=st.text("abc", min_size=4, max_size=12),
    after=st.text("xyz", max_size=30),
    cuts=st.lists(st.integers(1, 5), max_size=20),
)
def test_a_text_stored_in_parts_never_shows_a_secret(before: str, secret: str, after: str, cuts: list[int]) -> None:
    redactor = Redactor([secret])
    text, stored, waiting = before + secret + after, "", ""
    for size in [*cuts, len(text)]:
        waiting, text = waiting + text[:size], text[size:]
        done, waiting = redactor.split(waiting)
        stored += done
    stored += redactor.scrub(waiting)
    assert stored == before + MASK + after
