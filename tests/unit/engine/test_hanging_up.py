"""Who hears that a terminal is gone, and who is ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from appliance.engine.hanging_up import hanging_up, told
from appliance.engine.processes import Process

WITHIN_S = 60.0
WAITING = "import sys, time; print('up', flush=True); time.sleep(4321)"
DEAF = "import signal; signal.signal(signal.SIGHUP, {}); " + WAITING


def test_who_is_told() -> None:
    known = {
        1: Process(0, 1, 1),
        7: Process(1, 7, 7, foreground=9),  # a shell at its terminal
        8: Process(7, 7, 8, foreground=9),  # in the background: the shell's to tell
        9: Process(7, 7, 9, foreground=9),
        10: Process(9, 7, 9, foreground=9),
        11: Process(9, 11, 9),  # with a session of its own
        12: Process(1, 12, 12),
    }
    assert told(7, known) == [7, 9, 10]
    assert told(12, known) == [12]
    assert told(99, known) == []
    apart = {7: Process(1, 7, 7), 8: Process(7, 7, 7), 9: Process(7, 7, 9)}
    assert told(7, apart) == [7, 8], "without a terminal its own group"


@contextmanager
def begun(program: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """One in a session of its own, with its control group."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            with open(f"/proc/{process.pid}/cgroup") as groups:
                yield process, groups.readline().strip()
        finally:
            process.kill()


def within(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_does_as_told_is_gone() -> None:
    with begun(WAITING) as (process, group), hanging_up(process.pid, group) as left:
        within(lambda: not left.running())
        assert process.wait() == -1


def test_who_hears_it_and_goes_on_is_ended() -> None:
    with begun(DEAF.format("print")) as (process, group):
        with hanging_up(process.pid, group) as left:
            assert left.running() == [process.pid]
            left.kill()
            within(lambda: not left.running())
        assert process.wait() == -9


def test_who_minds_no_hangup_is_left_alone() -> None:
    with begun(DEAF.format("signal.SIG_IGN")) as (process, group):
        with hanging_up(process.pid, group) as left:
            assert left.running() == []
            left.kill()
        assert process.poll() is None


def test_a_process_of_another_container_is_not_told() -> None:
    with begun(WAITING) as (process, _):
        with hanging_up(process.pid, "f" * 64) as left:
            assert left.running() == []
            left.kill()
        assert process.poll() is None


def test_what_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for pid in (process.pid, 0, 1):
        with hanging_up(pid, "f" * 64) as left:
            assert left.running() == []
            left.kill()
