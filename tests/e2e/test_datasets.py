"""Datasets as their users meet them: put through the front door, over a daemon that is killed, and fetched again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.daemon import RunningDaemon

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.haproxy]

FILES = 300
LARGE = 96 << 20
"""Three packs, so that the daemon can be killed while some of them are still to come."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    for number in range(FILES):
        (root / f"f{number}").write_bytes(os.urandom(3000))
    (root / "large").write_bytes(os.urandom(LARGE))
    (root / os.fsdecode(b"odd \xff\n")).symlink_to("/etc/shadow")
    return root


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "appliance.cli.main", *arguments]


def test_a_put_survives_a_kill_and_what_is_fetched_is_what_was_put(
    daemon: RunningDaemon, source: Path, tmp_path: Path
) -> None:
    """Over TCP with the token, as from another machine."""
    assert daemon.cli("dataset", "create", "digits").returncode == 0
    token = (daemon.home / "token").read_text().strip()
    outside = {**daemon.environment, "APPLIANCE_URL": daemon.url, "APPLIANCE_TOKEN": token}
    arrived = daemon.home / "uploads"
    put = command("dataset", "put", "digits", str(source), "--tag", "v1")
    interrupt(daemon, put, outside)
    daemon.start()
    done = subprocess.run(put, env=outside, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "was begun before" in done.stderr
    assert list(arrived.iterdir()) == []
    (version,) = daemon.client.versions("digits")
    assert done.stdout.strip() == version["ref"]
    target = tmp_path / "out"
    get = command("dataset", "get", "digits:v1", str(target))
    assert subprocess.run(get, env=outside, capture_output=True, timeout=120, check=False).returncode == 0
    compared = subprocess.run(["diff", "-r", "--no-dereference", str(source), str(target)], check=False)
    assert compared.returncode == 0
    refused = daemon.cli("delete", "dataset", "digits")
    assert refused.returncode == 4
    assert daemon.cli("dataset", "remove", version["ref"], "--confirm", version["ref"]).returncode == 0
    assert daemon.cli("dataset", "get", "digits", str(target)).returncode == 3


def interrupt(daemon: RunningDaemon, put: list[str], environment: dict[str, str]) -> None:
    """Kill the daemon as soon as more of the large file is there than before."""
    before = parts(daemon.home)
    going = subprocess.Popen(put, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while parts(daemon.home) <= before:
        assert going.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    daemon.kill()
    _, complaint = going.communicate(timeout=60)
    assert going.returncode == 5, complaint
    assert "goes on where it was" in complaint


def parts(home: Path) -> int:
    """Bytes of what is half sent."""
    found = (home / "volumes").glob("datasets+*/live/.appliance-*.part")
    try:
        return sum(path.stat().st_size for path in found)
    except FileNotFoundError:
        return 0  # it has become whole just now
