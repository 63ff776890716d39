"""Images by name: the built-in ones are built when they are missing or old, all others pulled when they are missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from appliance.engine import kept
from appliance.engine.docker import Engine
from appliance.engine.pull import Login, inspect_image, pull
from appliance.engine.recipes.base import BASE
from appliance.engine.recipes.build import BASE_STEPS, TOP_STEPS, Builder
from appliance.engine.recipes.notebook import NOTEBOOK
from appliance.engine.recipes.recipe import RECIPE_LABEL, Progress, Recipe
from appliance.engine.recipes.s3 import S3
from appliance.engine.recipes.turn import turn
from appliance.engine.types import ImageInfo
from appliance.errors import EngineError

log = logging.getLogger(__name__)

RECIPES: Mapping[str, Recipe] = {recipe.ref: recipe for recipe in (BASE, NOTEBOOK, S3)}


Logins = Callable[[Collection[str], str], Login]
"""Of the registries with these names, the login that an image is asked for with."""


def _no_logins(names: Collection[str], ref: str) -> Login:
    return Login()


def _silent(line: str) -> None:
    return None


class Images:
    """`base_image` is the setting of that name; `work_dir` holds what a build needs while it runs."""

    def __init__(self, engine: Engine, *, base_image: str, work_dir: Path, logins: Logins = _no_logins) -> None:
        self._client = engine.client
        self._instance = engine.instance
        self._base_image = base_image
        scratch = work_dir / "image-build"
        self._builder = Builder(engine.client, instance=engine.instance, base_image=base_image, scratch=scratch)
        self._logins = logins
        self._flights: dict[tuple[str, frozenset[str]], _Flight] = {}

    async def ensure(
        self, ref: str, progress: Callable[[str], None] = _silent, *, registries: Collection[str] = ()
    ) -> str:
        """Its id, after it was built or pulled where that was needed. `progress` gets lines for people to read.
        `registries` are the names of those whose login may be used.

        Calls for the same image share the work; it goes on while one of them waits. Raises ImageNotFound.
        """
        ref = with_tag(ref)
        if found := await self._ready(ref):
            return found
        key = (ref, frozenset[str]() if ref in RECIPES else frozenset(registries))
        flight = self._flights.get(key)
        if flight is None or flight.closed:
            flight = self._flights[key] = _Flight(ref, lambda tell: self._obtain(ref, tell, registries))
        return await flight.join(progress)

    async def inspect(self, ref: str) -> ImageInfo | None:
        """None: it is not on this machine."""
        return await inspect_image(self._client, ref)

    async def identity(self, ref: str) -> str:
        """The engine's id, a hash of the content, of what `ref` means now; empty: it is not on this machine."""
        found = await self.inspect(with_tag(ref))
        return found.id if found else ""

    async def keep(self, image_id: str, name: str) -> None:
        """A name of ours, so that it stays when its own name moves on to another image; see kept.keep."""
        await kept.keep(self._client, self._instance, image_id, name)

    async def let_go(self, prefix: str, keep: Collection[str]) -> None:
        """Take back the names that `keep` gave and that begin so, but for those in `keep`. What is in use stays."""
        await kept.let_go(self._client, self._instance, prefix, keep)

    def digest(self, recipe: Recipe) -> str:
        """What a built image's label must say to be the recipe's."""
        if not recipe.parent:
            return recipe.digest(self._base_image, *BASE_STEPS)
        return recipe.digest(self.digest(RECIPES[recipe.parent]), *TOP_STEPS)

    async def _ready(self, ref: str) -> str | None:
        found = await self.inspect(ref)
        recipe = RECIPES.get(ref)
        if recipe is None or (found and found.labels.get(RECIPE_LABEL) == self.digest(recipe)):
            return found.id if found else None
        return await self._adopt(recipe)

    async def _adopt(self, recipe: Recipe) -> str | None:
        """An image of this very recipe that lost its name, to another appliance on this engine or by hand."""
        label = f"{RECIPE_LABEL}={self.digest(recipe)}"
        found = await self._client.call(lambda api: api.images(filters={"label": label}))
        if not found:
            return None
        # The oldest: images that users made from ours carry the label too.
        original = str(min(found, key=lambda image: int(image["Created"]))["Id"])
        repository, _, tag = recipe.ref.rpartition(":")
        await self._client.call(lambda api: api.tag(original, repository, tag, force=True))
        return original

    async def _obtain(self, ref: str, progress: Progress, registries: Collection[str]) -> str:
        if recipe := RECIPES.get(ref):
            return await self._build(recipe, progress)
        await pull(self._client, ref, progress, login=self._logins(registries, ref))
        found = await self.inspect(ref)
        if found is None:
            raise EngineError("it was pulled, and is not here", where=ref, hint=f"`docker pull {ref}` shows more")
        return found.id

    async def _build(self, recipe: Recipe, progress: Progress) -> str:
        parent = await self.ensure(recipe.parent, progress) if recipe.parent else ""
        async with turn(recipe.name, progress):
            if found := await self._ready(recipe.ref):
                return found
            if parent:
                return await self._builder.from_parent(recipe, parent, self.digest(recipe), progress)
            return await self._builder.base(recipe, self.digest(recipe), progress)


class _Flight:
    """One build or pull that several callers wait for. It is cancelled when the last of them is."""

    def __init__(self, ref: str, work: Callable[[Progress], object]) -> None:
        self._listeners: list[Progress] = []
        self._waiting = 0
        self._left = False
        self.task: asyncio.Task[str] = asyncio.create_task(work(self._tell), name=f"image {ref}")  # type: ignore[arg-type]

    @property
    def closed(self) -> bool:
        """It has ended, or is being cancelled; who comes now needs another one."""
        return self._left or self.task.done()

    async def join(self, progress: Progress) -> str:
        self._listeners.append(progress)
        self._waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self._listeners.remove(progress)
            self._waiting -= 1
            if not self._waiting and not self.task.done():
                self._left = True
                self.task.cancel()
                await asyncio.gather(self.task, return_exceptions=True)

    def _tell(self, line: str) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(line)
            except Exception:
                log.exception("a listener to image builds failed")


def with_tag(ref: str) -> str:
    """The full name of a built-in image; any other ref as it stands."""
    return f"{ref}:latest" if f"{ref}:latest" in RECIPES else ref
