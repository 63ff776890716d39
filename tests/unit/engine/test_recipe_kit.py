"""ipykernel for a Python of an image, by the real uv and without a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from appliance.engine.recipes import kit
from appliance.engine.recipes.index import IndexSettings
from appliance.errors import EngineError

pytestmark = pytest.mark.anyio
PLATFORM = "x86_64-manylinux_2_28"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This host's only source of packages: a folder, which a build container would see elsewhere."""
    folder = tmp_path / "wheels here"
    folder.mkdir()
    settings = IndexSettings(no_index=True, find_links=["/mnt/local/0"], mounts={str(folder): "/mnt/local/0"})
    monkeypatch.setattr(kit, "host_index_settings", lambda: settings)
    return folder


def put(folder: Path, tags: str) -> None:
    info = "ipykernel-99.0.dist-info"
    with zipfile.ZipFile(folder / f"ipykernel-99.0-{tags}.whl", "w") as wheel:
        wheel.writestr("ipykernel/__init__.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: ipykernel\nVersion: 99.0\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.parametrize("version", ["3.8", "3.13"])
async def test_it_is_installed_for_a_python_that_is_not_here(wheels: Path, tmp_path: Path, version: str) -> None:
    put(wheels, f"cp{version.replace('.', '')}-none-manylinux_2_17_x86_64")
    target = tmp_path / "target"
    target.mkdir()
    await kit.install(target, version=version, platform=PLATFORM)
    assert (target / "ipykernel" / "__init__.py").exists()


async def test_what_cannot_be_had_is_told_with_the_next_step(wheels: Path, tmp_path: Path) -> None:
    put(wheels, "cp312-none-manylinux_2_17_x86_64")
    with pytest.raises(EngineError, match="ipykernel for Python 3\\.11 could not be had") as caught:
        await kit.install(tmp_path / "target", version="3.11", platform=PLATFORM)
    assert "install ipykernel in the image" in caught.value.hint
