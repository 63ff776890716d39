"""Brings Jupyter into sessions of images that have none; see the package's words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path

from appliance.engine.docker import Engine
from appliance.engine.images import Images, with_tag
from appliance.engine.labels import Owner
from appliance.engine.recipes import kit as recipe
from appliance.engine.recipes.notebook import NOTEBOOK
from appliance.errors import ImageNotFound
from appliance.notebooks.kit import fitting, folders
from appliance.notebooks.kit.fitting import LABEL, Fit, Layout
from appliance.notebooks.kit.flights import Flights
from appliance.notebooks.kit.folders import Folders
from appliance.notebooks.kit.found import NO_COMMAND, QUESTIONS, Found, parse
from appliance.notebooks.kit.unpacking import layout, unpack
from appliance.spec.models import Notebook
from appliance.storage.threads import in_thread

KIND = "kit"
"""Of the containers that images are looked into by."""
ANSWER_S = 60.0
LAYOUT = "layout.json"
ROOT, PACKAGES, SHARE = "root-", "packages-", "share-"

OWN_JUPYTER = (
    "the image's own JupyterLab serves it, whose cells lose what they print while no tab is open; install "
    "jupyter-server-nbmodel and jupyter-collaboration in the image, or use the built-in one"
)

Progress = Callable[[str], None]


def _silent(words: str) -> None:
    return None


class Kit:
    def __init__(self, *, engine: Engine, images: Images, home: Path, instance: str) -> None:
        self._engine = engine
        self._images = images
        self._folders = Folders(home / "kit")
        self._instance = instance
        self._found: dict[str, Found] = {}
        self._asking: Flights[Found] = Flights()
        self._making: Flights[Path] = Flights()
        self._handed: set[str] = set()
        """Names of folders that this process has given to somebody, whose container may come yet."""
        self._tidy = False
        self._tidying = asyncio.Lock()

    def concerns(self, spec: Notebook) -> bool:
        """Neither the user's own command nor the built-in image needs anything."""
        return not spec.command and with_tag(spec.image) != NOTEBOOK.ref

    async def ensure(self, ref: str, progress: Progress = _silent, *, registries: Collection[str] = ()) -> str:
        """All that `fit` needs is here afterwards: for whom waits in the background. The name of what `fit` gives."""
        found = await self.fit(ref, progress)
        return found.words if found else ""

    async def needs(self, image_id: str) -> Found:
        """What an image has. It is asked once. Raises EngineError."""
        if image_id not in self._found:
            self._found[image_id] = await self._asking.join(f"look into {image_id}", partial(self._ask, image_id))
        return self._found[image_id]

    async def fit(self, ref: str, progress: Progress = _silent) -> Fit | None:
        """For containers of the image that is called so now; None: the image has a Jupyter, which is used.

        It may take a minute the first time. Raises ImageNotFound, EngineError, StorageError.
        """
        if with_tag(ref) == NOTEBOOK.ref:
            return None
        image = await self._images.identity(ref)
        if not image:
            raise ImageNotFound("it is not on this machine any more", where=ref, hint="it is fetched again by itself")
        found = await self.needs(image)
        if found.jupyter:
            return None
        root, place = await self._root(progress)
        packages = None
        if not found.lacks and not found.ipykernel:
            packages = await self._packages(found, progress)
        content = fitting.files(found, place)
        share = await self._folder(fitting.name_of(content), partial(_write, content))
        return fitting.fit(found, place, root=root, packages=packages, share=share)

    async def remark(self, ref: str) -> str:
        """What is to be said of an image that `fit` has left alone; empty: nothing."""
        found = self._found.get(await self._images.identity(ref))
        return OWN_JUPYTER if found and found.jupyter and not found.keeps else ""

    async def close(self) -> None:
        """Gives up the work under way; what is half made goes at the next start."""
        await self._making.close()
        await self._asking.close()

    async def _ask(self, image_id: str) -> Found:
        await self._tidy_up()
        labels = self._labels("look")
        for argv in QUESTIONS:
            code, said = await self._engine.ask(image_id, argv, labels=labels, timeout_s=ANSWER_S)
            if code not in NO_COMMAND and (found := parse(said)):
                return found
        return Found()

    async def _root(self, progress: Progress) -> tuple[Path, Layout]:
        image = await self._images.ensure(NOTEBOOK.ref, progress)
        name = ROOT + image.removeprefix("sha256:")[:12]
        before = self._folders.path(name)
        root = await self._folder(name, partial(self._fill_root, image, progress))
        if before is None:
            await self._forget_old(name)
        document = json.loads(await in_thread((root / LAYOUT).read_text, "utf-8"))
        return root, Layout(document["loader"], document["python"], tuple(document["libraries"]))

    async def _fill_root(self, image: str, progress: Progress, target: Path) -> None:
        found = await self.needs(image)
        progress("unpacking the appliance's Jupyter, once for all images")
        await unpack(partial(self._engine.export, image, labels=self._labels("export")), target, progress)
        place = layout(target, found.python)
        document = {"loader": place.loader, "python": place.python, "libraries": list(place.libraries)}
        await in_thread(folders.write, target, {LAYOUT: json.dumps(document)})

    async def _packages(self, found: Found, progress: Progress) -> Path:
        name = f"{PACKAGES}{found.shown_version}-{found.platform}"

        async def fill(target: Path) -> None:
            progress(f"fetching ipykernel for Python {found.shown_version}, once for all images")
            await recipe.install(target, version=found.shown_version, platform=found.platform)

        return await self._folder(name, fill)

    async def _folder(self, name: str, fill: Callable[[Path], Awaitable[None]]) -> Path:
        self._handed.add(name)
        return await self._making.join(name, partial(self._folders.make, name, fill))

    async def _tidy_up(self) -> None:
        """What a killed daemon has left. Once, before anything is made: who comes meanwhile waits."""
        async with self._tidying:
            if self._tidy:
                return
            for container in await self._engine.list(kind=KIND):
                await self._engine.remove(container.id)
            await in_thread(self._folders.tidy)
            self._tidy = True

    async def _forget_old(self, current: str) -> None:
        """Roots of images that were replaced, unless a container is made with one."""
        used = {name for one in await self._engine.list() for name in one.labels.get(LABEL, "").split(",")}
        for name in self._folders.names():
            if name.startswith(ROOT) and name != current and name not in used | self._handed:
                await in_thread(self._folders.remove, name)

    def _labels(self, part: str) -> dict[str, str]:
        return Owner(instance=self._instance, kind=KIND, name=KIND, uid=KIND, part=part).to_labels()


class Kitted:
    """Images that programs with Jupyter's packages run in, whatever the images have of them: an `Ensures`."""

    def __init__(self, images: Images, kit: Kit) -> None:
        self._images = images
        self._kit = kit

    async def ensure(self, ref: str, progress: Progress = _silent, *, registries: Collection[str] = ()) -> str:
        found = await self._images.ensure(ref, progress, registries=registries)
        await self._kit.ensure(ref, progress)
        return found


async def _write(content: dict[str, str], target: Path) -> None:
    await in_thread(folders.write, target, content)
