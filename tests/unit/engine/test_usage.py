"""What a container uses, as the kernel's files tell: both versions, as trees of files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.usage import counters, files
from appliance.engine.usage.counters import Counters
from appliance.engine.usage.files import Budget, Files
from appliance.engine.usage.meter import Meter

ID = "ab" * 32
PID = 4321
NET = (
    "Inter-|   Receive                    |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n"
    "    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n"
    "  eth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n"
    "eth1:0: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n"
)


def tree(root: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def version_1(root: Path) -> None:
    group = f"/docker/{ID}"
    named = ("cpuacct", "memory", "blkio", "pids")
    tree(
        root,
        {
            f"proc/{PID}/cgroup": "".join(f"{number}:{name}:{group}\n" for number, name in enumerate(named, 1)),
            f"proc/{PID}/net/dev": NET,
            "proc/self/mountinfo": "".join(
                f"30 22 0:30 / {root}/{name} rw - cgroup cgroup rw,{name}\n" for name in named
            ),
            f"cpuacct{group}/cpuacct.usage": "2500000000\n",
            f"memory{group}/memory.usage_in_bytes": "5000\n",
            f"memory{group}/memory.stat": "cache 1\nhierarchical_memory_limit 70000\ntotal_inactive_file 2000\n",
            f"blkio{group}/blkio.throttle.io_service_bytes_recursive": (
                "8:0 Read 100\n8:0 Write 30\n8:0 Total 130\n9:0 Read 1\n9:0 Write 2\nTotal 133\n"
            ),
            f"pids{group}/pids.current": "7\n",
        },
    )
    namespaces(root)


def version_2(root: Path) -> None:
    group = f"/system.slice/docker-{ID}.scope"
    tree(
        root,
        {
            f"proc/{PID}/cgroup": f"0::{group}\n",
            f"proc/{PID}/net/dev": NET,
            "proc/self/mountinfo": f"30 22 0:30 / {root}/cgroup rw - cgroup2 cgroup2 rw\n",
            f"cgroup{group}/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
            f"cgroup{group}/memory.current": "5000\n",
            f"cgroup{group}/memory.stat": "anon 1\ninactive_file 2000\n",
            f"cgroup{group}/memory.max": "70000\n",
            f"cgroup{group}/io.stat": (
                "8:0 rbytes=100 wbytes=30 rios=1 wios=2 dbytes=0 dios=0\n9:0 rbytes=1 wbytes=2 rios=1\n10:0\n"
            ),
            f"cgroup{group}/pids.current": "7\n",
        },
    )
    namespaces(root)


def namespaces(root: Path, *, own: str = "net:[2]") -> None:
    for process, name in (("self", "net:[1]"), (str(PID), own)):
        folder = root / "proc" / process / "ns"
        folder.mkdir(parents=True)
        (folder / "net").symlink_to(name)


WHOLE = Counters(2.5, 3000, 70000, 101, 32, 105, 26, 7)


@pytest.fixture(params=[version_1, version_2])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    request.param(tmp_path)
    return tmp_path


@pytest.fixture
def meter(root: Path) -> Iterator[Meter]:
    opened = Meter.open(PID, ID, root / "proc")
    assert opened is not None
    yield opened
    opened.close()


def of(root: Path, name: str) -> Path:
    return next(path for path in root.rglob(name) if "proc" not in path.parts[len(root.parts) :])


def test_everything_is_read_in_both_versions(meter: Meter, root: Path) -> None:
    assert meter.read() == WHOLE
    of(root, "pids.current").write_text("8\n")
    again = meter.read()
    assert again is not None
    assert again.pids == 8, "a file that stays open tells what is in it now"


def test_what_is_switched_off_is_not_told(meter: Meter, root: Path) -> None:
    for name in ("pids.current", "io.stat", "blkio.throttle.io_service_bytes_recursive"):
        for path in root.rglob(name):
            path.unlink()
    found = meter.read()
    assert found is not None
    assert (found.cpu_s, found.pids, found.read, found.written) == (2.5, None, None, None)


def test_no_limit_is_none(tmp_path: Path) -> None:
    version_2(tmp_path)
    of(tmp_path, "memory.max").write_text("max\n")
    opened = Meter.open(PID, ID, tmp_path / "proc")
    assert opened is not None
    found = opened.read()
    assert found is not None
    assert found.memory_limit is None
    opened.close()


def test_one_that_has_ended_is_told_apart(meter: Meter, root: Path) -> None:
    of(root, "memory.stat").unlink()
    assert meter.read() is None


def test_rubbish_is_not_believed(meter: Meter, root: Path) -> None:
    for name in ("memory.usage_in_bytes", "memory.current"):
        for path in root.rglob(name):
            path.write_text("monkeys")
    assert meter.read() is None


def test_a_closed_one_reads_nothing_and_is_closed_once(meter: Meter) -> None:
    before = len(os.listdir("/proc/self/fd"))
    meter.read()
    meter.close()
    meter.close()
    assert meter.read() is None
    assert len(os.listdir("/proc/self/fd")) < before


@pytest.mark.parametrize(("pid", "container"), [(PID, "cd" * 32), (PID + 1, ID)])
def test_a_stranger_has_no_meter(root: Path, pid: int, container: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert Meter.open(pid, container, root / "proc") is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_machines_own_network_is_nobodys(tmp_path: Path) -> None:
    version_2(tmp_path)
    link = tmp_path / "proc" / str(PID) / "ns" / "net"
    link.unlink()
    link.symlink_to("net:[1]")
    opened = Meter.open(PID, ID, tmp_path / "proc")
    assert opened is not None
    found = opened.read()
    assert found is not None
    assert (found.received, found.sent) == (None, None)
    opened.close()


def test_only_so_many_files_stay_open(tmp_path: Path) -> None:
    tree(tmp_path, {str(number): f"text {number}" for number in range(4)})
    budget = Budget(2)
    some, others = Files(budget), Files(budget)
    for _ in range(2):
        assert [some.text(tmp_path / str(number)) for number in range(4)] == [f"text {number}" for number in range(4)]
        assert others.text(tmp_path / "3") == "text 3"
        assert budget.used == 2
    some.close()
    assert budget.used == 0
    others.text(tmp_path / "0")
    assert budget.used == 1
    others.close()


def test_a_long_file_is_read_whole_and_not_beyond_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "long").write_text("x" * 200_000)
    opened = Files(Budget(1))
    assert len(opened.text(tmp_path / "long")) == 200_000
    monkeypatch.setattr(files, "MOST_BYTES", 100_000)
    assert len(opened.text(tmp_path / "long")) < 200_000
    opened.close()


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    for parse in (counters.table, counters.limit, counters.io_version_1, counters.io_version_2, counters.traffic):
        with suppress(ValueError):
            parse(text)


def test_no_limit_of_version_1() -> None:
    assert counters.limit("9223372036854771712\n") is None
    assert counters.limit("max\n") is None
    assert counters.limit("4096\n") == 4096
