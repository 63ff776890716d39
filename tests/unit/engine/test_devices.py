"""What is seen of a GPU's container from outside, from what the kernel writes."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from appliance.engine import devices
from appliance.engine.devices import (
    Devices,
    container_of,
    hook_found,
    judge,
    mismatch,
    mounted_driver,
    nodes_of,
)

A, B = "a" * 64, "b" * 64
CARD, CONTROL = Path("/dev/nvidia0"), Path("/dev/nvidiactl")


@pytest.mark.parametrize(
    "line",
    [
        f"5:devices:/docker/{A}",
        f"0::/system.slice/docker-{A}.scope",
        f"0::/system.slice/docker-{A}.scope/init",
        f"0::/../docker-{A}.scope",
        f"5:devices:/docker/{A} (deleted)",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope",
        f"4:devices:/docker/{B}/docker/{A}",
        f"4:devices:/docker/{A}/docker/{B}",
        f"0::/kubepods.slice/cri-containerd-{A}.scope",
        f"9:name=systemd:/user:with:colons/docker/{A}",
    ],
)
def test_whose_a_process_is(line: str) -> None:
    assert container_of(f"12:cpu:/elsewhere\n{line}\n", {A}) == A
    assert container_of(f"12:cpu:/elsewhere\n{line}\n", {"c" * 64}) is None


@pytest.mark.parametrize(
    "line", ["0::/", "", "garbage", f"0::/docker/{A[:12]}", f"0::/docker-{A}x.scope", f"0::/x{A}", f"0::/{A}0"]
)
def test_a_process_of_nobody(line: str) -> None:
    assert container_of(line, {A}) is None


def test_the_nodes_of_cards() -> None:
    assert nodes_of([1, 0, 1]) == (CONTROL, CARD, Path("/dev/nvidia1"))


def test_a_container_that_reaches_its_cards() -> None:
    assert judge({CONTROL: (0, 0), CARD: (0, 0)}).state == "ok"


def test_one_that_has_lost_them_says_which_and_why() -> None:
    found = judge({CONTROL: (0, 0), CARD: (0, errno.EPERM)})
    assert found.state == "lost"
    assert "/dev/nvidia0" in found.words
    assert "/dev/nvidiactl" not in found.words
    assert "daemon-reload" in found.words


@pytest.mark.parametrize(
    "opened",
    [
        {},
        {CARD: (errno.ENOENT, errno.ENOENT)},
        {CARD: (errno.EPERM, errno.EPERM)},  # nobody may: it is this machine that forbids it
        {CARD: (0, errno.EIO)},
        {CARD: (0, errno.EACCES)},
        {CARD: (-1, -1)},
    ],
)
def test_what_fails_for_another_reason_is_no_loss(opened: dict[Path, tuple[int, int]]) -> None:
    found = judge(opened)
    assert found.state == "unknown"
    assert found.words


MOUNT = "710 690 8:1 {from} {at} ro,nosuid,nodev,relatime master:1 - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("at", "version"),
    [
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15", "550.54.15"),
        ("/usr/lib64/libnvidia-ml.so.535.161", "535.161"),
        ("/usr/lib64/libnvidia-ml.so.1", None),
        ("/notebooks/libcuda.so.550.54.15/x", None),
        ("/usr/lib64/notlibcuda.so.550.54", None),
    ],
)
def test_the_driver_a_container_was_started_with(at: str, version: str | None) -> None:
    text = MOUNT.replace("{at}", "/etc/hosts") + "short\n" + MOUNT.replace("{at}", at)
    assert mounted_driver(text) == version


def test_a_driver_that_is_another_one_now() -> None:
    words = mismatch("550.54.15", "560.35.03")
    assert "550.54.15" in words
    assert "560.35.03" in words
    assert not mismatch("550.54.15", "550.54.15")
    assert not mismatch(None, "550.54.15")
    assert not mismatch("550.54.15", None)


def test_the_hook_is_looked_for_where_we_are_if_nothing_is_known_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not hook_found("tcp://elsewhere:2375")
    hook = tmp_path / devices.HOOK
    hook.write_text("")
    assert not hook_found("tcp://elsewhere:2375")
    hook.chmod(0o755)
    assert hook_found("tcp://elsewhere:2375")
    assert hook_found(f"unix://{tmp_path}/none.sock")


@pytest.mark.anyio
async def test_an_engine_elsewhere_leaves_it_unknown(tmp_path: Path) -> None:
    """Its process numbers are another machine's: what has such a number here is a stranger."""
    found = await Devices().look(os.getpid(), A, nodes_of([0]), driver="550.54.15")
    assert found.state == "unknown"
    (tmp_path / str(os.getpid())).mkdir()
    assert (await Devices(proc=tmp_path).look(os.getpid(), A, nodes_of([0]))).state == "unknown"


@pytest.mark.anyio
async def test_libraries_of_another_driver_are_seen(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"5:devices:/docker/{A}\n")
    (tmp_path / "7" / "mountinfo").write_text(MOUNT.replace("{at}", "/usr/lib/libcuda.so.550.54.15"))
    looking = Devices(proc=tmp_path)
    assert (await looking.look(7, A, nodes_of([0]), driver="560.35.03")).state == "lost"
    assert (await looking.look(7, A, nodes_of([0]), driver="550.54.15")).state == "unknown"
    assert (await looking.look(7, B, nodes_of([0]), driver="560.35.03")).state == "unknown"


@pytest.mark.anyio
async def test_a_driver_that_never_answers_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that blocks its opener for ever: what stands for it here is a program that ends much later."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"5:devices:/docker/{A}\n")
    (tmp_path / "7" / "mountinfo").write_text("")
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text(f"30 22 0:30 / {tmp_path}/cgroup rw - cgroup cgroup rw,devices\n")
    program = tmp_path / "opening.py"
    program.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(devices, "PROGRAM", program)
    looking = Devices(proc=tmp_path, deadline_s=0.3)
    begun = time.monotonic()
    for _ in range(devices.STUCK + 1):
        assert (await looking.look(7, A, nodes_of([0]))).state == "unknown"
    assert time.monotonic() - begun < 60
