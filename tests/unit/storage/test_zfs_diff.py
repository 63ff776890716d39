"""What `zfs diff -FH` writes, read without ZFS."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from appliance.storage.zfs.changes import parse_diff

TOP = b"/srv/volumes/w/2/"


def escaped(name: bytes) -> bytes:
    """As libzfs writes it: plain ASCII but blank and backslash as it is, all else as four octal digits."""
    return b"".join(bytes([byte]) if 32 < byte < 127 and byte != 92 else b"\\%04o" % byte for byte in name)


def test_both_names_of_a_renamed_file_are_hints() -> None:
    text = b"R\tF\t" + TOP + b"old\t" + TOP + b"new\\0040name\nM\t/\t" + TOP + b"\n"
    assert parse_diff(text, TOP) == ["old", "new name"]


def test_a_link_count_is_no_path() -> None:
    assert parse_diff(b"M\tF\t" + TOP + b"a\t(+1)\n", TOP) == ["a"]


def test_extended_attributes_are_a_change_of_their_file() -> None:
    assert parse_diff(b"+\tF\t" + TOP + b"a/<xattrdir>/user.note\n", TOP)[0] == "a"


def test_what_lies_elsewhere_is_left_out() -> None:
    assert parse_diff(b"+\tF\t/etc/passwd\n-\tF\t/srv/volumes/w/22/a\nM\tF\t<0x1a>\n\n", TOP) == []


@given(st.lists(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name), unique=True, max_size=8))
def test_any_name_is_read_back(names: list[bytes]) -> None:
    text = b"".join(b"+\tF\t" + escaped(TOP + name) + b"\n" for name in names)
    found = [os.fsencode(path) for path in parse_diff(text, TOP)]
    assert set(names) <= set(found)
