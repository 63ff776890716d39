"""What a look at one trigger of a workflow leads to. Pure: what was seen and the time are arguments.

A trigger that is looked at for the first time (`mark` is None) only notes what is there, so that applying a workflow
starts nothing by itself; `on.spec` is the exception, because a new file is a change of that file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.datasets.ref import dataset_id, parse_ref
from appliance.errors import UsageError
from appliance.spec.models import Schedule, Triggers, Workflow
from appliance.state.events import Level
from appliance.triggers import ticks
from appliance.triggers.folders import Seen

SETTLE_S = 2.0
"""A folder must have been the same for so long before it counts as changed."""


@dataclass(frozen=True, slots=True)
class Start:
    """A run to be made. `source` says what the trigger saw; for a dataset it is `NAME:VERSION`."""

    cause: str
    source: str
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    """An event about the workflow."""

    reason: str
    message: str
    level: Level = "info"


@dataclass(frozen=True, slots=True)
class Decision:
    mark: str | None = None
    """What has been seen from now on; None: nothing is new, and nothing is written."""
    starts: tuple[Start, ...] = ()
    notes: tuple[Note, ...] = ()


NOTHING = Decision()
NOT_POLLED = (
    "`on.github` counts in .gradient/workflows of a repository that is declared (kind: repository), or beside"
    " `on.webhook`; this workflow is started by hand"
)


def not_of_a_file(source: str) -> str:
    """Why `on.spec` cannot fire for what came by `source`; empty: it can."""
    if source.startswith("file:"):
        return ""
    return f"`on.spec` looks at files of the watched folder, and this workflow came by {source}"


def keys(triggers: Triggers) -> set[str]:
    """The names under which the triggers of a workflow are marked."""
    found = {schedule_key(schedule) for schedule in triggers.schedule}
    found |= {f"dataset:{name}" for name in triggers.datasets}
    found |= {f"folder:{path}" for path in triggers.folders}
    if triggers.github and not triggers.webhook:
        found.add("github")
    return found | ({"spec"} if triggers.spec else set())


def schedule_key(schedule: Schedule) -> str:
    return f"schedule:{schedule.cron}@{schedule.timezone}"


def on_schedule(schedule: Schedule, mark: str | None, *, since: float, now: float) -> Decision:
    """`since`: when this daemon began to look. Raises UsageError for what is no schedule."""
    if mark is None:
        ticks.upcoming(schedule, now)
        return Decision(repr(now))
    found = ticks.look(schedule, float(mark), since=since, now=now)
    if found.mark is None:
        return NOTHING
    notes: list[Note] = []
    if found.set_back:
        notes.append(Note("ClockSetBack", f"the clock was set back; {schedule.cron} counts from now on", "warning"))
    if found.missed:
        count = f"{found.missed}{' or more' if found.missed >= ticks.MOST_COUNTED else ''}"
        plural = "s" if found.missed > 1 else ""
        words = f"{count} tick{plural} of `{schedule.cron}` {schedule.timezone} passed while nobody looked: skipped"
        notes.append(Note("TicksMissed", words, "warning"))
    starts = (Start("schedule", ticks.told(schedule, found.tick)),) if found.tick is not None else ()
    return Decision(repr(found.mark), starts, tuple(notes))


def on_dataset(
    name: str, mark: str | None, versions: Sequence[str], workflow: Workflow, uid: str, own: Callable[[str], str]
) -> Decision:
    """`versions`: the committed ones of dataset `name` (its `uid`; empty: there is none yet), oldest first.

    `own`: why a version must not start this workflow, in words; empty: it may.
    """
    if mark is None:
        return Decision(json.dumps(list(versions)))
    seen = set(json.loads(mark))
    new = [version for version in versions if version not in seen]
    if not new:
        return NOTHING
    starts: list[Start] = []
    notes: list[Note] = []
    for version in new:
        if why := own(version):
            notes.append(Note("NotStarted", f"dataset {name}:{version} {why}", "warning"))
        else:
            starts.append(Start("dataset", f"{name}:{version}", inputs_for(workflow, name, uid, version)))
    return Decision(json.dumps(list(versions)), tuple(starts), tuple(notes))


def inputs_for(workflow: Workflow, name: str, uid: str, version: str) -> dict[str, Any]:
    """The very version that started the run, for each input that means the newest one of that dataset."""
    found = {}
    for key, value in workflow.inputs.items():
        if value.type != "dataset" or not value.ref:
            continue
        try:
            ref = parse_ref(value.ref)
        except UsageError:
            continue
        if ref.is_latest and (ref.name == name or (uid and ref.name == dataset_id(uid))):
            found[key] = {"ref": f"{ref.name}:{version}"}
    return found


def on_folder(path: str, mark: str | None, seen: Seen, *, now: float) -> Decision:
    """What cannot be looked at, or is not there, is no change: a disk that is away must start nothing."""
    if seen.problem or mark == seen.fingerprint:
        return NOTHING
    if mark is None:
        return Decision(seen.fingerprint)
    if not seen.fingerprint:
        return NOTHING
    if 0 <= now - seen.since < SETTLE_S:
        return NOTHING
    return Decision(seen.fingerprint, (Start("folder", f"{path} has changed: {seen.entries:,} entries"),))


def on_github(mark: str | None) -> Decision:
    """A push starts what lies in a repository; a workflow that is declared here is told apart, once."""
    if mark is not None:
        return NOTHING
    return Decision("told", (), (Note("NotPolled", NOT_POLLED),))


def on_spec(generation: int, source: str, mark: str | None) -> Decision:
    """The file of the watched folder that declares the workflow has another content, or is new."""
    if mark == str(generation):
        return NOTHING
    if words := not_of_a_file(source):
        return Decision(str(generation), (), (Note("NotStarted", words, "warning"),))
    file = source.removeprefix("file:")
    return Decision(str(generation), (Start("spec", f"{file} {'is new' if mark is None else 'has changed'}"),))
