"""The gate before every destruction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import Conflict
from appliance.storage import gate as gates
from appliance.storage.directory import store as directory
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.gate import Gate


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_what_is_pinned_is_not_destroyed(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "volumes", "for tests", durable=False)
    store.create("a")
    store.create("b")
    store.snapshot("a", "s")
    store.gate.pin("one", ["a"])
    with pytest.raises(Conflict, match="a backup reads"):
        store.destroy("a")
    with pytest.raises(Conflict, match="a backup reads"):
        store.destroy_snapshot("a", "s")
    store.destroy("b")
    assert (store.volumes(), store.snapshots("a")) == (["a"], ["s"])
    store.gate.pin("other", ["a", "c"])
    store.gate.unpin("one", ["a", "never"])
    with pytest.raises(Conflict, match="a backup reads"):
        store.destroy("a")
    store.gate.unpin("other")
    store.gate.unpin("other")
    store.destroy("a")
    assert store.volumes() == []


def test_destroying_waits_for_quiet_and_quiet_for_destroying() -> None:
    gate = Gate()
    told: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def destroy() -> None:
        with gate.destroying("a"):
            told.append("destroying")
            inside.set()
            go_on.wait(60)
            told.append("destroyed")

    def be_quiet() -> None:
        with gate.quiet():
            told.append("quiet")
            time.sleep(0.05)  # for what must not come in between
            told.append("loud")

    first = started(destroy)
    assert inside.wait(60)
    quiet = started(be_quiet)
    deadline = time.monotonic() + 60
    while not gate._quiet:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    second = started(destroy)
    assert told == ["destroying"]
    go_on.set()
    for thread in (first, quiet, second):
        thread.join(60)
    assert told == ["destroying", "destroyed", "quiet", "loud", "destroying", "destroyed"]


@pytest.mark.parametrize("what", ["volume", "snapshot"])
def test_removing_what_is_destroyed_keeps_no_backup_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    store = DirectoryStore(tmp_path / "volumes", "for tests", durable=False)
    store.create("a")
    store.snapshot("a", "s")
    under_way: list[int] = []
    monkeypatch.setattr(directory, "_remove", lambda path: under_way.append(store.gate._destroying))
    if what == "volume":
        store.destroy("a")
        assert store.volumes() == []
    else:
        store.destroy_snapshot("a", "s")
        assert store.snapshots("a") == []
    assert under_way == [0]


def test_destroying_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "WAIT_S", 0.05)
    gate = Gate()
    refused: list[Conflict] = []

    def destroy() -> None:
        try:
            with gate.destroying("a"):
                pass
        except Conflict as error:
            refused.append(error)

    with gate.quiet():
        thread = started(destroy)
        thread.join(60)
    assert [error.message for error in refused] == ["a backup reads volume 'a'"]
    with gate.destroying("a"):
        pass
