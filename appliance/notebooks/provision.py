"""What a session needs before it can begin: its image, Jupyter for an image that has none, and its first files.

All three are fetched beside the reconcile loop; asked where it stands, the first that is not here yet answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.engine.preparing import Ensures, Image, Preparing
from appliance.notebooks.beginning import Beginning
from appliance.notebooks.kit.fitting import Fit
from appliance.notebooks.kit.kit import Kit
from appliance.spec.models import Notebook
from appliance.state.events import Level
from appliance.state.resources import Resource


@dataclass(frozen=True, slots=True)
class Brought:
    """What brings Jupyter into the container of a session; an empty `fit` and no words: the image has one."""

    fit: Fit | None = None
    words: str = ""
    level: Level = "info"


class Provision:
    """`hint` is called with a notebook's uid when something of it is here or has failed to come."""

    def __init__(
        self,
        images: Ensures,
        kit: Kit,
        beginning: Beginning,
        clock: Callable[[], float],
        hint: Callable[[str], None],
    ) -> None:
        self._preparing = Preparing(images, clock, hint)
        self._kit = kit
        self._fitting = Preparing(kit, clock, hint)
        self._beginning = beginning

    async def close(self) -> None:
        await self._preparing.close()
        await self._fitting.close()
        await self._kit.close()
        await self._beginning.close()

    def peek(self, notebook: Resource, spec: Notebook) -> Image:
        """Where the work stands, in the terms of an image that is fetched."""
        image = self._preparing.peek(notebook.uid, spec.image, asked=notebook.updated)
        if image.state == "ready" and self._kit.concerns(spec):
            image = self._fitting.peek(notebook.uid, spec.image, asked=notebook.updated)
        if image.state == "ready" and self._beginning.needed(notebook, spec):
            image = self._beginning.peek(notebook, spec)
        return image

    async def ensure(self, notebook: Resource, spec: Notebook) -> None:
        """Begin the work, or go on with it."""
        registries = (spec.registry,) if spec.registry else ()
        uid, asked = notebook.uid, notebook.updated
        image = await self._preparing.ensure(uid, spec.image, asked=asked, registries=registries)
        if image.state == "ready" and self._kit.concerns(spec):
            await self._fitting.ensure(uid, spec.image, asked=asked)
        if self._beginning.needed(notebook, spec):
            self._beginning.ensure(notebook, spec)

    async def settle(self, uid: str) -> None:
        """A session begins: the images are here, and nothing of ours writes to the workspace from here on.

        Raises EngineError.
        """
        self._preparing.forget(uid)
        self._fitting.forget(uid)
        await self._beginning.settle(uid)

    async def bring(self, spec: Notebook) -> Brought:
        """Raises ApplianceError where Jupyter cannot be brought into the image."""
        if not self._kit.concerns(spec):
            return Brought()
        if fit := await self._kit.fit(spec.image):
            return Brought(fit, fit.words, "warning" if fit.degraded else "info")
        return Brought(words=await self._kit.remark(spec.image), level="warning")

    async def stop(self, uid: str) -> None:
        """Before the notebook is deleted. Raises EngineError."""
        await self._beginning.stop(uid)

    def forget(self, uid: str) -> None:
        """Nobody waits for it any more."""
        self._preparing.forget(uid)
        self._fitting.forget(uid)
        self._beginning.forget(uid)
