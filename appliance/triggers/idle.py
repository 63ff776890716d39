"""Why a trigger of a workflow cannot fire at present, in words for its owner. Pure, but for `warnings`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from appliance.errors import ApplianceError
from appliance.spec.load import Loaded
from appliance.spec.models import Triggers, Workflow
from appliance.state import resources
from appliance.state.db import Connection
from appliance.triggers import chains, folders
from appliance.triggers.decisions import not_of_a_file, schedule_key

LONGEST = 500
"""Characters of all that is said of one workflow."""
ANSWER_S = 2.0
"""A disk that takes longer to tell whether a folder is there holds up no `apply`."""


def no_dataset(name: str) -> str:
    return f"there is no dataset {name!r} yet: its first version starts a run"


def no_folder(path: str) -> str:
    return f"there is nothing at {path} yet"


def unset(reference: str, resolve: Callable[[str], str]) -> str:
    """Why no message of a webhook can be taken, which its sender is not told; empty: it can."""
    try:
        resolve(reference)
    except ApplianceError as error:
        return f"no signed message is taken: {error.message}"
    return ""


def in_order(triggers: Triggers) -> list[str]:
    """The keys of the triggers that there are, as a reader would list them."""
    found = [schedule_key(schedule) for schedule in triggers.schedule]
    found += [f"dataset:{name}" for name in triggers.datasets]
    found += [f"folder:{path}" for path in triggers.folders]
    found += ["github"] if triggers.github and not triggers.webhook else []
    found += ["spec"] if triggers.spec else []
    return found + (["webhook"] if triggers.webhook else [])


def together(told: Sequence[str]) -> str:
    text = "; ".join(filter(None, told))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


async def warnings(
    db: Connection, loaded: Sequence[Loaded], resolve: Callable[[str], str], *, source: str
) -> dict[str, list[str]]:
    """Name of a workflow -> what is said to whoever applies it; `source` is who that is.

    Nothing of `on.github`: nearly every file from Gradient has it, and is run by hand here.
    """
    beside = {each.name for each in loaded if each.kind == "dataset"}
    found: dict[str, list[str]] = {}
    for each in loaded:
        if isinstance(each.spec, Workflow):
            declared = resources.find(db, "workflow", each.name)
            by = declared.source if declared and declared.source.startswith("file:") else source
            told = [*_at_once(db, each.spec.triggers, resolve, beside, by), *await _folders(each.spec.triggers)]
            found[each.name] = [text for text in told if text]
    return found


def _at_once(
    db: Connection, triggers: Triggers, resolve: Callable[[str], str], beside: set[str], source: str
) -> list[str]:
    told = [
        no_dataset(name)
        for name in triggers.datasets
        if name not in beside and chains.dataset_of(db, name) is None
    ]  # fmt: skip
    if triggers.spec:
        told.append(not_of_a_file(source))
    return [*told, unset(triggers.webhook, resolve) if triggers.webhook else ""]


def _is_there(path: str) -> bool:
    return os.path.lexists(path)


async def _folders(triggers: Triggers) -> list[str]:
    if not triggers.folders:
        return []
    try:
        async with asyncio.timeout(ANSWER_S):
            missing = await folders.aside(lambda: [path for path in triggers.folders if not _is_there(path)])
    except TimeoutError:
        return []  # the triggers' own look tells it
    return [no_folder(path) for path in missing]
