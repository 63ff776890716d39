"""The kit's folders: whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import EngineError, StorageError
from appliance.notebooks.kit import folders
from appliance.notebooks.kit.folders import Folders

pytestmark = pytest.mark.anyio


async def test_one_is_made_once(tmp_path: Path) -> None:
    room, made = Folders(tmp_path / "kit"), []

    async def fill(target: Path) -> None:
        made.append(target)
        assert room.path("share-1") is None
        folders.write(target, {"kernels/python3/kernel.json": "{}", "a": "b"})

    path = await room.make("share-1", fill)
    assert await room.make("share-1", fill) == path == room.path("share-1")
    assert len(made) == 1
    assert (path / "kernels" / "python3" / "kernel.json").read_text() == "{}"
    readable = [one.stat().st_mode & 0o777 for one in (path, path / "kernels", path / "a")]
    assert readable == [0o755, 0o755, 0o644], "whoever a session runs as reads it"
    assert list(room.names()) == ["share-1"]


@pytest.mark.parametrize("failure", [EngineError("no"), OSError(28, "No space left on device")])
async def test_one_that_fails_leaves_nothing(tmp_path: Path, failure: Exception) -> None:
    room = Folders(tmp_path / "kit")

    async def fill(target: Path) -> None:
        (target / "half").write_text("x")
        raise failure

    with pytest.raises((EngineError, StorageError)) as caught:
        await room.make("root-1", fill)
    assert caught.value.message in ("no", "cannot be made: [Errno 28] No space left on device")
    assert list(room.names()) == []


async def test_what_a_kill_has_left_goes(tmp_path: Path) -> None:
    room = Folders(tmp_path / "kit")
    room.tidy()

    async def fill(target: Path) -> None:
        (target / "a").write_text("whole")

    await room.make("root-1", fill)
    (tmp_path / "kit" / ".making-xyz").mkdir()
    (tmp_path / "kit" / ".making-xyz" / "half").write_text("x")
    room.tidy()
    assert list(room.names()) == ["root-1"]
    room.remove("root-1")
    assert room.path("root-1") is None
