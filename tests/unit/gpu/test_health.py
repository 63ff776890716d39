"""What two looks say of a card's health, once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.gpu.health import RECOVERY, faults, remember
from appliance.gpu.types import Device, Inventory

GOOD = Device("GPU-a", 0, ecc_uncorrected=2, remap_failed=False, remap_pending=False, recovery=0)
OTHER = Device("GPU-b", 1)


def told(before: Device | None, after: Device) -> list[tuple[str, str]]:
    earlier = Inventory(1.0, (OTHER, *([before] if before else [])), present=True)
    known = remember({}, earlier)
    return [(one.kind, one.words) for one in faults(known, Inventory(2.0, (after, OTHER), present=True))]


WORSE: dict[str, tuple[dict[str, Any], str]] = {
    "lost": ({"lost": "needs a reset"}, "card"),
    "no row is left": ({"remap_failed": True}, "card"),
    "a row waits": ({"remap_pending": True}, "note"),
    "an error more": ({"ecc_uncorrected": 3}, "note"),
    **{f"action {number}": ({"recovery": number}, "card") for number in (*RECOVERY, 99)},
}


@pytest.mark.parametrize("case", WORSE)
def test_what_gets_worse_is_told_once(case: str) -> None:
    change, kind = WORSE[case]
    worse = replace(GOOD, **change)
    assert [one for one, _ in told(GOOD, worse)] == [kind]
    assert told(worse, worse) == []


@pytest.mark.parametrize("case", WORSE)
def test_a_card_that_was_silent_has_nothing_new_to_tell(case: str) -> None:
    worse = replace(GOOD, **WORSE[case][0])
    known: dict[str, Device] = {}
    for device in (worse, Device("GPU-a", 0), Device("GPU-a", 0, lost=worse.lost or "hangs")):
        known = remember(known, Inventory(1.0, (device,)))
    assert faults(known, Inventory(2.0, (replace(worse, lost=""),))) == ()


def test_all_that_is_wrong_with_a_card_is_told_when_it_is_first_seen() -> None:
    bad = replace(GOOD, remap_failed=True, recovery=1)
    assert [kind for kind, _ in told(None, bad)] == ["card", "card", "note"]
    assert told(None, replace(GOOD, ecc_uncorrected=0)) == []


def test_what_is_not_told_is_no_fault() -> None:
    silent = Device("GPU-a", 0)
    assert told(GOOD, silent) == []
    assert told(silent, GOOD) == [("note", "2 uncorrectable memory errors; watch whether they go on")]


def test_a_counter_that_begins_anew_is_not_negative() -> None:
    assert told(GOOD, replace(GOOD, ecc_uncorrected=1)) == [
        ("note", "1 uncorrectable memory error; watch whether they go on")
    ]
    assert told(GOOD, replace(GOOD, ecc_uncorrected=0)) == []
