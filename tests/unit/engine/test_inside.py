"""Processes of a container, read from a `/proc` that the test writes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from appliance.engine import inside
from appliance.engine.inside import Inside

CONTAINER = "c0ffee" + "0" * 58
TICKS = os.sysconf("SC_CLK_TCK")


class Machine:
    def __init__(self, root: Path, version: int) -> None:
        self.proc, self.groups = root / "proc", root / "sys"
        self.version = version
        (self.proc / "self").mkdir(parents=True)
        kind, options = ("cgroup2", "rw") if version == 2 else ("cgroup", "rw,pids")
        (self.proc / "self" / "mountinfo").write_text(f"30 20 0:26 / {self.groups} rw - {kind} x {options}\n")

    def process(self, pid: int, stat: str, *argv: str, group: str = f"docker/{CONTAINER}") -> None:
        home = self.proc / str(pid)
        home.mkdir()
        (home / "stat").write_text(stat)
        (home / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv))
        (home / "cgroup").write_text(f"0::/{group}\n" if self.version == 2 else f"8:pids:/{group}\n0::/{group}\n")
        folder = self.groups / group
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "cgroup.procs").open("a") as file:
            file.write(f"{pid}\n")


def stat(pid: int, name: str, parent: int, session: int, terminal: int = 0, *, state: str = "S", cpu: int = 0) -> str:
    return f"{pid} ({name}) {state} {parent} {pid} {session} {terminal} -1 0 0 0 0 0 {cpu} {cpu} 0 0 20 0 1 0 777 0 0\n"


@pytest.fixture(params=[1, 2])
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    return Machine(tmp_path, request.param)


def test_what_each_process_is_about(machine: Machine) -> None:
    machine.process(10, stat(10, "docker-init", 1, 10))
    machine.process(11, stat(11, "jupyter-lab", 10, 10, cpu=TICKS), "/usr/bin/python3", "jupyter", "lab")
    machine.process(12, stat(12, "a) S 1 (b", 11, 12, 34816), "bash", "-i")
    machine.process(13, stat(13, "gone", 11, 13, state="Z"))
    machine.process(14, stat(14, "below", 11, 14), group=f"docker/{CONTAINER}/inner")
    machine.process(99, stat(99, "stranger", 1, 99), group="docker/other")
    with (machine.groups / f"docker/{CONTAINER}" / "cgroup.procs").open("a") as file:
        file.write("15\n")  # it has ended meanwhile
    found = inside.look(10, CONTAINER, machine.proc)
    assert found is not None
    assert sorted(found) == [10, 11, 12, 14]
    assert found[11] == Inside(11, 10, 10, False, 2.0, 777, "jupyter-lab", ())
    assert found[12] == Inside(12, 11, 12, True, 0.0, 777, "a) S 1 (b", ("bash", "-i"))


def test_a_stranger_that_has_the_number_of_one_that_ended(machine: Machine) -> None:
    machine.process(10, stat(10, "sshd", 1, 10), group="system.slice/ssh.service")
    assert inside.look(10, CONTAINER, machine.proc) is None
    assert inside.look(11, CONTAINER, machine.proc) is None


def test_a_command_line_without_an_end_is_read_in_part(machine: Machine) -> None:
    machine.process(10, stat(10, "python", 1, 10, 34816), "python", "x" * 1_000_000)
    found = inside.look(10, CONTAINER, machine.proc)
    assert found is not None
    assert sum(map(len, found[10].argv)) < 5000


def test_this_very_process_is_seen() -> None:
    """Whatever the machine's groups are called: the kernel's own files have the form that is read here."""
    text = inside._read(os.getpid(), Path("/proc"))
    assert text is not None
    assert (text.parent, text.session) == (os.getppid(), os.getsid(0))
    assert text.cpu_s > 0


def test_how_old_this_very_process_is_whatever_the_clock_says() -> None:
    one = inside._read(os.getpid(), Path("/proc"))
    assert one is not None
    before = time.clock_gettime(time.CLOCK_BOOTTIME) - one.began / TICKS
    age = inside.age_s(one)
    assert before <= age <= before + 60


NETWORK = """Inter-|   Receive                            |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 7000 1 0 0 0 0 0 0 7000 1 0 0 0 0 0 0
  eth0:  100 1 0 0 0 0 0 0   20 1 0 0 0 0 0 0
  eth1:    3 1 0 0 0 0 0 0    4 1 0 0 0 0 0 0
"""


def test_what_went_through_the_network_and_not_what_its_programs_say_to_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "10" / "net"
    folder.mkdir(parents=True)
    (folder / "dev").write_text(NETWORK)
    assert inside.network(10, tmp_path) == 127
    (folder / "dev").write_text("eth0: what")
    assert inside.network(10, tmp_path) is None
    assert inside.network(11, tmp_path) is None
    assert inside.network(os.getpid()) is not None, "the kernel's own file has the form that is read here"
