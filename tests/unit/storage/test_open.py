"""Which store a home uses, and why; never another one than before without somebody having said so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.errors import StorageError, UsageError
from appliance.settings import Settings
from appliance.storage import open as opening
from appliance.storage.open import MARK, open_store
from appliance.storage.zfs.pools import Pool


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one pool, whatever this one has."""
    monkeypatch.setattr(opening, "installed", lambda: True)
    monkeypatch.setattr(opening, "pools", lambda: [Pool("tank", "ONLINE")])


def test_without_a_pool_it_is_a_directory_and_says_which_pools_there_are(settings: Settings) -> None:
    info = open_store(settings).info()
    assert info.kind == "directory"
    assert "no `zpool` is set (pools here: tank ONLINE)" in info.detail
    assert str(settings.volumes_dir) in info.detail


def test_without_zfs_it_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "installed", lambda: False)
    assert "ZFS is not installed" in open_store(settings).info().detail


def test_a_look_at_the_pools_that_fails_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Pool]:
        raise StorageError("the daemon sleeps\nat length")

    monkeypatch.setattr(opening, "pools", fail)
    assert "ZFS does not answer: the daemon sleeps" in open_store(settings).info().detail


def test_a_directory_that_was_asked_for_is_one(settings: Settings) -> None:
    info = open_store(replace(settings, storage="directory", zpool="tank")).info()
    assert "`storage` is set to directory" in info.detail


def test_zfs_without_a_pool_is_an_error_with_the_next_step(settings: Settings) -> None:
    with pytest.raises(StorageError) as caught:
        open_store(replace(settings, storage="zfs"))
    assert "zpool" in caught.value.hint
    assert "tank ONLINE" in caught.value.message
    assert not settings.volumes_dir.exists()


@pytest.mark.parametrize("storage", ["zfs", "auto"])
def test_a_pool_that_is_missing_is_an_error_and_never_a_directory(
    settings: Settings, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pool: str, root: object) -> None:
        raise StorageError(f"there is no pool {pool!r}", hint="`zpool import it`")

    monkeypatch.setattr(opening, "ZfsStore", fail)
    with pytest.raises(StorageError, match="no pool 'gone'") as caught:
        open_store(replace(settings, storage=storage, zpool="gone"))
    assert caught.value.hint == "`zpool import it` (pools here: tank ONLINE)"
    assert not (settings.volumes_dir / MARK).exists()


@pytest.mark.parametrize("change", [{"storage": "btrfs"}, {"zpool": "-rf tank"}, {"zpool": "tank@s"}, {"zpool": "1"}])
def test_settings_that_make_no_sense_are_refused(settings: Settings, change: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        open_store(replace(settings, **change))  # type: ignore[arg-type]


def test_volumes_are_never_left_behind_in_another_store(settings: Settings) -> None:
    store = open_store(settings)
    (store.create("v") / "file").touch()
    with pytest.raises(StorageError) as caught:
        open_store(replace(settings, zpool="tank"))
    assert "`directory`" in caught.value.message
    assert str(settings.volumes_dir / MARK) in caught.value.hint
    assert open_store(settings).volumes() == ["v"]


def test_a_directory_store_without_volumes_may_be_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(settings)
    monkeypatch.setattr(opening, "ZfsStore", lambda pool, root: pool)
    open_store(replace(settings, zpool="/tank/appliance/"))
    assert (settings.volumes_dir / MARK).read_text() == "zfs tank/appliance\n"
    with pytest.raises(StorageError, match="zfs tank/appliance"):
        open_store(settings)
