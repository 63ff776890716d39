"""What `get notebook NAME` says of a session that may be stopped by itself."""

from __future__ import annotations

from appliance.cli import render, use

NOW = 1_800_000_000.0
AT = render.clock(NOW - 60)
ENDS = render.clock(NOW + 600)


def test_unused_in_use_and_bounded() -> None:
    assert use.line(None) == ""
    unused = {"since": NOW - 60, "why": "", "ends": NOW + 600}
    assert use.line(unused, NOW) == f"unused since {AT}; stopped in 10m ({ENDS})"
    computes = {"since": None, "why": "the kernel of a.ipynb computes", "ends": None}
    assert use.line(computes, NOW) == "the kernel of a.ipynb computes"
    assert use.line({**computes, "ends": NOW + 600}, NOW).endswith(f"computes; stopped in 10m ({ENDS})")
    assert use.line({"since": None, "why": "", "ends": NOW + 600}, NOW) == f"in use; stopped in 10m ({ENDS})"
    assert "\x1b" not in use.line({"why": "\x1b[31mred"})
