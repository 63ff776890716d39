"""A crash capsule as files of a notebook: what the failed job was given, what it had written, and why it ended.

    inputs/NAME     as the job was given it; a volume as it was before the job wrote to its own copy
    outputs/NAME    as the job left it, and whatever else it had written below /outputs
    capsule.md      the reason, the command, the variables, the last lines of the log; written first and at the end

All of it may come from a hostile job. Each part is copied through descriptors that follow no link, beside the files of
the workspace, and put into its place in one step; so it may be repeated, also after a kill. Variables are shown as the
spec has them: what a `secret:NAME` stands for is in no line of it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.errors import ApplianceError, NotFound
from appliance.history.workspaces import Workspaces
from appliance.spec.dump import to_yaml
from appliance.spec.load import parse
from appliance.spec.models import ContainerAction, Job, ScriptAction, Workflow
from appliance.state import capsules, runs
from appliance.state.capsules import Capsule
from appliance.state.db import Connection
from appliance.state.runs import Run
from appliance.storage.base import Store
from appliance.storage.scratch import DONE, shared_name, volume_name
from appliance.storage.threads import in_thread
from appliance.storage.trees import tree
from appliance.telemetry.redact import Redactor
from appliance.workflows import exchange
from appliance.workflows.inputs import Document, leaves
from appliance.workflows.kept import capsule
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions

NOTE = "capsule.md"
UNFINISHED = "all of it: it is being filled now. If this line stays, that was interrupted: delete it and make it again"
"""What the note says is missing, until it is known what is."""


@dataclass(frozen=True, slots=True)
class CapsuleReport:
    inputs: tuple[str, ...]
    """Names of those that are there now."""
    outputs: tuple[str, ...]
    missing: tuple[str, ...]
    """What could not be brought along, each with the reason in words."""
    reason: str
    """Why the job ended."""
    image: str
    """Id of the image that the job ran on; empty: it came to none."""
    image_name: str
    """What the spec calls it; empty: its action has an image of its own."""


async def fill_workspace(rooms: Rooms, workspaces: Workspaces, uid: str, run: Run, job: str) -> CapsuleReport:
    """Bring what is kept of a job into the workspace of resource `uid`, which is made where it is not there yet.

    What is in the way there, `inputs/NAME` for one, is replaced. Raises NotFound where nothing is kept of that job,
    NoSpace and StorageError where the note itself cannot be written.
    """
    rooms.opening.append(uid)
    try:
        return await _fill(rooms, workspaces, uid, runs.get(rooms.db.read, run.id), job)
    finally:
        rooms.opening.remove(uid)


async def _fill(rooms: Rooms, workspaces: Workspaces, uid: str, run: Run, job: str) -> CapsuleReport:
    kept = capsule.find(rooms.db.read, run, job)
    with rooms.db.write() as db:
        capsules.touch(db, run.id, job, rooms.clock())  # so that it does not go while it is copied
    row = runs.job(rooms.db.read, run.id, job)
    declared = _declared(run, job)
    root = await workspaces.open(uid)
    missing: list[str] = []

    async def bring(place: str, document: Document) -> bool:
        try:
            await _bring(rooms, run, root, place, document)
        except (ApplianceError, OSError) as error:
            missing.append(f"{place}: {error.message if isinstance(error, ApplianceError) else error}")
            return False
        return True

    async def tell(missing: list[str]) -> None:
        text = note(run, job, declared, kept, missing, _makers(rooms.db.read, kept))
        await in_thread(_write, root, NOTE, Redactor(rooms.vault.values()).scrub(text))

    await tell([UNFINISHED])
    await bring("outputs", {"type": "folder", "job": job})
    inputs = [name for name, document in kept.inputs.items() if await bring(f"inputs/{name}", document)]
    live = {name: {**document, "live": True} for name, document in kept.outputs.items()}
    outputs = [name for name, document in live.items() if await bring(f"outputs/{name}", document)]
    await tell(missing)
    image = getattr(declared.action, "image", "") if declared else ""
    return CapsuleReport(tuple(inputs), tuple(outputs), tuple(missing), kept.reason, row.image, image)


async def _bring(rooms: Rooms, run: Run, root: Path, place: str, document: Document) -> None:
    store = rooms.store
    match document["type"]:
        case "string":
            await in_thread(_write, root, place, document["value"])
        case "many":
            for job, one in document["of"].items():
                await _bring(rooms, run, root, f"{place}/{job}", one)
        case "dataset":
            version = rooms.datasets.resolve(document["id"])
            with rooms.datasets.reading(version):
                await in_thread(tree.replace, root, place, await rooms.datasets.path(version), "")
        case "shared":
            await in_thread(_copy, store, shared_name(run.id, document["name"]), root, place)
        case "folder":
            volume = volume_name(run.id, document["job"], exchange.VOLUME)
            if await in_thread(store.exists, volume):
                await in_thread(_copy, store, volume, root, place, "outputs")
        case _:
            volume = volume_name(document["run"], document["job"], document["output"])
            await in_thread(_copy if document.get("live") else _copy_frozen, store, volume, root, place)


def _copy(store: Store, volume: str, root: Path, place: str, path: str = "") -> None:
    tree.replace(root, place, store.path(volume), path)


def _copy_frozen(store: Store, volume: str, root: Path, place: str) -> None:
    with store.view(volume, DONE) as source:
        tree.replace(root, place, source, "")


def _write(root: Path, place: str, text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="appliance-") as folder:
        (Path(folder) / "text").write_text(text, encoding="utf-8", newline="")
        tree.replace(root, place, Path(folder), "text")


def _declared(run: Run, job: str) -> Job | None:
    """None: its document is not valid any more."""
    try:
        spec = parse("workflow", run.workflow, run.spec)
    except ApplianceError:
        return None
    return spec.jobs.get(job) if isinstance(spec, Workflow) else None


def note(run: Run, job: str, declared: Job | None, kept: Capsule, missing: list[str], makers: Mapping[str, str]) -> str:
    """The text of `capsule.md`. `makers`: id of each run that made an input -> `WORKFLOW.NUMBER`."""
    inputs = {name: _input(f"inputs/{name}", document, makers) for name, document in kept.inputs.items()}
    return "\n".join(_lines(run, job, declared, kept, missing, inputs)) + "\n"


def _makers(db: Connection, kept: Capsule) -> dict[str, str]:
    """Those whose rows are gone are left out."""
    found = {}
    for run in {document["run"] for document in leaves(kept.inputs) if document["type"] == "volume"}:
        with suppress(NotFound):
            found[run] = actions.subject(runs.head(db, run))
    return found


def _input(place: str, document: Document, makers: Mapping[str, str]) -> dict[str, Any]:
    """As people name it: where it lies here, and which job made it."""
    match document["type"]:
        case "many":
            return {"of": {job: _input(f"{place}/{job}", one, makers) for job, one in document["of"].items()}}
        case "volume":
            by = f"{makers.get(document['run'], document['run'])}/{document['job']}"
            return {"type": "volume", "at": place, "made by": by, "output": document["output"]}
        case _:
            return {"type": document["type"], "at": place, **document}


def _lines(
    run: Run, job: str, declared: Job | None, kept: Capsule, missing: list[str], inputs: Mapping[str, Any]
) -> Iterator[str]:
    yield from (f"# {actions.subject(run)}/{job}", "", *_fenced(kept.reason))
    if declared:
        yield from ("## What it ran", "", *_fenced(_told(_command(declared))))
        if declared.env:
            yield from ("## Variables", "", *_fenced(_told(declared.env)))
    yield from ("## Inputs", "", *_fenced(_told(inputs) if inputs else "none"))
    if missing:
        yield from ("## Not here", "", *_fenced("\n".join(missing)))
    yield from ("## The end of its log", "", *_fenced("\n".join(kept.log) or "nothing was written"))


def _command(declared: Job) -> Mapping[str, Any]:
    action = declared.action
    told: dict[str, Any] = {"uses": action.uses}
    if isinstance(action, ScriptAction):
        return {**told, "image": action.image, "script": action.script}
    if isinstance(action, ContainerAction):
        command, args = list(action.command or ()), list(action.args or ())
        return {**told, "image": action.image, "command": command, "args": args}
    return {**told, **action.model_dump(mode="json", exclude={"uses"}, exclude_defaults=True)}


def _told(value: object) -> str:
    return to_yaml(value).rstrip("\n")


def _fenced(text: str) -> Iterator[str]:
    """As it stands: no text in it ends the block, and no control character reaches a terminal."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    plain = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
    yield from (fence, plain, fence, "")
