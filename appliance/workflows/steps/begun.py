"""What a deploy@v1 job remembers of what it has declared: the document in its row's `begun`.

The row keeps it from one attempt to the next, so that what was there before the first one is still known at the last.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from appliance.state.resources import Resource
from appliance.state.runs import Job, Run


@dataclass(frozen=True, slots=True)
class Before:
    """The deployment as it was."""

    source: str
    desired: str
    generation: int
    """Whose document it had; 0: there was no such deployment."""


NOTHING = Before("", "", 0)


@dataclass(frozen=True, slots=True)
class Begun:
    uid: str
    generation: int
    """Which has to become ready."""
    attempt: int = 1
    """That has declared it."""
    before: Before | None = None
    """None: not known."""
    became: str | None = None
    """Of one that is given up: what became of the deployment, in words."""

    @property
    def over(self) -> bool:
        return self.became is not None

    def given_up(self, became: str) -> Begun:
        return replace(self, became=became)

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def source_of(run: Run, job: Job) -> str:
    """Of what the job declares."""
    return f"run:{run.workflow}.{run.number}/{job.name}"


def read(text: str) -> Begun:
    if not text.startswith("{"):  # a uid and a generation: all that a state file of version 4 tells
        uid, generation = text.split(" ")[:2]
        return Begun(uid, int(generation))
    found = json.loads(text)
    before = found.pop("before")
    return Begun(**found, before=None if before is None else Before(**before))


def of(job: Job) -> Begun | None:
    """By this attempt. None: it has declared nothing yet."""
    found = read(job.begun) if job.begun else None
    return found if found and found.attempt == job.attempt else None


def before(old: Resource | None, job: Job, source: str) -> Before:
    """What `job`, which declares as `source`, finds: where that is what its earlier attempt has left, what that found.

    Anything that somebody else has done since makes it his: it is what has to be there again.
    """
    if old is None:
        return NOTHING
    last = read(job.begun) if job.begun else None
    mine = last and (last.uid, last.generation, source) == (old.uid, old.generation, old.source)
    if mine and last and last.before:
        return last.before
    return Before(old.source, old.desired, old.generation)
