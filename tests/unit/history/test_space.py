"""Who holds the space and how long it lasts: laws, and the cases that a sum gets wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.history.space import (
    DAY_S,
    LEAST_SHARED,
    MOST_GROUPS,
    MOST_HOLDERS,
    Growth,
    Known,
    Written,
    bounded,
    forecast,
    groups_to_ask,
    growth,
    holders,
    owners,
)
from appliance.state.snapshots import Snapshot
from appliance.storage.base import Reclaim, Usage

NOW = 1_800_000_000.0
GB = 10**9


def known(**more: object) -> Known:
    values = {
        "names": {"workspaces/u1": ("notebook", "lab"), "datasets/d1": ("dataset", "mnist")},
        "sources": (),
        "heads": ("workspaces/u1/2",),
        "moments": {},
        "held": (),
        **more,
    }
    return Known(**values)  # type: ignore[arg-type]


def test_a_workspace_that_was_rolled_back_counts_its_old_volume_as_history() -> None:
    usages = {
        "workspaces/u1/1": Usage(5 * GB, GB, 2 * GB, {}, shared=5 * GB),
        "workspaces/u1/2": Usage(5 * GB, GB // 10, GB // 20, {}),
        "datasets/d1/v1": Usage(2 * GB, 2 * GB, 0, {}),
        "storage": Usage(GB, GB, 0, {}),
        "system/home/x": Usage(1, 1, 0, {}),
        "runs/gone/a/out-x": Usage(3, 3, 0, {}),
    }
    found = {f"{owner.kind}/{owner.name}": owner for owner in owners(usages, known())}
    lab = found["notebook/lab"]
    assert (lab.live, lab.disk, lab.unique) == (5 * GB, 61 * GB // 10, 61 * GB // 10)
    assert lab.history == lab.disk - lab.live
    assert (found["dataset/mnist"].live, found["dataset/mnist"].history) == (2 * GB, 0)
    assert {"shared/storage", "system/home", "?/runs/gone"} <= found.keys()
    assert next(iter(found)) == "notebook/lab", "who holds most comes first"


def test_what_a_fork_shares_counts_to_its_source_and_stays_if_that_goes() -> None:
    usages = {
        "workspaces/u1/2": Usage(5 * GB, GB, GB, {}, shared=5 * GB),
        "workspaces/u2/1": Usage(5 * GB, GB // 4, GB // 8, {}),
    }
    names = {"workspaces/u1": ("notebook", "lab"), "workspaces/u2": ("notebook", "fork")}
    heads = ("workspaces/u1/2", "workspaces/u2/1")
    source, fork = owners(usages, known(names=names, heads=heads, sources={"workspaces/u1"}))
    assert (source.name, source.disk, source.unique) == ("lab", 6 * GB, GB)
    assert (fork.live, fork.disk, fork.unique, fork.history) == (5 * GB, GB // 4, GB // 4, GB // 8)


usage_values = st.builds(
    Usage,
    referenced=st.integers(0, 1 << 40),
    unique=st.integers(0, 1 << 40),
    history=st.integers(0, 1 << 40),
    snapshots=st.dictionaries(st.sampled_from([f"s{number}" for number in range(30)]), st.integers(0, 1 << 38)),
    shared=st.integers(0, 1 << 40),
)
volumes = st.sampled_from(["workspaces/u1/1", "workspaces/u1/2", "datasets/d1/a", "runs/r/j/out-o", "storage"])


@given(usages=st.dictionaries(volumes, usage_values))
def test_all_owners_add_up_to_the_disk_and_lists_are_short(usages: dict[str, Usage]) -> None:
    found = owners(usages, known())
    assert sum(owner.disk for owner in found) == sum(usage.unique + usage.shared for usage in usages.values())
    assert all(0 <= owner.unique <= owner.disk and owner.history >= 0 for owner in found)
    groups = groups_to_ask(usages, known(held=("s1",)))
    assert len(groups) <= MOST_GROUPS
    assert all(len(names) > 1 and "s1" not in names for _, names in groups)
    listed = holders(usages, [], known())
    assert len(listed) <= MOST_HOLDERS
    assert [holder.bytes for holder in listed] == sorted((holder.bytes for holder in listed), reverse=True)
    assert all(holder.bytes > 0 for holder in listed)


def test_a_big_file_that_two_snapshots_share_is_found_as_a_group() -> None:
    """It was deleted after both were taken: neither alone frees a byte of it."""
    usages = {"workspaces/u1/2": Usage(GB, 4 * GB, 3 * GB, {"a": 10, "b": 20, "c": 0})}
    here = known(held=("c",))
    assert groups_to_ask(usages, here) == [("workspaces/u1/2", ("a", "b"))]
    moments = {"a": Snapshot("a", "u1", "workspaces/u1/1", "manual", "before the run", NOW)}
    group = ("workspaces/u1/2", ("a", "b"), Reclaim(3 * GB, exact=True))
    first, second, third = holders(usages, [group], known(moments=moments))
    assert (first.snapshots, first.bytes, first.message) == (("a", "b"), 3 * GB, "2 snapshots together")
    assert (second.snapshots, second.bytes, second.cause) == (("b",), 20, "")
    assert (third.snapshots, third.cause, third.message, third.created) == (("a",), "manual", "before the run", NOW)


def test_the_snapshot_of_a_run_has_its_age_and_why() -> None:
    """It is no moment of a history: a volume of a run is frozen when its job ends."""
    usages = {
        "runs/r1/a/out-x": Usage(GB, GB, GB, {"done": GB}),
        "runs/r2/a/out-x": Usage(GB, GB, GB, {"backup-1": GB // 2}),
    }
    names = {"runs/r1": ("run", "train.1"), "runs/r2": ("run", "train.2")}
    ended = {"runs/r1": NOW, "runs/r2": NOW}
    first, second = holders(usages, [], known(names=names, ended=ended))
    assert (first.name, first.created, first.cause, first.message) == ("train.1", NOW, "run", "as its job left it")
    assert (second.name, second.created, second.cause) == ("train.2", 0.0, "backup")


def test_little_that_is_shared_is_not_worth_the_question() -> None:
    usages = {"workspaces/u1/2": Usage(GB, GB, LEAST_SHARED - 1, {"a": 0, "b": 0})}
    assert groups_to_ask(usages, known()) == []


def test_the_pace_of_a_week() -> None:
    written = [Written(NOW - day * DAY_S, GB) for day in range(7)]
    pace = growth(written, NOW - 30 * DAY_S, NOW)
    assert (pace.per_day, pace.days, pace.why) == (GB, 7.0, "")
    soon = forecast(20 * GB, 6 * GB, pace)
    assert (soon.low_in_days, soon.full_in_days) == (14.0, 20.0)
    assert forecast(GB, 6 * GB, pace).low_in_days == 0.0


def test_a_young_appliance_is_measured_over_the_days_it_has() -> None:
    pace = growth([Written(NOW - 2 * DAY_S, GB), Written(NOW, GB)], NOW - 2 * DAY_S, NOW)
    assert (pace.per_day, pace.days) == (GB, 2.0)


@pytest.mark.parametrize(
    ("written", "since", "words"),
    [
        ([], None, "nothing has been kept yet"),
        ([Written(NOW - 3600, GB)], NOW - 3600, "less than a day"),
        ([Written(NOW, None), Written(NOW, None), Written(NOW, 5)], NOW - 9 * DAY_S, "2 of 3 moments"),
        ([], NOW + 500, "less than a day"),
    ],
)
def test_too_little_is_said_and_not_guessed(written: list[Written], since: float | None, words: str) -> None:
    pace = growth(written, since, NOW)
    assert pace.per_day is None
    assert words in pace.why
    assert forecast(GB, 0, pace).full_in_days is None


def test_a_quiet_week_is_known_to_be_quiet() -> None:
    pace = growth([], NOW - 30 * DAY_S, NOW)
    assert pace.per_day == 0.0
    assert forecast(GB, 0, pace).full_in_days is None


def test_unknown_sizes_are_counted_aloud() -> None:
    pace = growth([Written(NOW, GB), Written(NOW, GB), Written(NOW, None)], NOW - 7 * DAY_S, NOW)
    assert pace.per_day == 2 * GB / 7
    assert "1 moments" in pace.why


def test_no_more_was_added_than_is_there() -> None:
    assert bounded(Growth(GB, 7.0), 10 * GB).per_day == GB
    assert bounded(Growth(GB, 7.0), 7 * GB // 2).per_day == GB / 2
    assert bounded(Growth(None, 0.0, "why"), 0).per_day is None


@given(
    written=st.lists(st.builds(Written, st.floats(NOW - 20 * DAY_S, NOW), st.none() | st.integers(0, 1 << 40))),
    free=st.integers(0, 1 << 50),
    low=st.integers(0, 1 << 40),
)
def test_a_forecast_is_never_in_the_past_and_low_comes_first(written: list[Written], free: int, low: int) -> None:
    pace = growth(written, min((each.at for each in written), default=None), NOW)
    found = forecast(free, low, pace)
    if found.full_in_days is None:
        assert not pace.per_day
    else:
        assert found.low_in_days is not None
        assert 0 <= found.low_in_days <= found.full_in_days
