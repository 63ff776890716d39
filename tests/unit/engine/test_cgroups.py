"""Control groups as the kernel shows them: both versions, as trees of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from appliance.engine.cgroups import Usage, device_folder, parse_groups, parse_mounts, read

ID = "ab" * 32
PID = 4321


def tree(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def version_1(root: Path, *, group: str = f"/docker/{ID}", seen_from: str = "/") -> None:
    mounts = root / "with space" / "cgroup"
    escaped = str(mounts).replace(" ", "\\040")
    below = group.removeprefix(seen_from if seen_from != "/" else "")
    tree(
        root,
        {
            f"proc/{PID}/cgroup": f"12:cpu,cpuacct:{group}\n5:memory:{group}\n1:name=systemd:{group}\n0::{group}\n",
            "proc/self/mountinfo": (
                "22 1 0:20 / /proc rw - proc proc rw\n"
                f"30 22 0:30 {seen_from} {escaped}/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
                f"31 22 0:31 {seen_from} {escaped}/memory rw shared:10 master:2 - cgroup cgroup rw,memory\n"
                f"32 22 0:32 / {escaped}/unified rw - cgroup2 cgroup2 rw\n"
            ),
            f"with space/cgroup/cpu,cpuacct{below}/cpuacct.usage": "2500000000\n",
            f"with space/cgroup/memory{below}/memory.usage_in_bytes": "5000\n",
            f"with space/cgroup/memory{below}/memory.stat": "cache 1\ninactive_file 1\ntotal_inactive_file 2000\n",
        },
    )


def version_2(root: Path, group: str) -> None:
    tree(
        root,
        {
            f"proc/{PID}/cgroup": f"0::{group}/init.scope\n",
            "proc/self/mountinfo": f"30 22 0:30 / {root}/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
            f"cgroup{group}/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
            f"cgroup{group}/memory.current": "5000\n",
            f"cgroup{group}/memory.stat": "anon 1\ninactive_file 2000\n",
        },
    )


def test_version_1(tmp_path: Path) -> None:
    version_1(tmp_path)
    assert read(PID, ID, tmp_path / "proc") == Usage(cpu_s=2.5, memory=3000)


def test_version_1_seen_from_inside_a_container(tmp_path: Path) -> None:
    version_1(tmp_path, group=f"/docker/outer/docker/{ID}", seen_from="/docker/outer")
    assert read(PID, ID, tmp_path / "proc") == Usage(cpu_s=2.5, memory=3000)


@pytest.mark.parametrize("group", [f"/system.slice/docker-{ID}.scope", f"/user.slice/user-7.slice/docker-{ID}.scope"])
def test_version_2_where_a_process_has_moved_on(tmp_path: Path, group: str) -> None:
    version_2(tmp_path, group)
    assert read(PID, ID, tmp_path / "proc") == Usage(cpu_s=2.5, memory=3000)


def test_a_process_of_another_container_is_nobody(tmp_path: Path) -> None:
    version_1(tmp_path)
    assert read(PID, "cd" * 32, tmp_path / "proc") is None


def test_a_process_that_is_gone_is_nobody(tmp_path: Path) -> None:
    version_1(tmp_path)
    assert read(PID + 1, ID, tmp_path / "proc") is None


@pytest.mark.parametrize("text", ["", "not a number", "12 monkeys"])
def test_files_that_say_something_else_are_not_believed(tmp_path: Path, text: str) -> None:
    version_1(tmp_path)
    (tmp_path / f"with space/cgroup/cpu,cpuacct/docker/{ID}/cpuacct.usage").write_text(text)
    assert read(PID, ID, tmp_path / "proc") is None


def test_a_path_that_leads_out_is_not_followed() -> None:
    assert parse_groups(f"0::/../../{ID}\n", ID) == {}


def test_mounts_of_other_kinds_are_passed_over() -> None:
    assert parse_mounts("22 1 0:20 / /proc rw - proc proc rw\nrubbish\n - \n") == {}


def test_the_group_that_decides_about_devices(tmp_path: Path) -> None:
    def lay(groups: str, mounts: str) -> None:
        tree(tmp_path, {f"proc/{PID}/cgroup": groups, "proc/self/mountinfo": mounts})

    memory = "31 22 0:31 / /cg/memory rw - cgroup cgroup rw,memory\n"
    both = memory + "32 22 0:32 / /cg/devices rw - cgroup cgroup rw,devices\n33 22 0:33 / /cg rw - cgroup2 cgroup2 rw\n"
    lay(f"5:devices:/docker/{ID}\n4:memory:/docker/{ID}\n0::/docker/{ID}\n", both)
    assert device_folder(PID, ID, tmp_path / "proc") == Path(f"/cg/devices/docker/{ID}")
    lay(f"0::/system.slice/docker-{ID}.scope/init\n", "33 22 0:33 / /cg rw - cgroup2 cgroup2 rw\n")
    assert device_folder(PID, ID, tmp_path / "proc") == Path(f"/cg/system.slice/docker-{ID}.scope")
    for groups, mounts in ((f"4:memory:/docker/{ID}\n", both), (f"4:memory:/docker/{ID}\n", memory)):
        lay(groups, mounts)
        with pytest.raises(KeyError):
            device_folder(PID, ID, tmp_path / "proc")
