"""Another image, machine, user or idle time for a notebook that is there, and another session for it.

A change goes through `apply`, as if its file had been written anew; the files and the history stay.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import Lock
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance import apply
from appliance.errors import Conflict, SpecError, UsageError
from appliance.notebooks.making import digest
from appliance.notebooks.owned import get, refuse_watched
from appliance.spec.load import load_text, parse
from appliance.spec.models import Notebook
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource

KIND: Final = "notebook"
WHOLE = (
    *("image", "machine", "gpus", "user", "idle", "shutdown", "quota", "shm"),
    *("owner", "priority", "preemptible"),
)
"""Keys of a spec that a change replaces."""


@dataclass(frozen=True, slots=True)
class Change:
    """`values` are keys of a spec; an empty text takes the key out, so that its default holds again."""

    values: Mapping[str, str | int] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    unset_env: Collection[str] = ()


def changed(document: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The document with the change in it. Raises UsageError for a key that is not among those. Pure."""
    if strange := sorted(set(change.values) - set(WHOLE)):
        raise UsageError(f"{strange[0]!r} cannot be set so", hint=f"one of {', '.join(WHOLE)}; else apply a spec")
    found = {**document, **change.values}
    for key, value in change.values.items():
        if value == "":
            del found[key]
        elif key == "idle" and isinstance(document.get(key), dict):  # what else it says stays
            found[key] = {**document[key], "after": value}
    if change.env or change.unset_env:
        env = variables(document.get("env"))
        if missing := [name for name in change.unset_env if name not in env]:
            raise UsageError(f"there is no variable {missing[0]!r} to unset", hint="`appliance get notebook NAME`")
        env = {name: value for name, value in {**env, **change.env}.items() if name not in change.unset_env}
        found["env"] = env
    return found


def variables(env: Any) -> dict[str, Any]:
    """As a map, from either form that a spec may have."""
    if isinstance(env, list):
        return {item["name"]: item.get("value", "") for item in env}
    return dict(env or {})


class Changing:
    """`end_session` leaves no session and no way to it; the notebook's lock is held meanwhile."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Callable[[], float],
        hint: Callable[[str], None],
        locks: Mapping[str, Lock],
        end_session: Callable[[Resource], Awaitable[None]],
    ) -> None:
        self._db = db
        self._clock = clock
        self._hint = hint
        self._locks = locks
        self._end_session = end_session

    async def restart(self, name: str, *, author: str = "") -> Resource:
        """End its session, with a snapshot, and begin another; of one that rests, begin one. Raises NotFound."""
        uid = get(self._db.read, name).uid
        async with self._locks[uid]:
            try:
                notebook = get(self._db.read, name)
                await self._end_session(notebook)
                now = self._clock()
                with self._db.write() as db:
                    apply.switch(db, get(db, name), "running", source="cli", now=now)
                    resources.set_status(
                        db, uid, generation=notebook.generation, phase="Starting", message="another session begins"
                    )
                    by = f" by {author}" if author else ""
                    events.record(db, KIND, name, "Restart", f"another session was asked for{by}", now=now)
            finally:
                self._hint(uid)
        return get(self._db.read, name)

    async def set(
        self, name: str, change: Change, *, generation: int | None = None, start: bool = True
    ) -> tuple[Resource, bool]:
        """Declare it with the change. A session that runs is followed by another, or by none where `start` is False.

        True: what a session is made of has changed.

        `generation`: only if it is still that one. Raises NotFound, SpecError, UsageError, Conflict, also where a file
        of the watched folder declares it.
        """
        notebook = get(self._db.read, name)
        refuse_watched(notebook, "change that file")
        if generation is not None and notebook.generation != generation:
            raise Conflict(
                f"notebook {name!r} is at generation {notebook.generation}, not {generation}; nothing was changed",
                hint="somebody has changed it: look at it, then repeat the command",
            )
        document = {"kind": KIND, **changed(notebook.spec, change), "name": name}
        loaded = await asyncio.to_thread(load_text, json.dumps(document), file=f"notebook set {name}")
        if get(self._db.read, name).generation != notebook.generation:
            raise Conflict(f"notebook {name!r} was changed meanwhile; nothing was changed", hint="repeat the command")
        with self._db.write() as db:
            wanted = resources.get(db, KIND, name).desired if start else "stopped"
            apply.apply(self._db, loaded, source="cli", now=self._clock())
            if resources.get(db, KIND, name).desired != wanted:  # to declare what a file has given up starts it
                resources.set_desired(db, notebook.uid, wanted, now=self._clock())
        self._hint(notebook.uid)
        after = get(self._db.read, name)
        return after, _made_of(after) != _made_of(notebook)


def _made_of(notebook: Resource) -> str:
    """Empty for a spec gone bad."""
    try:
        spec = parse(KIND, notebook.name, notebook.spec)
    except SpecError:
        return ""
    assert isinstance(spec, Notebook)
    return digest(spec)
