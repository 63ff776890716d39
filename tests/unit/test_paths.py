"""Any name crosses the API as text and comes back as the same bytes."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.paths import decode, encode

PIECES = st.sampled_from([b"\\", b"x", b"5c", b"ff", b"\xff", b"\xc3", "é".encode(), b"/", b"\n"])


@given(st.one_of(st.binary(), st.lists(PIECES).map(b"".join)))
def test_every_name_comes_back(name: bytes) -> None:
    text = encode(name)
    text.encode()
    assert os.fsencode(decode(text)) == name


@given(st.lists(PIECES).map(b"".join), st.lists(PIECES).map(b"".join))
def test_no_two_names_look_alike(one: bytes, other: bytes) -> None:
    assert (encode(one) == encode(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"a/b.txt", "a/b.txt"), (b"caf\xe9", "caf\\xe9"), (b"c:\\new", "c:\\new"), (b"\\xe9", "\\x5cxe9")],
)
def test_how_it_looks(name: bytes, text: str) -> None:
    assert encode(name) == text
