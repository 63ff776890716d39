"""Renames: told where they are certain, folded where a whole directory moved, and never invented."""

from __future__ import annotations

import time

from appliance.history.diff.renames import Held, Sorted, pair


def file(path: str, size: int = 10, time_: int = 1, inode: int = 0) -> Held:
    return Held(path, "file", size, time_, inode)


def folder(path: str) -> Held:
    return Held(path, "directory", 0, 0, 0)


def never(was: Held, now: Held) -> bool:
    raise AssertionError(f"nobody needs to read {was} and {now}")


def always(was: Held, now: Held) -> bool:
    return True


def told(found: Sorted) -> tuple[set[tuple[str, str]], set[str], set[str]]:
    return (
        {(each.was.path, each.now.path) for each in found.renamed},
        {entry.path for entry in found.removed},
        {entry.path for entry in found.added},
    )


def test_the_same_inode_is_not_read() -> None:
    assert told(pair([file("a", inode=7)], [file("b", inode=7)], never)) == ({("a", "b")}, set(), set())


def test_an_inode_that_was_given_again_is_no_rename() -> None:
    """ZFS gives the number of a removed file to the next one."""
    assert told(pair([file("a", size=10, inode=7)], [file("b", size=11, inode=7)], never)) == (set(), {"a"}, {"b"})
    assert told(pair([file("a", time_=1, inode=7)], [file("b", time_=2, inode=7)], never)) == (set(), {"a"}, {"b"})


def test_a_clock_of_whole_seconds_does_not_prove_it() -> None:
    second = 1_000_000_000
    was, now = file("a", time_=second, inode=7), file("b", time_=second, inode=7)
    assert told(pair([was], [now], lambda was, now: False)) == (set(), {"a"}, {"b"})
    assert told(pair([was], [now], always)) == ({("a", "b")}, set(), set())


def test_other_bytes_are_no_rename() -> None:
    assert told(pair([file("a")], [file("b", inode=1)], lambda was, now: False)) == (set(), {"a"}, {"b"})


def test_empty_files_are_not_paired_by_their_bytes() -> None:
    assert told(pair([file("a", size=0)], [file("b", size=0, inode=1)], never)) == (set(), {"a"}, {"b"})


def test_each_file_is_claimed_once_and_its_own_name_first() -> None:
    removed = [file("old/a"), file("old/b", inode=1)]
    added = [file("new/b", inode=2), file("new/x", inode=3), file("new/y", inode=4)]
    found = told(pair(removed, added, always))
    assert found == ({("old/b", "new/b"), ("old/a", "new/x")}, set(), {"new/y"})


def test_a_directory_that_moved_is_one_rename() -> None:
    removed = [folder("x"), file("x/a", inode=1), folder("x/in"), file("x/in/b", size=5, inode=2)]
    added = [folder("z"), file("z/a", inode=1), folder("z/in"), file("z/in/b", size=5, inode=2)]
    found = pair(removed, added, never)
    assert told(found) == ({("x", "z")}, set(), set())
    assert found.renamed[0].now.size == 15


def test_a_directory_that_moved_and_changed_is_told_file_by_file() -> None:
    removed = [folder("x"), file("x/a", inode=1), folder("x/in"), file("x/in/b", inode=2)]
    added = [folder("z"), file("z/a", inode=1), folder("z/in"), file("z/in/b", inode=2), file("z/new", inode=3)]
    found = told(pair(removed, added, lambda was, now: False))
    assert found == ({("x/a", "z/a"), ("x/in", "z/in")}, {"x"}, {"z", "z/new"})


def test_a_directory_that_was_split_is_not_folded() -> None:
    removed = [folder("x"), file("x/a", inode=1), file("x/b", inode=2)]
    added = [folder("y"), file("y/a", inode=1), folder("z"), file("z/b", inode=2)]
    assert told(pair(removed, added, never)) == ({("x/a", "y/a"), ("x/b", "z/b")}, {"x"}, {"y", "z"})


def test_a_directory_moved_into_itself() -> None:
    """`mv a tmp; mkdir a; mv tmp a/b`: the outer one stays and is not among these."""
    removed = [file("a/f", inode=1)]
    added = [folder("a/b"), file("a/b/f", inode=1)]
    assert told(pair(removed, added, never)) == ({("a/f", "a/b/f")}, set(), {"a/b"})


def test_many_files_of_one_size_and_time_end_in_time() -> None:
    """An archive gives thousands of files one time; a hostile one gives them one size too."""
    asked = 0

    def differ(was: Held, now: Held) -> bool:
        nonlocal asked
        asked += 1
        return False

    removed = [file(f"old/{number}", inode=number) for number in range(20_000)]
    added = [file(f"new/{number}", inode=100_000 + number) for number in range(20_000)]
    begun = time.process_time()
    found = pair(removed, added, differ)
    assert time.process_time() - begun < 20
    assert asked <= 8 * 20_000
    assert len(found.removed) == len(found.added) == 20_000
