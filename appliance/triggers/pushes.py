"""What a push means for the workflows of a repository. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import SpecError, UsageError
from appliance.spec.load import load_text
from appliance.spec.models import DeployAction, Triggers, Workflow
from appliance.spec.names import slug
from appliance.triggers import patterns
from appliance.triggers.git import Commit
from appliance.vault.secrets import REFERENCE
from appliance.workflows.steps.own_repository import COUNTS_FOR

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
class Declared:
    """A workflow of a commit, whatever it starts on."""

    path: str
    name: str
    document: dict[str, Any]
    spec: Workflow


@dataclass(frozen=True, slots=True)
class Files:
    """The workflows of one commit, which any number of branches and tags may mean."""

    commit: str
    declared: tuple[Declared, ...]
    problems: dict[str, str]
    """Path -> what is wrong with that file."""
    notes: dict[str, str] = field(default_factory=dict)
    """Path -> what that file says and nobody heeds."""


@dataclass(frozen=True, slots=True)
class Read:
    starts: tuple[Found, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    """Path -> what is wrong with that file."""


def moved(seen: Mapping[str, str], now: Mapping[str, str]) -> Moved:
    """In the order in which they are looked at: those known before come first, branches before tags, by name.

    Those at the same commit follow each other.
    """
    changed = sorted((name not in seen, name) for name, commit in now.items() if seen.get(name) != commit)
    by_commit: dict[str, list[str]] = {}
    for _, name in changed:
        by_commit.setdefault(now[name], []).append(name)
    together = [name for names in by_commit.values() for name in names]
    return Moved(tuple(together), tuple(sorted(seen.keys() - now.keys())))


def load(repository: str, commit: Commit) -> Files:
    """Every spec file of a commit. A broken one is a problem of its own. Slow for hostile text: not on the loop."""
    declared: list[Declared] = []
    problems: dict[str, str] = {}
    if commit.left_out:
        problems[""] = f"{commit.left_out} further files are left out: at most {len(commit.files)} are read"
    for file in commit.files:
        if file.problem:
            problems[file.path] = file.problem
            continue
        try:
            declared += _file(repository, file.path, file.text)
        except (SpecError, UsageError) as error:
            problems[file.path] = str(error)[:LONGEST_PROBLEM]
    notes = {one.path: unheeded(one.spec.triggers) for one in declared if unheeded(one.spec.triggers)}
    return Files(commit.id, tuple(declared), problems, notes)


def unheeded(triggers: Triggers) -> str:
    """The triggers that count only where a workflow is declared here, in words; empty: it has none of them."""
    found = {
        "schedule": triggers.schedule,
        "dataset": triggers.datasets,
        "folder": triggers.folders,
        "spec": triggers.spec,
        "webhook": triggers.webhook,
    }
    named = [f"`on.{key}`" for key, value in found.items() if value]
    if not named:
        return ""
    words = f"{named[0]} is" if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]} are"
    none = "" if triggers.github else ", so nothing starts this one"
    return f"{words} for a workflow that is applied here; in a repository only `on.github` counts{none}"


def starting(
    files: Files, repository: str, url: str, ref: str, secrets: Collection[str] = (), deployments: Collection[str] = ()
) -> Read:
    """What a push of `ref` starts. One that uses what the repository is not given does not start. Slow, as `load`."""
    starts: list[Found] = []
    problems = dict(files.problems)
    taken: dict[str, str] = {}
    for one in files.declared:
        if not patterns.starts(one.spec.triggers, ref):
            continue
        if one.name in taken:
            problems[one.path] = f"the workflow {one.name!r} is in {taken[one.name]} already: rename the file"
        elif refused := _refused(one, repository, secrets, deployments):
            problems[one.path] = refused[:LONGEST_PROBLEM]
        else:
            taken[one.name] = one.path
            starts.append(Found(one.path, one.name, {**one.document, "context": _event(url, files.commit)}))
    return Read(tuple(starts), problems)


def read(
    repository: str,
    url: str,
    ref: str,
    commit: Commit,
    secrets: Collection[str] = (),
    deployments: Collection[str] = (),
) -> Read:
    """Both."""
    return starting(load(repository, commit), repository, url, ref, secrets, deployments)


def workflow_uid(repository_uid: str, found: Found) -> str:
    """What its runs count for: a workflow of its own, whatever is declared here under the same name.

    With the name, since a file may hold several workflows.
    """
    return f"{COUNTS_FOR}{repository_uid}:{found.path}:{found.name}"


def short(ref: str) -> str:
    """`branch main` or `tag v1`."""
    kind, prefix = ("tag", patterns.TAGS) if ref.startswith(patterns.TAGS) else ("branch", patterns.HEADS)
    return f"{kind} {ref.removeprefix(prefix)}"


def _file(repository: str, path: str, text: bytes) -> list[Declared]:
    loaded = load_text(text, file=path, kind="workflow")
    others = [one.kind for one in loaded if not isinstance(one.spec, Workflow)]
    if others:
        raise UsageError(f"declares a {others[0]}: only workflows start from a repository", where=path)
    return [
        Declared(path, slug(f"{repository}.{one.name}"), one.document, one.spec)
        for one in loaded
        if isinstance(one.spec, Workflow)
    ]


def _refused(found: Declared, repository: str, secrets: Collection[str], deployments: Collection[str]) -> str:
    """Why whoever may push to the repository may not have this run, in words; empty: they may."""
    deploys = [job.action for job in found.spec.jobs.values() if isinstance(job.action, DeployAction)]
    named = dict.fromkeys(_secrets(found.document))
    named.update(dict.fromkeys(found.spec.registries))
    named.update(
        dict.fromkeys(str(one.spec["containerRegistry"]) for one in deploys if "containerRegistry" in one.spec)
    )
    if missing := [name for name in named if name not in secrets]:
        names = ", ".join(missing)
        return f"uses the secret {names}, which this repository is not given: add `secrets: [{names}]` to {repository}"
    if missing := [name for name in dict.fromkeys(one.name for one in deploys) if name not in deployments]:
        names = ", ".join(missing)
        return f"deploys {names}, which this repository is not given: add `deployments: [{names}]` to {repository}"
    return ""


def _secrets(value: object) -> Iterator[str]:
    """Every name that a text of the document, wherever it stands, refers to."""
    if isinstance(value, str):
        if reference := REFERENCE.fullmatch(value):
            yield reference["name"]
    elif isinstance(value, dict):
        for child in value.values():
            yield from _secrets(child)
    elif isinstance(value, list):
        for child in value:
            yield from _secrets(child)


def _event(url: str, commit: str) -> dict[str, Any]:
    """`context` as Gradient's server writes it; what the file has there is for a run by hand."""
    return {"event": {"github": {"url": url, "ref": commit}}}
