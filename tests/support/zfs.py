"""A real pool on a file for tests: with OpenZFS where the kernel has it, else with zfs-fuse. Skips with the reason.

Nothing that is not ours is touched: the pool's name is random, and zfs-fuse is ended only if it was started here and
nobody else has a pool in it by then.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.storage.zfs import busy, waking

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_START_S = 60.0
_SETTLES_S = 120.0
_POOL_BYTES = 768 << 20


def call(*argv: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """What the program starts is ended with it: a `umount` that hangs would keep the pipes open."""
    environment = {**os.environ, "PATH": _PATH, "LC_ALL": "C"}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


@pytest.fixture(scope="session")
def zfs_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of a pool that lives as long as the test session."""
    if os.geteuid() != 0:
        pytest.skip("making a ZFS pool needs root")
    if not shutil.which("zpool", path=_PATH):
        pytest.skip("no zpool program: install zfsutils-linux or zfs-fuse")
    daemon = _start_daemon()
    waking.start()
    try:
        with (
            pytest.MonkeyPatch.context() as patient,
            file_pool(tmp_path_factory.mktemp("zpool") / "disk", _POOL_BYTES) as pool,
        ):
            # A container that is just beginning has a copy of all mounts for a moment, which is long on a busy machine.
            patient.setattr(busy, "BUSY_S", _SETTLES_S)
            yield pool
    finally:
        _end_daemon(daemon)


@contextmanager
def file_pool(disk: Path, size: int) -> Iterator[str]:
    """A pool in a sparse file of so many bytes; both go at the end."""
    pool = f"apptest{secrets.token_hex(4)}"
    with disk.open("wb") as file:
        file.truncate(size)
    made = call("zpool", "create", "-O", "mountpoint=none", "-O", "canmount=off", pool, str(disk))
    try:
        if made.returncode != 0:
            pytest.skip(f"no pool can be made here: {made.stderr.strip()}")
        yield pool
    finally:
        if made.returncode == 0:
            _once_not_busy("zpool", "destroy", "-f", pool)
        disk.unlink()


@pytest.fixture
def zfs_dataset(zfs_pool: str) -> Iterator[str]:
    """A dataset of its own for one test, destroyed with all that is in it."""
    with dataset_in(zfs_pool) as dataset:
        yield dataset


@contextmanager
def dataset_in(pool: str) -> Iterator[str]:
    dataset = f"{pool}/t{secrets.token_hex(4)}"
    assert call("zfs", "create", "-o", "canmount=off", dataset).returncode == 0
    yield dataset
    destroy_dataset(dataset)


def destroy_dataset(dataset: str) -> None:
    """With all that is in it. Waits for what was in use a moment ago."""
    ended = _once_not_busy("zfs", "destroy", "-R", dataset)
    assert ended.returncode == 0, ended.stderr


def _once_not_busy(*argv: str) -> subprocess.CompletedProcess[str]:
    deadline = time.monotonic() + _SETTLES_S
    while True:
        ended = call(*argv)
        if ended.returncode == 0 or "busy" not in ended.stderr or time.monotonic() > deadline:
            return ended
        time.sleep(0.1)


def _answers() -> bool:
    return call("zpool", "list").returncode == 0


def _start_daemon() -> subprocess.Popen[bytes] | None:
    """The zfs-fuse daemon, where it is what this machine has and it does not run yet."""
    if _answers():
        return None
    program = shutil.which("zfs-fuse", path=_PATH)
    if program is None or not Path("/dev/fuse").exists():
        pytest.skip("ZFS does not answer, and there is no zfs-fuse to start")
    Path("/var/run/zfs").mkdir(parents=True, exist_ok=True)
    null = subprocess.DEVNULL
    daemon = subprocess.Popen([program, "--no-daemon"], stdin=null, stdout=null, stderr=null, start_new_session=True)
    deadline = time.monotonic() + _START_S
    while not _answers():
        if daemon.poll() is not None or time.monotonic() > deadline:
            daemon.kill()
            daemon.wait()
            pytest.skip(f"zfs-fuse does not answer within {_START_S:g} s")
        time.sleep(0.1)
    return daemon


def _end_daemon(daemon: subprocess.Popen[bytes] | None) -> None:
    if daemon is None or call("zpool", "list", "-H").stdout.strip():
        return
    daemon.terminate()
    try:
        daemon.wait(timeout=_START_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
