"""`./install.sh uninstall --purge` on a real pool: what the appliance made goes, and nothing else."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.storage.zfs.store import ZfsStore
from tests.support.zfs import call, file_pool

pytestmark = pytest.mark.zfs

INSTALL = Path(__file__).resolve().parents[2] / "install.sh"
TIMEOUT_S = 600
PLACES = {"home": "data", "prefix": "program", "bin-dir": "bin"}
Done = subprocess.CompletedProcess[str]


class Home:
    """An installation's data, in a given pool or dataset: the script's settings, the program's volumes."""

    def __init__(self, root: Path, given: str) -> None:
        self.root, self.given, self.data = root, given, root / "data"
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("APPLIANCE_")}
        script = f"source {INSTALL}; parse --pool {given} --home {self.data}; resolve_paths; begin; step_storage"
        done = subprocess.run(["bash", "-c", script], env=self.env, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        (self.data / "state.db").touch()

    def begin(self) -> ZfsStore:
        """With one volume."""
        store = ZfsStore(self.given, self.data / "volumes")
        store.create("notebooks/0")
        return store

    def fill(self) -> ZfsStore:
        """Volumes in folders, snapshots, a fork, what a destroyed volume has left to its fork, a view, a reserve."""
        store = self.begin()
        for name in ("notebooks/1", "notebooks/2", "datasets/a/1"):
            (store.create(name) / "file").write_text(name)
            store.snapshot(name, "s")
        store.clone("notebooks/1", "s", "notebooks/fork")
        store.clone("notebooks/2", "s", "notebooks/heir")
        store.destroy("notebooks/2")
        with store.view("notebooks/1", "s"):
            pass
        store.reserve(8 << 20)
        return store

    def purge(self, *options: str, typed: str = "") -> Done:
        argv = ["bash", str(INSTALL), "uninstall", "--purge", "--no-service", *options]
        for option, name in PLACES.items():
            argv += [f"--{option}", str(self.root / name)]
        ours, terminal = pty.openpty()
        os.write(ours, f"{typed}\n".encode())
        try:
            return subprocess.run(argv, env=self.env, stdin=terminal, capture_output=True, text=True, timeout=TIMEOUT_S)
        finally:
            os.close(ours)
            os.close(terminal)


def left(dataset: str) -> list[str]:
    listed = call("zfs", "list", "-H", "-r", "-t", "all", "-o", "name", dataset)
    assert listed.returncode == 0, listed.stderr
    return sorted(listed.stdout.split())


def ours(dataset: str) -> list[str]:
    return [name for name in left(dataset) if name.startswith(f"{dataset}/volumes")]


def zfs(*arguments: str) -> None:
    done = call("zfs", *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def home(zfs_dataset: str, tmp_path: Path) -> Home:
    return Home(tmp_path, zfs_dataset)


@pytest.fixture
def pool(zfs_pool: str, tmp_path: Path) -> Iterator[str]:
    """A whole one, beside the one that all tests share, whose daemon it may need."""
    with file_pool(tmp_path / "disk", 256 << 20) as name:
        yield name


def test_what_is_ours_goes_and_the_rest_of_a_given_pool_stays(pool: str, tmp_path: Path) -> None:
    home = Home(tmp_path, pool)
    home.fill()
    for name in ("mine", "mine/below", "volumes2", "volumes-views2"):
        zfs("create", f"{pool}/{name}")
    zfs("snapshot", f"{pool}@kept")
    zfs("snapshot", f"{pool}/mine@kept")
    zfs("clone", f"{pool}/mine@kept", f"{pool}/mine/clone")
    theirs = [*sorted(set(left(pool)) - set(ours(pool))), f"{pool}/volumes-views2", f"{pool}/volumes2"]
    assert len(ours(pool)) > 12

    refused = home.purge(typed="yes")
    assert refused.returncode == 1
    assert "nothing was destroyed" in refused.stderr
    assert len(ours(pool)) > 12

    done = home.purge(typed="purge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{pool}/volumes is destroyed; {pool} stays" in done.stdout
    assert left(pool) == sorted(theirs)
    assert not home.data.exists()

    again = home.purge("--yes")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing is installed" in again.stdout
    assert left(pool) == sorted(theirs)


def test_what_others_made_in_the_volumes_or_of_them_stops_it_before_anything_is_destroyed(
    home: Home, zfs_dataset: str
) -> None:
    store = home.fill()
    base = store.base
    zfs("create", "-o", "mountpoint=none", f"{base}/theirs")
    zfs("clone", "-o", "mountpoint=none", f"{base}/notebooks/1@s", f"{zfs_dataset}/clone")
    before = left(zfs_dataset)

    done = home.purge("--yes")
    assert done.returncode == 1
    assert f"{base}/theirs" in done.stderr
    assert f"{zfs_dataset}/clone" in done.stderr
    assert "zfs rename or zfs promote" in done.stderr
    assert left(zfs_dataset) == before
    assert (home.data / "config.toml").exists()

    zfs("rename", f"{base}/theirs", f"{zfs_dataset}/theirs")
    zfs("promote", f"{zfs_dataset}/clone")
    done = home.purge("--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert left(zfs_dataset) == [
        zfs_dataset,
        f"{zfs_dataset}/clone",
        f"{zfs_dataset}/clone@s",
        f"{zfs_dataset}/theirs",
    ]


def test_what_is_in_use_is_said_and_the_next_run_goes_on(home: Home, zfs_dataset: str) -> None:
    store = home.fill()
    zfs("hold", "mine", f"{store.base}/datasets/a/1@s")
    with subprocess.Popen(["sleep", "1000"], cwd=store.path("notebooks/1")) as user:
        try:
            done = home.purge("--yes")
        finally:
            user.kill()
    assert done.returncode == 1
    assert f"{store.base} could not be destroyed" in done.stderr
    assert "busy" in done.stderr
    assert "fuser -vm" in done.stderr
    assert (home.data / "config.toml").exists()

    done = home.purge("--yes")
    assert done.returncode == 1
    assert "busy" in done.stderr
    assert "zfs holds -r" in done.stderr

    zfs("release", "mine", f"{store.base}/datasets/a/1@s")
    done = home.purge("--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert left(zfs_dataset) == [zfs_dataset]
    assert not home.data.exists()


def test_a_home_behind_a_link_is_known_by_its_mark(zfs_dataset: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    home = Home(tmp_path, zfs_dataset)
    home.begin()
    done = home.purge("--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert left(zfs_dataset) == [zfs_dataset]
    assert not (tmp_path / "disk" / "config.toml").exists()


def test_another_homes_volumes_stay(home: Home, zfs_dataset: str, tmp_path: Path) -> None:
    home.begin()
    before = left(zfs_dataset)
    zfs("set", f"mountpoint={tmp_path}/elsewhere", f"{zfs_dataset}/volumes")
    done = home.purge("--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{zfs_dataset}/volumes stays: its mountpoint is {tmp_path}/elsewhere" in done.stdout
    assert left(zfs_dataset) == before


def test_a_pool_that_is_away_keeps_the_data(pool: str, tmp_path: Path) -> None:
    home = Home(tmp_path, pool)
    home.begin()
    assert call("zpool", "export", pool).returncode == 0
    try:
        done = home.purge("--yes")
    finally:
        assert call("zpool", "import", "-d", str(tmp_path), pool).returncode == 0
    assert done.returncode == 1
    assert f"ZFS knows no {pool}" in done.stderr
    assert f"zpool import {pool}" in done.stderr
    assert home.purge("--yes").returncode == 0
    assert left(pool) == [pool]


def test_a_pool_in_our_own_file_goes_and_a_given_one_never(home: Home, zfs_dataset: str) -> None:
    """Where an installation has tried both, in this order."""
    home.begin()
    whole = f"{zfs_dataset.partition('/')[0]}own"
    (home.data / "pool.img").touch()
    os.truncate(home.data / "pool.img", 128 << 20)
    assert call("zpool", "create", "-m", "none", whole, str(home.data / "pool.img")).returncode == 0
    done = home.purge("--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert call("zpool", "list", whole).returncode != 0
    assert left(zfs_dataset) == [zfs_dataset]
    assert not home.data.exists()
