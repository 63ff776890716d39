from __future__ import annotations

import os
import select
import subprocess
import sys

from appliance.engine.processes import Process, begun, kill_inside


def test_a_process_of_another_container_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not kill_inside(process.pid, "f" * 64)
        assert process.poll() is None
        process.kill()


def test_what_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not kill_inside(process.pid, "f" * 64)
    assert not kill_inside(0, "f" * 64)


def test_a_process_of_the_container_is_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with open(f"/proc/{process.pid}/cgroup") as groups:
            own = groups.readline().strip()
        assert kill_inside(process.pid, own)
        assert process.wait() == -9
    assert os.getpid() != process.pid


def test_what_it_has_begun_is_ended_with_it() -> None:
    """A child, and one whose parent has ended; both hold the pipe open."""
    script = "sleep 4321 & (sleep 4322 &); echo ready; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with open(f"/proc/{process.pid}/cgroup") as groups:
            own = groups.readline().strip()
        assert kill_inside(process.pid, own)
        assert process.wait() == -9
        assert select.select([process.stdout], [], [], 60)[0]
        assert process.stdout.read() == b"", "it ends when nobody holds it any more"


def test_who_belongs_to_a_command() -> None:
    processes = {
        1: Process(0, 1),
        7: Process(1, 7),  # the command
        8: Process(7, 7),
        9: Process(8, 9),  # with a session of its own
        10: Process(9, 9),
        11: Process(1, 7),  # its parent has ended
        12: Process(1, 12),
        13: Process(12, 12),
    }
    assert begun({7}, processes, session=7) == {8, 9, 10, 11}
    assert begun({7}, {}, session=7) == set()
