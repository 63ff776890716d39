"""`appliance doctor` on GPUs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import gpu_checks

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs-builder@U16)\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "proc/driver/nvidia/version", VERSION)
    return tmp_path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def without_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)


def test_without_a_driver_nothing_is_said(tmp_path: Path) -> None:
    assert gpu_checks.local(tmp_path) == []


def test_a_driver_without_the_toolkit_is_bad_and_says_the_cure(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_hook(monkeypatch)
    driver, toolkit = gpu_checks.local(root)
    assert driver == ("gpu driver", True, "kernel module 550.54.15")
    assert not toolkit[1]
    assert "install nvidia-container-toolkit, then restart" in toolkit[2]
    put(root / "proc/driver/nvidia/version", "something else")
    assert gpu_checks.local(root)[0][1:] == (True, "loaded, of unknown version")


def test_either_way_to_pass_a_gpu_is_enough(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert gpu_checks.local(root)[1] == ("gpu toolkit", True, f"/usr/bin/{gpu_checks.HOOK}")
    without_hook(monkeypatch)
    put(root / "etc/cdi/nvidia.yaml", "")
    assert gpu_checks.local(root)[1][1]


@pytest.mark.parametrize(
    ("config", "bad"),
    [
        (f"{gpu_checks.REFUSES} = false", True),
        (f"{gpu_checks.REFUSES} = true", False),
        ("", False),
        ("= nonsense", False),
    ],
)
def test_a_toolkit_that_refuses_what_the_engine_passes_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, config: str, bad: bool
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    put(root / gpu_checks.TOOLKIT, config)
    assert all(ok for _, ok, _ in gpu_checks.local(root)) != bad
    put(root / "var/run/cdi/nvidia.json", "")
    assert all(ok for _, ok, _ in gpu_checks.local(root))


def a_gpu(**more: Any) -> dict[str, Any]:
    card = {"uuid": "GPU-1", "state": "ok", "why": ""}
    fields = {"index": 0, "uuid": "GPU-1", "name": "NVIDIA A100", "lost": "", "throttled": [], "persistence": None}
    return {**fields, "cards": [card], **more}


def test_each_card_is_told_with_what_is_wrong() -> None:
    fine = a_gpu(throttled=["at its power limit"])
    drained = a_gpu(index=1, cards=[{"uuid": "GPU-2", "state": "drained", "why": "Xid 79"}], persistence=False)
    lost = a_gpu(index=2, lost="fell off the bus", cards=[])
    rows = gpu_checks.told({"items": [fine, drained, lost]})
    assert rows[0] == ("gpu 0", True, "NVIDIA A100; at its power limit")
    assert rows[1] == ("gpu 1", False, "NVIDIA A100; GPU-2 drained: Xid 79")
    assert rows[2][1]
    assert "persistence mode is off" in rows[2][2]
    assert rows[3] == ("gpu 2", False, "NVIDIA A100; fell off the bus")
    assert gpu_checks.told({"items": []}) == []
