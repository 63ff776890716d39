"""zfs-fuse is kept awake: asking must not get stuck behind the file system that does not answer."""

from __future__ import annotations

import os
import threading
import time

import pytest

from appliance.storage.zfs import waking


def test_a_file_system_that_answers_only_after_another_was_asked_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    woken = threading.Event()

    def statvfs(path: str) -> None:
        asked.append(path)
        if path == "stuck":
            woken.wait(120)
        elif path == "waker":
            woken.set()
        else:
            raise OSError("unmounted meanwhile")

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(waking, "PATIENCE_S", 0.05)
    begun = time.monotonic()
    waking.ask(["gone", "stuck", "other", "waker"])
    assert asked == ["gone", "stuck", "other", "waker"]
    assert woken.is_set()
    assert time.monotonic() - begun < 60


def test_nothing_that_answers_is_left_for_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    monkeypatch.setattr(os, "statvfs", lambda path: threads.add(threading.get_ident()))
    waking.ask([str(number) for number in range(100)])
    assert len(threads) == 1
    waking.ask([])
