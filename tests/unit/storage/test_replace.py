"""Putting something of one tree into its place in another: in one step, whatever the tree does meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import Conflict, NoSpace, NotFound, StorageError, UsageError
from appliance.storage.trees import replacing
from appliance.storage.trees.replacing import replace, tidy
from tests.unit.storage.trees import ODD_NAMES, describe, fill, set_xattrs


class Killed(BaseException):
    """The daemon is gone: nothing after this is run."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    fill(source)
    set_xattrs(source)
    return source


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture(params=["exchange", "no exchange"])
def any_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Also a file system that cannot exchange two names, as ZFS before 2.2."""
    if request.param == "no exchange":
        monkeypatch.setattr(replacing, "_rename", unable)
    return str(request.param)


def unable(source: int, old: str, target: int, new: str, flags: int) -> None:
    raise OSError(errno.EINVAL, "no flags here")


def test_a_whole_tree_comes_to_another_name_with_everything(source: Path, root: Path) -> None:
    replace(root, "old/copy", source, "", durable=False)
    assert describe(root / "old" / "copy") == describe(source)
    assert [path.name for path in root.iterdir()] == ["old"]
    with pytest.raises(UsageError):
        replace(root, "", source, "", durable=False)


@pytest.mark.parametrize("there", ["nothing", "file", "directory", "link", "fifo"])
@pytest.mark.parametrize("name", ["plain", "deep", "outside", "socket"])
def test_anything_replaces_anything(source: Path, root: Path, there: str, name: str, any_disk: str) -> None:
    here = root / name
    if there == "file":
        here.write_text("old")
    elif there == "directory":
        (here / "below").mkdir(parents=True)
    elif there == "link":
        here.symlink_to(root)
    elif there == "fifo":
        os.mkfifo(here)
    (root / "other").write_text("stays")
    replace(root, name, source, name, durable=False)
    expected = {path: entry for path, entry in describe(source).items() if path.split("/")[0] == name}
    found = describe(root)
    assert set(found) == {*expected, "other"}
    for path, entry in expected.items():
        assert {**found[path], "same file as": ""} == {**entry, "same file as": ""}


def test_hard_links_inside_stay_and_those_to_outside_are_cut(source: Path, root: Path) -> None:
    (source / "deep" / "hard2").hardlink_to(source / "deep" / "hard")
    replace(root, "deep", source, "deep", durable=False)
    assert (root / "deep" / "hard").samefile(root / "deep" / "hard2")
    assert not (root / "deep" / "hard").samefile(source / "deep" / "hard")
    assert (root / "deep" / "hard").stat().st_nlink == 2


@pytest.mark.parametrize("name", [*ODD_NAMES, b"--sync", b"--note", b"--into", b"-", b"\\xff"])
def test_any_name_does(source: Path, root: Path, name: bytes) -> None:
    text = os.fsdecode(name)
    (source / "odd").mkdir()
    (source / "odd" / text).write_text("content")
    replace(root, f"to/{text}", source, f"odd/{text}", durable=False)
    replace(root, text, source, f"odd/{text}", durable=False)
    assert (root / "to" / text).read_text() == (root / text).read_text() == "content"
    assert sorted(os.listdir(os.fsencode(root))) == sorted([b"to", name])


def test_missing_parents_come_along_like_the_one_that_is_there(source: Path, root: Path) -> None:
    (root / "a").mkdir(mode=0o750)
    (root / "a").chmod(0o2750)
    if os.geteuid() == 0:
        os.chown(root / "a", 1234, 5678)
    replace(root, "a/b/c/plain", source, "plain", durable=False)
    assert (root / "a/b/c/plain").read_bytes() == b"hello\n"
    like = (root / "a").stat()
    for made in ("a/b", "a/b/c"):
        found = (root / made).stat()
        assert (found.st_mode, found.st_uid, found.st_gid) == (like.st_mode, like.st_uid, like.st_gid)
    assert os.listdir(root) == ["a"]


def test_a_link_or_a_file_in_the_way_of_a_parent_is_not_gone_through(source: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "file").touch()
    for path in ("link/plain", "file/plain", "link/a/plain"):
        with pytest.raises(Conflict, match="not a directory"):
            replace(root, path, source, "plain", durable=False)
    assert list((tmp_path / "outside").iterdir()) == []
    assert sorted(os.listdir(root)) == ["file", "link"]


@pytest.mark.parametrize("path", ["none", "deep/none", "outside/x", "plain/x", "up/etc/passwd", "y" * 256])
def test_what_is_not_in_the_source_is_not_found(source: Path, root: Path, path: str) -> None:
    with pytest.raises(NotFound):
        replace(root, "x", source, path, durable=False)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("path", ["", "/", "..", "a/../../b", "a\0b", ".appliance-0123456789abcdef/x"])
def test_places_outside_are_refused(source: Path, root: Path, path: str) -> None:
    with pytest.raises(UsageError):
        replace(root, path, source, "plain", durable=False)
    if path.strip("/"):
        with pytest.raises((UsageError, NotFound)):
            replace(root, "x", source, path, durable=False)


def test_a_device_is_not_put_into_a_volume(source: Path, root: Path) -> None:
    try:
        os.mknod(source / "device", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making a device needs root")
    with pytest.raises(UsageError, match="device"):
        replace(root, "device", source, "device", durable=False)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_after_an_error_all_is_as_before(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, any_disk: str
) -> None:
    (root / "deep").mkdir()
    (root / "deep" / "old").write_text("old")
    before = describe(root)
    real = os.rename

    def fail(old: str, new: str, **at: int) -> None:
        if new == "deep" and not old.endswith("-was"):
            raise OSError(number, "no")
        real(old, new, **at)

    monkeypatch.setattr(os, "rename", fail)
    if any_disk == "exchange":
        monkeypatch.setattr(replacing, "_rename", lambda *_: (_ for _ in ()).throw(OSError(number, "no")))
    with pytest.raises(StorageError) as caught:
        replace(root, "deep", source, "deep", durable=False)
    assert isinstance(caught.value, NoSpace) == (number != errno.EIO)
    assert describe(root) == before


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("path", ["deep", "new/parents/deep", "plain"])
def test_killed_between_any_two_steps_it_is_before_or_after_and_tidied(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, there: bool, any_disk: str
) -> None:
    name = path.rsplit("/", 1)[-1]
    ends, number = set(), 0
    while True:
        root = tmp_path / f"root{number}"
        (root / "other").mkdir(parents=True)
        if there:
            (root / path).mkdir(parents=True)
            (root / path / "old").write_text("old")
        before = timeless(root)
        with monkeypatch.context() as patched:
            left = _kill_at(patched, number)
            with contextlib.suppress(Killed):
                replace(root, path, source, name)
            patched.setattr(replacing, "_remove", lambda *_: None)
        tidy(root)
        tidy(root)
        found = timeless(root)
        assert not [path for path in found if path.startswith(".appliance")]
        if found == before:
            ends.add("before")
        else:
            ends.add("after")
            whole = describe(source / name) if name == "deep" else {}
            assert set(describe(root / path)) == set(whole) if whole else (root / path).read_bytes() == b"hello\n"
        number += 1
        if left() > 0:
            break
    assert ends == {"before", "after"}
    assert number > 4


def timeless(root: Path) -> dict[str, dict[str, object]]:
    """A directory's time tells that something went and came back."""
    return {path: {**entry, "modified": 0} for path, entry in describe(root).items()}


def _kill_at(patched: pytest.MonkeyPatch, at: int) -> Callable[[], int]:
    """The process ends before the step number `at`; nothing that it would do afterwards is done."""
    left = at

    def step(real: Callable[..., object]) -> Callable[..., object]:
        def do(*args: object, **named: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(*args, **named)

        return do

    for name in ("copy_entry", "_rename", "_remove"):
        patched.setattr(replacing, name, step(getattr(replacing, name)))
    for name in ("rename", "symlink", "mkdir"):
        patched.setattr(os, name, step(getattr(os, name)))
    return lambda: left


def test_tidy_leaves_what_only_looks_like_ours_and_follows_nothing(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    ours = ".appliance-0123456789abcdef"
    (root / ours).symlink_to(outside)
    (root / f"{ours}-was").mkdir()
    (root / f"{ours}-for").symlink_to("../outside/precious")
    (root / ".appliance-notes").write_text("of the user")
    (root / "deep").mkdir()
    (root / "deep" / ours).write_text("of the user too")
    tidy(root)
    assert sorted(os.listdir(root)) == [".appliance-notes", "deep"]
    assert (root / "deep" / ours).exists()
    assert (outside / "precious").exists()


@pytest.mark.parametrize("place", ["/", ".", "x" * 300, ".appliance-0123456789abcdef-was/x", "none/x"])
def test_tidy_never_fails_for_a_place_that_is_none(root: Path, place: str, any_disk: str) -> None:
    ours = ".appliance-0123456789abcdef"
    (root / f"{ours}-was").mkdir()
    (root / f"{ours}-for").symlink_to(place)
    (root / ours).touch()
    tidy(root)
    assert sorted(os.listdir(root)) == [f"{ours}-for", f"{ours}-was"]


def test_a_link_that_is_a_file_is_no_place(root: Path) -> None:
    ours = ".appliance-0123456789abcdef"
    (root / f"{ours}-was").mkdir()
    (root / f"{ours}-for").write_text("of a session")
    tidy(root)


def test_a_parent_that_turns_into_a_link_again_and_again_leads_nowhere(
    source: Path, root: Path, tmp_path: Path
) -> None:
    """As whoever owns the workspace can do while something is restored into it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "plain").write_text("of the host")
    (root / "data").mkdir()
    (root / "link").symlink_to(outside)
    stop = threading.Event()

    top = os.open(root, os.O_RDONLY)

    def swap() -> None:
        while not stop.is_set():
            replacing._rename(top, "data", top, "link", replacing._EXCHANGE)

    swapper = threading.Thread(target=swap)
    swapper.start()
    ends = {"done": 0, "refused": 0}
    try:
        for _ in range(25):
            try:
                replace(root, "data/plain", source, "plain", durable=False)
                ends["done"] += 1
            except (Conflict, NotFound, StorageError):
                ends["refused"] += 1
    finally:
        stop.set()
        swapper.join()
        os.close(top)
    assert [path.name for path in outside.iterdir()] == ["plain"]
    assert (outside / "plain").read_text() == "of the host"
    assert ends["done"] + ends["refused"] == 25
    tidy(root)
    assert sorted(os.listdir(root)) == ["data", "link"]


PROGRAM = """
import os, sys
from pathlib import Path
from appliance.storage.trees.tree import replace, tidy
base = Path(sys.argv[1])
(base / "source" / "d").mkdir(parents=True)
(base / "source" / "d" / "f").write_text("new")
(base / "root" / "d").mkdir(parents=True)
replace(base / "root", "d", base / "source", "d")
replace(base / "root", "a/b/f", base / "source", "d/f")
tidy(base / "root")
print((base / "root/d/f").read_text(), (base / "root/a/b/f").read_text(), sorted(os.listdir(base / "root")))
"""


@pytest.mark.skipif(not shutil.which("setpriv"), reason="it takes setpriv to give up all rights")
def test_it_needs_no_rights_but_those_on_the_files(tmp_path: Path) -> None:
    without = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    argv = [*without, sys.executable, "-c", PROGRAM, str(tmp_path)]
    told = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert told.stdout == "new new ['a', 'd']\n", told.stderr
