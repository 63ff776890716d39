"""Whether two revisions have room side by side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.deployments.fit import Need, Room, available, fits, gpus

GIB = 2**30


def test_two_that_need_the_only_gpu_do_not_fit() -> None:
    one = Need(gpus=1)
    assert fits(one, one, Need(), Room(gpus=1)) == "1 of 1 GPUs are there for it, and both need 2"
    assert fits(one, one, Need(), Room(gpus=2)) == ""
    assert fits(one, one, Need(gpus=1), Room(gpus=2)) == "1 of 2 GPUs are there for it, and both need 2"


def test_where_there_is_no_gpu_nobody_waits_for_one() -> None:
    assert fits(Need(gpus=8), Need(gpus=8), Need(), Room(gpus=0)) == ""


def test_a_revision_without_a_gpu_fits_beside_one_that_has_all() -> None:
    assert fits(Need(), Need(gpus=4), Need(), Room(gpus=4)) == ""


def test_memory_that_is_not_there_is_told_and_what_is_not_known_fits() -> None:
    assert "10.0 GiB of memory, and 8.0 GiB are free" in fits(Need(memory=10 * GIB), Need(), Need(), Room(0, 8 * GIB))
    assert fits(Need(memory=8 * GIB), Need(), Need(), Room(0, 8 * GIB)) == ""
    assert fits(Need(memory=10 * GIB), Need(), Need(), Room()) == ""
    assert fits(Need(), Need(), Need(), Room(0, 1)) == ""


def test_a_machine_types_name_tells_its_gpus() -> None:
    assert [gpus(name, 2) for name in ("A4000", "A4000x2", "C5", "our-own", "")] == [2, 4, 0, 0, 0]


def test_free_memory_is_read_from_the_kernels_own_words() -> None:
    assert available("MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n") == 2 * 2**20
    assert available("MemTotal: 1 kB\nMemAvailable:\n") is None
    assert available("") is None


NEEDS = st.builds(Need, st.integers(0, 8), st.none() | st.integers(0, 100))


@given(NEEDS, NEEDS, NEEDS, st.integers(0, 16), st.none() | st.integers(0, 100), st.integers(0, 8))
def test_what_fits_fits_into_more(
    wanted: Need, running: Need, others: Need, all_: int, free: int | None, more: int
) -> None:
    if all_ and not fits(wanted, running, others, Room(all_, free)):
        roomier = Room(all_ + more, None if free is None else free + more)
        assert fits(wanted, running, others, roomier) == ""
