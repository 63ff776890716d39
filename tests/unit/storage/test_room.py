"""The gate for new work and the reserve: pure rules, and both on a file system that really fills up."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import NoSpace
from appliance.storage.base import Store, StoreInfo
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.reserve import SLICE, ReserveFile, wanted
from appliance.storage.room import AGAIN, MOMENTS_MOST, Place, Room, is_low, low_mark, moments_mark

MIB = 1 << 20
sizes = st.integers(0, 1 << 44)


@given(held=sizes, size=sizes, free=sizes, floor=sizes, more=sizes)
def test_the_reserve_never_eats_what_it_is_there_for(held: int, size: int, free: int, floor: int, more: int) -> None:
    after = wanted(held=held, size=size, free=free, floor=floor, ample=floor + more)
    assert 0 <= after <= size or after == held <= size
    if after > held:
        assert free - (after - held) >= floor + more
    if free < floor and held:
        assert after < held
        assert after == 0 or free + (held - after) >= floor
    again = wanted(held=after, size=size, free=free + held - after, floor=floor, ample=floor + more)
    assert again >= after or held > size, "what was made whole is not given back at once"


def test_the_reserve_goes_in_slices_and_comes_back_whole() -> None:
    size, floor, ample = 512 * MIB, 256 * MIB, 2560 * MIB
    assert wanted(held=size, size=size, free=250 * MIB, floor=floor, ample=ample) == size - SLICE
    assert wanted(held=size, size=size, free=0, floor=floor, ample=ample) == 256 * MIB
    assert wanted(held=0, size=size, free=2 << 30, floor=floor, ample=ample) == 0
    assert wanted(held=0, size=size, free=ample + size, floor=floor, ample=ample) == size


def test_the_mark_is_small_on_a_small_disk() -> None:
    assert low_mark(4 << 40, 2 << 30) == 2 << 30
    assert low_mark(768 * MIB, 2 << 30) == int(76.8 * MIB)


@pytest.mark.anyio
async def test_what_is_said_of_the_store_names_its_kind_once(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "volumes", "ZFS is not here")
    seen = await Room(store, tmp_path, low=0, reserve=0).look()
    assert seen.ok
    assert seen.message.startswith(f"directory {tmp_path}/volumes, ")
    assert "ZFS is not here" in seen.message


@given(frees=st.lists(st.integers(0, 10_000), max_size=30))
def test_low_space_does_not_flap(frees: list[int]) -> None:
    """Between the two marks nothing changes; below the first it is low, above the second it is not."""
    low = False
    for free in frees:
        after = is_low(Place("p", "/", 20_000, free), 1000, before=low)
        assert after == (free < 1000 or (low and free < 1000 * AGAIN))
        low = after


class _Disk:
    """A store that says it is as full as a test wants."""

    def __init__(self) -> None:
        self.total, self.free = 100 << 30, 50 << 30
        self.reserved: list[int] = []

    def info(self) -> StoreInfo:
        return StoreInfo("zfs", "a pool", self.total, self.free, instant=True)

    def reserve(self, count: int) -> None:
        self.reserved.append(count)


@pytest.fixture
def disk() -> _Disk:
    return _Disk()


def _room(store: object, home: Path, *, low: int = 2 << 30, reserve: int = 8 * MIB) -> Room:
    made: Store = store  # type: ignore[assignment]
    return Room(made, home, low=low, reserve=reserve)


@pytest.mark.anyio
async def test_moments_that_nobody_asked_for_end_before_new_work_does(disk: _Disk, tmp_path: Path) -> None:
    room = _room(disk, tmp_path, low=1 << 30)
    assert moments_mark(disk.total, 1 << 30) == 5 << 30
    assert moments_mark(10 << 40, 1 << 30) == MOMENTS_MOST
    assert moments_mark(disk.total, 8 << 30) == 16 << 30
    assert moments_mark(disk.total, 0) == 0
    disk.free = 5 << 30
    await room.look()
    assert room.no_moments() == ""
    disk.free -= 1
    seen = await room.look()
    assert (
        room.no_moments() == "notebooks get no snapshots by themselves while less than 5.4 GB are free for the volumes"
    )
    assert room.no_moments() in seen.message
    assert (room.why(), seen.ok) == ("", True)
    said = room.no_moments()
    disk.free = 5 << 30
    assert said not in (await room.look()).message
    assert room.no_moments() == ""


@pytest.mark.anyio
async def test_the_words_stay_the_same_until_there_is_room(disk: _Disk, tmp_path: Path) -> None:
    room = _room(disk, tmp_path, low=1 << 30)
    assert (await room.look()).ok
    assert room.why() == ""
    room.demand("a fork")
    disk.free = 900 * MIB
    seen = await room.look()
    words = room.why()
    assert not seen.ok
    assert [place.name for place in seen.low] == ["the volumes"]
    assert "`appliance space`" in words
    assert "1.3 GB" in words, "what is waited for"
    assert "failed runs" in words, "what goes by itself"
    with pytest.raises(NoSpace, match="a fork does not begin"):
        room.demand("a fork")
    disk.free = 1100 * MIB
    assert not (await room.look()).ok
    assert room.why() == words
    disk.free = 1400 * MIB
    assert (await room.look()).low == ()
    assert room.why() == ""


@pytest.mark.anyio
async def test_the_stores_reserve_is_asked_for_once_and_given_back_when_it_is_full(disk: _Disk, tmp_path: Path) -> None:
    room = _room(disk, tmp_path, low=1 << 30, reserve=48 * MIB)
    for _ in range(3):
        await room.look()
    assert disk.reserved == [48 * MIB]
    disk.free = 100 * MIB
    assert (await room.look()).reserved < 96 * MIB
    assert disk.reserved[1:] == [48 * MIB - 2 * SLICE]
    disk.free = 50 << 30
    await room.look()
    assert disk.reserved[-1] == 48 * MIB


def test_a_reserve_takes_up_real_room_and_leaves_by_itself(tmp_path: Path) -> None:
    file = ReserveFile(tmp_path / "reserve")
    file.resize(4 * MIB)
    if file.unfit:
        pytest.skip(file.unfit)
    assert file.held() == 4 * MIB
    assert (tmp_path / "reserve").stat().st_mode & 0o077 == 0
    file.resize(1 * MIB)
    assert file.held() == 1 * MIB
    file.resize(0)
    assert file.held() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_sparse_copy_of_a_home_keeps_nothing_back(tmp_path: Path) -> None:
    with (tmp_path / "reserve").open("wb") as file:
        file.truncate(4 * MIB)
    assert ReserveFile(tmp_path / "reserve").held() == 0


def test_a_reserve_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("content")
    (tmp_path / "reserve").symlink_to("precious")
    with pytest.raises(Exception, match="symbolic link"):
        ReserveFile(tmp_path / "reserve").resize(MIB)
    assert (tmp_path / "precious").read_text() == "content"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """64 MiB that really run out."""
    place = tmp_path / f"disk-{secrets.token_hex(3)}"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root to be mounted")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.anyio
async def test_a_disk_that_fills_up_for_real(small_disk: Path) -> None:
    store = DirectoryStore(small_disk / "volumes", "a test", durable=False)
    room = _room(store, small_disk, low=1 << 30, reserve=512 << 20)
    seen = await room.look()
    assert seen.ok, seen.message
    assert len(seen.places) == 1, "the home and the volumes share a disk, so it is told once"
    assert seen.reserved == seen.reserve > 3 * MIB
    live = store.create("notebooks/1")
    _fill(live / "greedy")
    seen = await room.look()
    assert not seen.ok
    assert room.why()
    assert seen.reserved == 0, "given back"
    state = small_disk / "state.db"
    state.write_bytes(b"s" * MIB)  # which a full disk would refuse
    (live / "greedy").unlink()
    seen = await room.look()
    assert (seen.ok, room.why()) == (True, ""), seen.message
    assert seen.reserved == seen.reserve, "made again"


def _fill(path: Path) -> None:
    def write() -> None:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * MIB)

    with pytest.raises(OSError, match="No space left"):
        write()
