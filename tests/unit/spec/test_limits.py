"""What a container may use, by its machine type."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.settings import Settings, load
from appliance.spec.limits import Limits, limits_of

GIB = 2**30
TABLES = """
    shm_mb = 512
    machine = "small"
    [machines.small]
    cpus = 0.5
    memory = "1G"
    also = ["P4000"]
    [machines.roomy]
    shm = "2G"
    cpus = 4096
"""


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    (tmp_path / "config.toml").write_text(TABLES)
    return load({}, home=tmp_path)


def test_gradients_names_limit_nothing(tmp_path: Path, own: Settings) -> None:
    nothing = Limits(0.0, 0, 1 << 30)
    plain = load({}, home=tmp_path / "other")
    assert [limits_of(name, plain) for name in ("C4", "P4000", "ours", "")] == [nothing] * 4
    assert limits_of("C4", own) == limits_of("", own) == Limits(0.0, 0, 1 << 29)


def test_a_table_limits_what_it_says(own: Settings) -> None:
    assert limits_of("small", own) == limits_of("P4000", own) == Limits(0.5, GIB, 1 << 29)
    assert limits_of("smallx2", own).memory_bytes == 2 * GIB


def test_more_processors_than_there_are_are_all_of_them(own: Settings) -> None:
    assert limits_of("roomy", own) == Limits(os.cpu_count() or 1, 0, 2 * GIB)


def test_a_name_that_nobody_knows_is_limited_as_the_one_it_gets(own: Settings) -> None:
    assert limits_of("ours", own) == limits_of("small", own)


def test_what_the_spec_says_of_its_shared_memory_goes_first(own: Settings) -> None:
    assert limits_of("roomy", own, shm=GIB).shm_bytes == GIB
