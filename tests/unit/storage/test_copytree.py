"""The copier where it meets hostile trees on either side."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from appliance.errors import StorageError
from appliance.storage.argv import run
from appliance.storage.trees import child, copying, copytree, replacing
from appliance.storage.trees.replacing import replace, tidy


def test_what_is_done_to_the_copy_while_it_is_made_leads_nowhere(tmp_path: Path) -> None:
    """A restored directory is copied where whoever owns the workspace reaches it: what is put in place of its parts
    is not followed, neither to write, nor to give away, nor to link to."""
    source, root, outside = tmp_path / "source", tmp_path / "root", tmp_path / "outside"
    for place in (source / "deep" / "d", root, outside / "d"):
        place.mkdir(parents=True)
    names = [f"{letter}{number}" for number in range(60) for letter in "ab"]
    for name in names:
        (outside / "d" / name).write_text("of the host")
        (outside / "d" / name).chmod(0o600)
    for number in range(60):
        (source / "deep" / "d" / f"a{number}").write_text("ours")
        (source / "deep" / "d" / f"a{number}").chmod(0o4777)
        (source / "deep" / "d" / f"b{number}").hardlink_to(source / "deep" / "d" / f"a{number}")
    stop = threading.Event()
    top = os.open(root, os.O_RDONLY)
    swaps, evil = 0, ""

    def tamper() -> None:
        nonlocal swaps
        while not stop.is_set():
            for name in os.listdir(top):
                if name.startswith(".appliance"):
                    with contextlib.suppress(OSError):
                        replacing._rename(top, f"{name}/d", top, evil, replacing._EXCHANGE)
                        swaps += 1

    tamperer = threading.Thread(target=tamper)
    tamperer.start()
    try:
        number, deadline = 0, time.monotonic() + 60
        while number < 10 or (swaps <= 10 and time.monotonic() < deadline):
            number += 1
            evil = f"evil{number}"
            (root / evil).symlink_to(outside / "d")
            with contextlib.suppress(StorageError):
                replace(root, "deep", source, "deep", durable=False)
    finally:
        stop.set()
        tamperer.join()
        os.close(top)
    assert swaps > 10
    assert sorted(os.listdir(outside / "d")) == sorted(names)
    for name in names:
        found = (outside / "d" / name).stat()
        assert (found.st_nlink, found.st_mode & 0o7777, found.st_size) == (1, 0o600, len("of the host"))
    tidy(root)


@pytest.fixture
def leased(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"f{number}").write_text("x")
    return source


def test_leases_do_not_hold_a_copy_up_for_longer_than_said(
    leased: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(copytree, "PATIENCE_S", 0.2)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # what the kernel tells the holder by
    (tmp_path / "target").mkdir()
    with (leased / "f1").open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with pytest.raises(SystemExit):
            copytree.copy(str(leased), str(tmp_path / "target"), copytree.Options())
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    assert '"path": "f1"' in capsys.readouterr().err


def test_an_error_names_the_file_as_the_reader_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file\n").write_text("x")
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        os.mkdir("taken", dir_fd=here)
        with pytest.raises(StorageError, match=r"'deep': File exists"):
            copying.copy_entry(here, "deep", here, "taken", durable=False)
    finally:
        os.close(here)


def test_a_copy_whose_daemon_is_gone_does_not_begin(tmp_path: Path) -> None:
    argv = child.argv(copytree.__name__)
    answer = run([*argv[:-1], "1", str(tmp_path), str(tmp_path)], timeout_s=120)
    assert answer.code == 1
    assert "gone" in answer.err


def test_children_import_nothing_but_the_standard_library() -> None:
    """They start with no site-packages in front, and must not grow slow to start."""
    program = (
        "import sys; sys.path.append(sys.argv[1]);"
        "from appliance.storage.trees import copytree; from appliance.storage.directory import measure;"
        "print(sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    argv = child.argv("none")
    answer = run([argv[0], "-I", "-S", "-c", program, child._HOME], timeout_s=120)
    assert answer.out == b"['__main__', 'appliance']\n", answer
