"""Registered models: a name and a type for a dataset version, so a model's content is as immutable as that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from appliance.datasets import uses
from appliance.datasets.ref import random_id
from appliance.errors import Conflict, NotFound, UsageError
from appliance.spec.names import check_name
from appliance.state import events, models, versions
from appliance.state.db import Database
from appliance.state.models import Model
from appliance.state.versions import Version
from appliance.storage.base import Store
from appliance.storage.threads import in_thread

KIND = "model"
TYPES = ("Tensorflow", "ONNX", "Custom")
"""Gradient's; letter case does not matter in a spec."""


class Models:
    def __init__(self, db: Database, store: Store, clock: Callable[[], float]) -> None:
        self._db = db
        self._store = store
        self._clock = clock

    def register(self, name: str, model_type: str, version: Version, run: str = "", job: str = "") -> Model:
        """Give a committed version a name. A job that registers the same thing again gets what it has registered."""
        check_name(KIND, name)
        known = versions.find(self._db.read, version.dataset, version.version)
        if known is None or known.committed is None:
            raise Conflict(
                f"version {version.version} is not committed", hint="commit the version, then register the model"
            )
        model = Model(
            id=f"mo{random_id(13)}",
            name=name,
            type=normal_type(model_type),
            dataset=version.dataset,
            version=version.version,
            run=run,
            job=job,
            created=self._clock(),
        )
        with self._db.write() as db:
            if run and (old := models.same(db, model)):
                return old
            models.add(db, model)
            events.record(db, KIND, name, "Registered", f"{model.id}, {model.type}", now=model.created)
        return model

    def resolve(self, id_or_name: str) -> Model:
        """By id, else the one that was registered last under the name. Raises NotFound."""
        found = models.find(self._db.read, id_or_name) or models.newest(self._db.read, id_or_name)
        if found:
            return found
        raise NotFound(f"no model {id_or_name!r}", hint="`appliance get models` lists what there is")

    def every(self) -> list[Model]:
        """Newest first."""
        return models.every(self._db.read)

    async def path(self, model: Model) -> Path:
        """The directory with its content, to be bound read-only. Raises NotFound."""
        version = versions.find(self._db.read, model.dataset, model.version)
        if version is None:
            raise NotFound(
                f"the content of model {model.name!r} is gone", where=model.id, hint="register the model again"
            )
        return await in_thread(self._store.path, version.volume)

    def named(self, name: str) -> list[Model]:
        """All that were registered under one name, newest first. Raises NotFound."""
        return models.named(self._db.read, name) or [self.resolve(name)]

    def delete(self, model_id: str) -> None:
        """The registration; the dataset version stays. Gone already counts as done.

        Raises Conflict while a deployment's replicas are made with it, or a notebook's session sees it.
        """
        with self._db.write() as db:
            if used := uses.of_model(db, model_id):
                raise Conflict(
                    f"it is in use by {', '.join(used)}",
                    where=f"model {model_id}",
                    hint="stop what uses it, or apply it with another model, first",
                )
            model = models.find(db, model_id)
            if model and models.remove(db, model_id):
                events.record(db, KIND, model.name, "Deleted", model_id, now=self._clock())


def normal_type(text: str) -> str:
    """The type in Gradient's spelling. Raises UsageError."""
    for known in TYPES:
        if text.lower() == known.lower():
            return known
    raise UsageError(f"{text!r} is not a model type", hint=f"use one of {', '.join(TYPES)}")
