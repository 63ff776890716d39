"""Why a card is slower than it could be."""

from __future__ import annotations

import pytest

from appliance.gpu.reasons import kind, throttled

CASES = {
    "not told": (None, "", 0),
    "free": (0, "", 0),
    "at rest": (0x1, "", 0),
    "set by somebody": (0x2 | 0x10 | 0x100, "", 0),
    "power cap": (0x4, "power", 1),
    "power brake, which is a slowdown too": (0x80 | 0x8, "power", 1),
    "hot, by the driver": (0x20, "thermal", 1),
    "hot, by the hardware, which is a slowdown too": (0x40 | 0x8, "thermal", 1),
    "both": (0x4 | 0x20, "thermal+power", 2),
    "one that does not say which": (0x8, "hardware", 1),
    "bits of years to come": (1 << 40, "", 0),
}


@pytest.mark.parametrize("case", CASES)
def test_reasons(case: str) -> None:
    bits, of_kind, words = CASES[case]
    assert kind(bits) == of_kind
    assert len(throttled(bits)) == words
