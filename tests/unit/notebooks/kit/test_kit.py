"""What is asked of images and made for them, how often, and what is taken away again."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.recipes import kit as recipe
from appliance.engine.recipes.notebook import NOTEBOOK
from appliance.engine.types import Container
from appliance.errors import EngineError, ImageNotFound
from appliance.notebooks.kit.fitting import LABEL
from appliance.notebooks.kit.folders import Folders
from appliance.notebooks.kit.found import MARK, Found
from appliance.notebooks.kit.kit import Kit
from appliance.spec.models import Notebook
from tests.unit.notebooks.rooms import FakeEngine, FakeImages

pytestmark = pytest.mark.anyio

PYTHON: dict[str, Any] = {
    "version": [3, 11],
    "executable": "/usr/bin/python3",
    "prefix": "/usr",
    "machine": "x86_64",
    "libc": "glibc 2.36",
    "shell": ["/bin/sh"],
}
OURS = "sha256:" + "0" * 64


class Engine(FakeEngine):
    """The notebook image is a tar of two files."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.exported: list[str] = []
        self.cut = False
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.says(OURS, jupyter=True)

    def says(self, image: str, **changes: object) -> None:
        self.answers[image] = (0, MARK + json.dumps({**PYTHON, **changes}))

    async def export(self, image: str, write: Callable[[bytes], object], *, labels: Mapping[str, str]) -> None:
        self.exported.append(image)
        self.begun.set()
        await self.gate.wait()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in ("usr/bin/python3", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "usr/share/doc", "dev/x"):
                archive.addfile(tarfile.TarInfo(name))
        write(buffer.getvalue()[: 1536 if self.cut else None])


class Images(FakeImages):
    notebook = OURS

    async def ensure(
        self, ref: str, progress: Callable[[str], None] = print, *, registries: Collection[str] = ()
    ) -> str:
        return self.notebook if ref == NOTEBOOK.ref else ref


class House:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.engine = Engine()
        self.images = Images()
        self.installed: list[tuple[str, str]] = []
        self.kit = self.another()

    def another(self) -> Kit:
        """As after a restart of the daemon."""
        rooms: dict[str, Any] = {"engine": self.engine, "images": self.images}
        return Kit(**rooms, home=self.home, instance="cafe0001")

    async def install(self, target: Path, *, version: str, platform: str) -> None:
        self.installed.append((version, platform))
        (target / "ipykernel").mkdir()

    @property
    def names(self) -> list[str]:
        return sorted(path.name.partition("-")[0] for path in (self.home / "kit").iterdir())


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    house = House(tmp_path)
    monkeypatch.setattr(recipe, "install", house.install)
    return house


async def test_an_image_with_jupyter_needs_nothing(house: House) -> None:
    assert await house.kit.fit("theirs") is None
    assert await house.kit.remark("theirs") == ""
    house.engine.says("bare", jupyter=True)
    assert await house.kit.fit("bare") is None
    assert "jupyter-server-nbmodel" in await house.kit.remark("bare")
    assert not (house.home / "kit").exists()


async def test_the_built_in_image_and_a_command_are_not_even_looked_at(house: House) -> None:
    for ref in ("appliance/notebook", NOTEBOOK.ref):
        assert await house.kit.fit(ref) is None
        assert not house.kit.concerns(Notebook(name="nb", image=ref))
    assert not house.kit.concerns(Notebook(name="nb", image="py", command=("my-jupyter",)))
    assert house.kit.concerns(Notebook(name="nb", image="py"))
    assert house.engine.asked == []


async def test_all_is_made_once_for_all_that_ask_and_found_again(house: House) -> None:
    house.engine.says("py")
    house.engine.says("py2")
    told: list[str] = []
    fits = await asyncio.gather(*(house.kit.fit(ref, told.append) for ref in ("py", "py2", "py")))
    assert len({fit.labels[LABEL] for fit in fits if fit}) == 1
    assert house.names == ["packages", "root", "share"]
    assert await house.another().fit("py") == fits[0]
    assert house.engine.exported == [OURS]
    assert house.installed == [("3.11", "x86_64-manylinux_2_28")]
    assert house.engine.asked.count("py") == 2, "once by each daemon"
    assert any("unpacking" in words for words in told)
    root = next((house.home / "kit").glob("root-*"))
    assert not (root / "dev").exists()
    assert not (root / "usr" / "share").exists()


async def test_nothing_is_made_before_all_is_tidy(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.engine.says("py")
    house.engine.says("py2")
    tidied: list[bool] = []
    tidy, make = Folders.tidy, Folders.make

    def slowly(self: Folders) -> None:
        time.sleep(0.1)
        tidy(self)
        tidied.append(True)

    async def watched(self: Folders, name: str, fill: Callable[[Path], Awaitable[None]]) -> Path:
        assert tidied
        return await make(self, name, fill)

    monkeypatch.setattr(Folders, "tidy", slowly)
    monkeypatch.setattr(Folders, "make", watched)
    assert all(await asyncio.gather(house.kit.fit("py"), house.kit.fit("py2")))


@pytest.mark.parametrize("changes", [{"ipykernel": True}, {"version": [3, 6]}, {"executable": ""}])
async def test_a_kernel_is_fetched_only_where_it_helps(house: House, changes: dict[str, object]) -> None:
    house.engine.says("py", **changes)
    fit = await house.kit.fit("py")
    assert fit
    assert fit.degraded is ("ipykernel" not in changes)
    assert house.installed == []
    assert house.names == ["root", "share"]


@pytest.mark.parametrize("answer", [(127, ""), (1, ""), (0, "no answer"), (127, MARK + json.dumps(PYTHON))])
async def test_an_image_that_does_not_answer_has_nothing(house: House, answer: tuple[int, str]) -> None:
    house.engine.answers["odd"] = answer
    assert await house.kit.needs("odd") == Found()
    assert house.engine.asked == ["odd", "odd", "odd"]


async def test_an_image_that_is_gone_is_said(house: House) -> None:
    house.images.missing.add("gone")
    with pytest.raises(ImageNotFound):
        await house.kit.fit("gone")


async def test_a_root_that_breaks_off_is_not_there_and_is_made_again(house: House) -> None:
    house.engine.says("py")
    house.engine.cut = True
    with pytest.raises(EngineError, match="could not be unpacked") as caught:
        await house.kit.fit("py")
    assert "disk space" in caught.value.hint
    assert house.names == []
    house.engine.cut = False
    assert await house.kit.fit("py")


async def test_who_gives_up_does_not_end_the_work(house: House) -> None:
    house.engine.says("py")
    house.engine.gate.clear()
    waits = asyncio.create_task(house.kit.fit("py"))
    async with asyncio.timeout(60):
        await house.engine.begun.wait()
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    house.engine.gate.set()
    assert await house.kit.fit("py")
    assert house.engine.exported == [OURS]


async def test_a_replaced_root_stays_while_a_container_is_made_with_it(house: House) -> None:
    house.engine.says("py")
    first = await house.kit.fit("py")
    assert first
    label = {LABEL: first.labels[LABEL]}
    house.engine.containers["one"] = Container("one", "n", "py", "py", label, "running")
    roots = [house.names.count("root")]
    for digit in "123":
        house.images.notebook = f"sha256:{digit * 64}"
        house.engine.says(house.images.notebook, jupyter=True)
        assert await house.another().fit("py")
        roots.append(house.names.count("root"))
        if digit == "2":
            house.engine.containers.clear()
    assert roots == [1, 2, 2, 1], "the first goes with the container that it is in, the second with the third"


async def test_the_end_of_the_daemon_ends_the_work_and_leaves_nothing_half_made(house: House) -> None:
    house.engine.says("py")
    house.engine.gate.clear()
    waits = asyncio.create_task(house.kit.fit("py"))
    async with asyncio.timeout(60):
        await house.engine.begun.wait()
        await house.kit.close()
        await asyncio.gather(waits, return_exceptions=True)
    assert waits.cancelled()
    assert house.names == []
