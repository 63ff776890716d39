from __future__ import annotations

import os
import subprocess
import sys

from appliance.engine.processes import kill_inside


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
