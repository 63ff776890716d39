"""What ZFS programs and the kernel write, read without either: errors, mounts, pools."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import ApplianceError, Conflict, NoSpace, NotFound, StorageError
from appliance.storage import argv
from appliance.storage.zfs import pools
from appliance.storage.zfs.command import AlreadyThere, Busy, meaning
from appliance.storage.zfs.mounts import Mount, mounted_at, mounts, parse_mountinfo

SAID = (
    ("cannot create snapshot 'tank/v@s': dataset already exists", AlreadyThere),
    ("cannot create 'tank/v': dataset already exists", AlreadyThere),
    ("cannot mount 'tank/v': filesystem already mounted", AlreadyThere),
    ("cannot destroy 'tank/v': filesystem has dependent clones\nuse '-R' to destroy:\ntank/w", Conflict),
    ("cannot destroy 'tank/v@s': snapshot has dependent clones", Conflict),
    ("cannot open 'tank/none': dataset does not exist", NotFound),
    ("cannot open 'tank': no such pool", NotFound),
    ("could not find any snapshots to destroy; check snapshot names.", NotFound),
    ("cannot unmount '/tank/v': target is busy", Busy),
    ("cannot destroy 'tank/v': dataset is busy", Busy),
    ("cannot unmount '/tank/v': pool or dataset is busy", Busy),
    ("cannot create 'tank/v': out of space", NoSpace),
    ("cannot create 'tank/v': permission denied", StorageError),
    ("cannot destroy 'tank/busy': filesystem has children", StorageError),
    ("something that nobody has seen before", StorageError),
)


@pytest.mark.parametrize(("text", "error"), SAID)
def test_words_of_zfs_are_kept_and_mean_an_error(text: str, error: type[ApplianceError]) -> None:
    found = meaning("zfs", ("destroy", "tank/v"), text)
    assert type(found) is error
    assert found.message == text
    assert found.where == "zfs destroy tank/v"
    assert found.hint or error is AlreadyThere


def test_mounts_are_read_as_the_kernel_writes_them() -> None:
    text = (
        "22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n"
        "44 27 0:40 / /srv/my\\040volumes/a\\134b rw,noatime - fuse.zfs tank/volumes/a rw,user_id=0\n"
        "45 44 0:41 / /srv/sealed ro master:7 - zfs tank/volumes/b rw,xattr\n"
        "\n"
        "broken line\n"
    )
    assert parse_mountinfo(text) == [
        Mount("/", "ext4", "/dev/vda", True, False),
        Mount("/srv/my volumes/a\\b", "fuse.zfs", "tank/volumes/a", True, True),
        Mount("/srv/sealed", "zfs", "tank/volumes/b", False, False),
    ]


def test_the_root_of_this_machine_is_mounted(tmp_path: Path) -> None:
    root = [mount for mount in mounts() if mount.path == "/"]
    assert mounted_at(Path("/"), root[-1].source)
    assert not mounted_at(Path("/"), "tank/volumes/none")
    assert not mounted_at(tmp_path, root[-1].source)


def test_a_program_that_hangs_is_ended_at_its_deadline() -> None:
    with pytest.raises(StorageError, match=r"sleep 60.*0\.2 s"):
        argv.run(["sleep", "60"], timeout_s=0.2)


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(StorageError, match="no-such-program"):
        argv.run(["no-such-program"], timeout_s=5)


def test_arguments_reach_a_program_as_they_are() -> None:
    answer = argv.run(["printf", "%s|", "$(id)", "a b", "; ls", "*"], timeout_s=60)
    assert (answer.code, answer.out) == (0, b"$(id)|a b|; ls|*|")
    assert argv.run(["false"], timeout_s=60).err == "exit code 1"


def fake(directory: Path, name: str, script: str) -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_pools_are_read_with_zfslib_where_it_is_openzfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(
        tmp_path,
        "zfs",
        r"""case "$1" in
        version) echo zfs-2.1.11-1 ;;
        *) printf 'rpool\t1700000000\nrpool/a\t1700000001\nrpool/a@s\t1700000002\ntank\t1700000003\n' ;; esac""",
    )
    fake(
        tmp_path,
        "zpool",
        r"""printf 'rpool\t99\t1\t98\t-\t0\t1\tONLINE\ntank\t99\t1\t98\t-\t0\t1\tDEGRADED\n'""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert pools.installed()
    assert pools.pools() == [pools.Pool("rpool", "ONLINE"), pools.Pool("tank", "DEGRADED")]


def test_pools_are_read_without_zfslib_where_it_is_zfs_fuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "zfs", """echo "unrecognized command 'version'" >&2; exit 2""")
    fake(tmp_path, "zpool", r"""[ "$*" = "list -H -o name,health" ] && printf 'tank\tONLINE\n'""")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert pools.pools() == [pools.Pool("tank", "ONLINE")]


def test_pools_that_cannot_be_read_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "zfs", """[ "$1" = version ] || exit 1""")
    fake(tmp_path, "zpool", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StorageError, match="cannot be listed"):
        pools.pools()
