"""Whether two revisions have room side by side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.deployments.fit import available, gpus_apart, memory_apart

GIB = 2**30


@pytest.mark.parametrize(
    ("replicas", "free", "own", "apart"),
    [
        (1, 0, 1, True),  # the only GPU
        (1, 1, 1, False),
        (2, 1, 1, True),
        (8, None, 8, False),  # nobody gets one here, so none is missing
        (1, 0, 0, False),  # others have them: to leave would free none
        (3, 0, 2, False),  # it would not be enough
    ],
)
def test_who_leaves_for_a_gpu_leaves_one_that_is_enough(replicas: int, free: int | None, own: int, apart: bool) -> None:
    assert bool(gpus_apart(replicas, free=free, own=own)) == apart


def test_it_says_how_many() -> None:
    assert gpus_apart(2, free=1, own=1).startswith("GPUs are free for 1 of its 2 replicas")


def test_memory_that_is_not_there_is_told_and_what_is_not_known_fits() -> None:
    assert "10.0 GiB of memory, and 8.0 GiB are free" in memory_apart(10 * GIB, 8 * GIB)
    assert memory_apart(8 * GIB, 8 * GIB) == ""
    assert memory_apart(10 * GIB, None) == ""
    assert memory_apart(None, 1) == ""


def test_free_memory_is_read_from_the_kernels_own_words() -> None:
    assert available("MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n") == 2 * 2**20
    assert available("MemTotal: 1 kB\nMemAvailable:\n") is None
    assert available("") is None


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_what_fits_fits_where_more_is_free(replicas: int, free: int, own: int, more: int) -> None:
    if free >= replicas:
        assert not gpus_apart(replicas, free=free + more, own=own)
