"""Lines: whatever two texts are, the hunks lead from one to the other, in bounded time."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.history.diff import text

LINES = st.lists(st.sampled_from(["a", "b", "c", "", " d", "\r"]), max_size=30)
TEXTS = st.builds(lambda lines, end: "\n".join(lines) + end, LINES, st.sampled_from(["", "\n"]))


def applied(before: str, found: text.Lines) -> str:
    """What the hunks make of the older text; every context line is checked on the way."""
    old, new, at = text.split(before), list[str](), 0
    for hunk in found.hunks:
        first = hunk["before"] - 1
        new += old[at:first]
        at = first
        assert hunk["after"] == len(new) + 1
        lines = [*hunk["lines"], " "]
        for line, following in pairwise(lines):
            if line.startswith("\\"):
                continue
            content = line[1:] + ("" if following.startswith("\\") else "\n")
            if line[0] in " -":
                assert old[at] == content
                at += 1
            if line[0] in " +":
                new.append(content)
    return "".join([*new, *old[at:]])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS, TEXTS)
def test_the_hunks_lead_from_one_text_to_the_other(before: str, after: str) -> None:
    found = text.compare(before, after)
    assert applied(before, found) == after
    assert bool(found.hunks) == (before != after)
    assert found.note == ""


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(LINES, LINES)
def test_what_is_matched_is_equal_and_in_order(old: list[str], new: list[str]) -> None:
    blocks, whole = text.match(old, new)
    assert whole
    at = (0, 0)
    for block in blocks:
        assert block.size > 0
        assert block.before >= at[0]
        assert block.after >= at[1]
        assert old[block.before :][: block.size] == new[block.after :][: block.size]
        at = (block.before + block.size, block.after + block.size)


def longest_common(old: Sequence[str], new: Sequence[str]) -> int:
    row = [0] * (len(new) + 1)
    for a in old:
        above = 0
        for index, b in enumerate(new):
            above, row[index + 1] = row[index + 1], above + 1 if a == b else max(row[index], row[index + 1])
    return row[-1]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from("aab"), max_size=20), st.lists(st.sampled_from("aab"), max_size=20))
def test_without_a_frame_the_shortest_edit_is_found(old: list[str], new: list[str]) -> None:
    doubled_old, doubled_new = old + old, new + new  # no line occurs once
    blocks, _ = text.match(doubled_old, doubled_new)
    assert sum(block.size for block in blocks) == longest_common(doubled_old, doubled_new)


def test_a_moved_function_keeps_its_frame() -> None:
    """What a line-by-line search would tear: the unique lines hold the rest together."""
    one = "def one():\n    return 1\n\n"
    two = "def two():\n    return 2\n\n"
    found = text.compare(one + two, f"def zero():\n    return 0\n\n{one}{two}")
    assert [line for hunk in found.hunks for line in hunk["lines"] if line[0] != " "] == [
        "+def zero():",
        "+    return 0",
        "+",
    ]


def test_far_changes_have_hunks_of_their_own() -> None:
    before = "".join(f"{n}\n" for n in range(100))
    found = text.compare(before, before.replace("\n10\n", "\nten\n").replace("\n80\n", "\neighty\n"))
    assert [(hunk["before"], hunk["after"], len(hunk["lines"])) for hunk in found.hunks] == [(8, 8, 8), (78, 78, 8)]


def test_a_missing_newline_at_the_end_is_told() -> None:
    found = text.compare("a\nb\n", "a\nb")
    assert found.hunks[0]["lines"] == [" a", "-b", "+b", "\\ no newline at the end"]


def test_hostile_texts_take_bounded_time() -> None:
    chance = random.Random(1)
    begun = time.process_time()
    for kinds in (2, 10, 15_000):
        old, new = ([str(chance.randrange(kinds)) for _ in range(30_000)] for _ in range(2))
        text.match(old, new)
    assert time.process_time() - begun < 20
    long = text.compare("x" * 100_000, "y" * 100_000)
    assert len("".join(long.hunks[0]["lines"])) < 3 * text.MOST_WIDTH


def test_a_search_that_is_given_up_is_told_and_still_right() -> None:
    chance = random.Random(1)
    before, after = ("".join(f"{chance.randrange(3)}\n" for _ in range(4000)) for _ in range(2))
    found = text.compare(before, after, most=100_000)
    assert "too many differences" in found.note
    assert applied(before, found) == after


def test_a_long_answer_is_cut_and_says_so() -> None:
    found = text.compare("", "x\n" * 100, most=10)
    assert found.note == "cut after 10 lines"
    assert found.hunks[0]["lines"] == ["+x"] * 10


def test_what_is_no_text() -> None:
    assert text.decode(b"\x89PNG\0\0") is None
    assert text.decode("naïve".encode("latin-1")) is None
    assert text.decode("naïve ☃".encode()) == "naïve ☃"
    half = "☃".encode()[:2]
    assert text.decode(half) is None
    assert text.decode(half, cut=True) == ""
