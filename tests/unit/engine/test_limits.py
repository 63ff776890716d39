"""Limits that a container asks for, as far as they can be had."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from appliance.engine import limits
from appliance.engine.limits import UNLIMITED, Limit, allowed

WANTED = [Limit("memlock", UNLIMITED, UNLIMITED), Limit("stack", 64 << 20, UNLIMITED), Limit("nofile", 4096, 4096)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its file tells what the process may do; hard limits are 8 MiB of locked memory, any stack, and 1024 files."""
    hard = {
        resource.RLIMIT_MEMLOCK: 8 << 20,
        resource.RLIMIT_STACK: resource.RLIM_INFINITY,
        resource.RLIMIT_NOFILE: 1024,
    }
    monkeypatch.setattr(resource, "getrlimit", lambda number: (0, hard[number]))
    monkeypatch.setattr(limits, "_STATUS", tmp_path / "status")
    return tmp_path / "status"


def test_who_may_raise_limits_gets_all(machine: Path) -> None:
    machine.write_text("Name:\tx\nCapEff:\t0000000001000000\n")
    assert allowed(WANTED) == WANTED


@pytest.mark.parametrize("status", ["CapEff:\t000001fffeffffff\n", "Name:\tx\n", None])
def test_who_may_not_gets_what_raises_none(machine: Path, status: str | None) -> None:
    if status is not None:
        machine.write_text(status)
    assert [limit.name for limit in allowed(WANTED)] == ["stack"]
    assert allowed([Limit("nofile", 512, 1024)]) == [Limit("nofile", 512, 1024)]
