"""What the child says comes out as it went in; anything else is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gpu import lines
from appliance.gpu.types import Device, Inventory, Mig, Process

PROCESS = st.builds(Process, pid=st.integers(0, 2**22), memory=st.none() | st.integers(0, 2**40))
PROCESSES = st.none() | st.lists(PROCESS, max_size=3).map(tuple)
MIG = st.builds(Mig, uuid=st.text(), profile=st.text(), gi=st.none() | st.integers(0, 9), processes=PROCESSES)
DEVICE = st.builds(
    Device,
    uuid=st.text(),
    index=st.integers(0, 99),
    name=st.text(),
    migs=st.lists(MIG, max_size=3).map(tuple),
    processes=PROCESSES,
    power_w=st.none() | st.floats(0, 1e4),
    energy_j=st.none() | st.floats(0, 1e15),
    lost=st.text(),
)


@given(
    st.builds(Inventory, at=st.floats(0, 2e9), devices=st.lists(DEVICE, max_size=4).map(tuple), present=st.booleans())
)
def test_an_inventory_comes_back_as_it_was(found: Inventory) -> None:
    line = lines.write({"inventory": found})
    assert line.count(b"\n") == 1
    assert lines.inventory(lines.read(line)["inventory"]) == found


def test_what_a_newer_child_says_beside_is_left_out() -> None:
    assert lines.inventory({"at": 1.0, "later": 5, "devices": [{"uuid": "G", "index": 0, "more": 1}]}) == Inventory(
        1.0, (Device("G", 0),)
    )


@pytest.mark.parametrize("line", [b"", b"[]\n", b"NVRM: oops\n", b'{"a": \n', b"\xff\n"])
def test_a_line_that_is_none_of_ours(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        lines.read(line)


@pytest.mark.parametrize(
    "said", [None, [], {}, {"at": 1.0, "devices": [{}]}, {"at": 1.0, "devices": [5]}, {"at": 1.0, "devices": 5}]
)
def test_an_inventory_that_is_none(said: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        lines.inventory(orjson.loads(orjson.dumps(said)))
