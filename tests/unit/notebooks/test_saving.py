"""When a save becomes a moment: after some quiet, and not much later however busy the user is."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appliance.notebooks.saving import SPARE, Mark, Saves, failed, is_due, mark, seen, taken

QUIET, EVERY = 5.0, 60.0


def due(saves: Saves, now: float, *, every_s: float = EVERY) -> bool:
    return is_due(saves, quiet_s=QUIET, every_s=every_s, now=now)


def test_a_save_is_kept_after_some_quiet() -> None:
    saves = seen(Saves(), (1, 1), 100.0)
    assert not due(saves, 104.0)
    assert due(saves, 105.0)
    saves = seen(saves, (1, 2), 104.0)
    assert not due(saves, 105.0)
    assert not due(saves, 105.0, every_s=0)
    saves = taken(saves, 110.0, 110.0)
    assert not due(saves, 1000.0), "no save, no moment"
    assert not due(seen(saves, None, 1000.0), 2000.0)


def test_a_save_during_the_snapshot_is_for_the_next_one() -> None:
    saves = seen(Saves(), (1, 1), 100.0)
    saves = seen(saves, (1, 2), 106.5)
    saves = taken(saves, 106.0, 107.0)
    assert not due(saves, 111.0)
    assert due(saves, 107.0 + SPARE)


def test_a_large_workspace_is_spared() -> None:
    saves = taken(Saves(), 0.0, 30.0)
    saves = seen(saves, (1, 1), 31.0)
    assert not due(saves, 30.0 + 30.0 * SPARE - 1)
    assert due(saves, 30.0 + 30.0 * SPARE)


def test_what_could_not_be_kept_is_tried_again() -> None:
    saves = failed(seen(Saves(), (1, 1), 100.0), 110.0, EVERY)
    assert not due(saves, 110.0 + EVERY - 1)
    assert due(saves, 110.0 + EVERY)
    assert failed(Saves(), 110.0, EVERY).first is None


@given(st.lists(st.floats(0.1, 7.0), min_size=1, max_size=200))
def test_no_save_waits_longer_than_that(pauses: list[float]) -> None:
    """A look each second, saves at any time, snapshots that take no time."""
    saves, mark_, now, oldest = Saves(), 0, 0.0, None
    times = iter([sum(pauses[: index + 1]) for index in range(len(pauses))])
    next_save = next(times, None)
    while next_save is not None or saves.first is not None:
        now += 1.0
        while next_save is not None and next_save <= now:
            mark_ += 1
            oldest = now if oldest is None else oldest
            next_save = next(times, None)
        saves = seen(saves, (1, mark_) if mark_ else None, now)
        if due(saves, now):
            assert oldest is not None
            assert now - oldest <= EVERY
            saves, oldest = taken(saves, now, now), None
    assert oldest is None


def test_the_mark_is_of_the_file_itself(tmp_path: Path) -> None:
    file = tmp_path / "saved"
    found: list[Mark] = [mark(file)]
    file.touch()
    os.utime(file, ns=(1, 1))
    found.append(mark(file))
    os.utime(file, ns=(2, 2))
    found.append(mark(file))
    file.unlink()
    file.symlink_to(tmp_path)
    found.append(mark(file))
    (tmp_path / "other").touch()
    assert mark(file) == found[-1], "a link is looked at, not what it leads to"
    assert found[0] is None
    assert len(set(found)) == 4
