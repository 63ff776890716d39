"""What a push means for the workflows of a repository. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import SpecError, UsageError
from appliance.spec.load import load_text
from appliance.spec.models import Workflow
from appliance.spec.names import slug
from appliance.triggers import patterns
from appliance.triggers.git import Commit

LONGEST_PROBLEM = 2000


@dataclass(frozen=True, slots=True)
class Moved:
    """Branches and tags, by full name, against what was seen before."""

    changed: tuple[str, ...] = ()
    """New, or at another commit, forward or not."""
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A workflow of a commit whose `on.github` means this push."""

    path: str
    name: str
    """What its runs are numbered under: `REPOSITORY.FILE`."""
    document: dict[str, Any]
    """With the event in it, so that the run keeps it."""


@dataclass(frozen=True, slots=True)
class Read:
    starts: tuple[Found, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    """Path -> what is wrong with that file."""


def moved(seen: Mapping[str, str], now: Mapping[str, str]) -> Moved:
    """Branches before tags, by name: the order in which they are looked at."""
    changed = sorted(name for name, commit in now.items() if seen.get(name) != commit)
    return Moved(tuple(changed), tuple(sorted(seen.keys() - now.keys())))


def read(repository: str, url: str, ref: str, commit: Commit) -> Read:
    """Every spec file of a commit. A broken one is a problem of its own. Slow for hostile text: not on the loop."""
    starts: list[Found] = []
    problems: dict[str, str] = {}
    taken: dict[str, str] = {}
    if commit.left_out:
        problems[""] = f"{commit.left_out} further files are left out: at most {len(commit.files)} are read"
    for file in commit.files:
        if file.problem:
            problems[file.path] = file.problem
            continue
        try:
            found = _file(repository, file.path, file.text, _event(url, commit.id), ref)
        except (SpecError, UsageError) as error:
            problems[file.path] = str(error)[:LONGEST_PROBLEM]
            continue
        for one in found:
            if one.name in taken:
                problems[file.path] = f"the workflow {one.name!r} is in {taken[one.name]} already: rename the file"
                continue
            taken[one.name] = file.path
            starts.append(one)
    return Read(tuple(starts), problems)


def short(ref: str) -> str:
    """`branch main` or `tag v1`."""
    kind, prefix = ("tag", patterns.TAGS) if ref.startswith(patterns.TAGS) else ("branch", patterns.HEADS)
    return f"{kind} {ref.removeprefix(prefix)}"


def _file(repository: str, path: str, text: bytes, event: dict[str, Any], ref: str) -> Sequence[Found]:
    loaded = load_text(text, file=path, kind="workflow")
    others = [one.kind for one in loaded if not isinstance(one.spec, Workflow)]
    if others:
        raise UsageError(f"declares a {others[0]}: only workflows start from a repository", where=path)
    return [
        Found(path, slug(f"{repository}.{one.name}"), {**one.document, "context": event})
        for one in loaded
        if isinstance(one.spec, Workflow) and patterns.starts(one.spec.triggers, ref)
    ]


def _event(url: str, commit: str) -> dict[str, Any]:
    """`context` as Gradient's server writes it; what the file has there is for a run by hand."""
    return {"event": {"github": {"url": url, "ref": commit}}}
