"""From a file, a text or a stored document to typed specs, with every problem at once.

The kind is said by a `kind:` key, our own, or told by the shape: `jobs` is a workflow, `image` a deployment. What a
document is called comes from its `name:`, else from the caller, else from the file's stem.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, cast

from pydantic import ValidationError

from appliance.errors import Problem, SpecError, UsageError
from appliance.spec.deployment import read_deployment
from appliance.spec.fields import Fields, describe
from appliance.spec.matrix import keep_as_written
from appliance.spec.models import KINDS, Kind, Spec
from appliance.spec.names import check_name, slug
from appliance.spec.notebook import read_dataset, read_notebook
from appliance.spec.problems import NOWHERE, START, Mark, Problems, mark_at, quoted
from appliance.spec.repository import read_repository
from appliance.spec.tree import MAX_BYTES, SPLIT_IT, Document, Node, Refused, from_plain, to_plain
from appliance.spec.triggers import ON_KEYS
from appliance.spec.workflow import read_workflow

SUFFIXES = frozenset({".yaml", ".yml", ".json", ".jsonc"})
NAMELESS = frozenset({"", "-", "stdin"})
"""Files whose stem says nothing about what they hold."""
TOO_LARGE = f"is larger than {MAX_BYTES >> 20} MiB"

_READERS: Mapping[Kind, Callable[[str, Node, Problems], Spec | None]] = {
    "dataset": read_dataset,
    "deployment": read_deployment,
    "notebook": read_notebook,
    "repository": read_repository,
    "workflow": read_workflow,
}
_DEPLOYMENT_KEYS = frozenset(
    {"image", "port", "resources", "healthChecks", "healthchecks", "apiVersion", "integrations"}
)


@dataclass(frozen=True, slots=True)
class Loaded:
    kind: Kind
    name: str
    document: dict[str, Any]
    """Plain JSON; `parse` makes the same spec from it."""
    spec: Spec
    line: int
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Examined:
    """One document of a file, or the reason why none could be read."""

    kind: Kind | None
    name: str | None
    loaded: Loaded | None
    """None: there are problems."""
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    extensions: tuple[Problem, ...] = ()
    """What Gradient refuses, as problems; none of them is one here."""


def load_text(text: str | bytes, *, file: str, name: str | None = None, kind: str | None = None) -> list[Loaded]:
    """Every document of the text. Raises SpecError with all problems of all documents.

    `name` and `kind` are for documents that do not say theirs. A hostile text takes seconds: call it in a worker
    thread where others wait.
    """
    return _loaded(examine_text(text, file=file, name=name, kind=kind))


def load_file(path: Path, *, name: str | None = None) -> list[Loaded]:
    """As load_text. Raises SpecError also where the file cannot be read."""
    return _loaded(examine_file(path, name=name))


def parse(kind: Kind, name: str, document: Mapping[str, Any]) -> Spec:
    """A stored document as its spec. Raises SpecError, whose problems have no lines."""
    problems = Problems(f"{kind}/{name}")
    spec: Spec | None = None
    try:
        check_name(kind, name)
        root = from_plain(document)
        if _kind(root, problems, kind) not in (kind, None):
            problems.error(NOWHERE, "kind", f"the document is not a {kind}")
        spec = _read(kind, name, root, problems)
    except Refused as refused:
        refused.add_to(problems)
    except UsageError as error:
        problems.error(NOWHERE, "name", error.message, error.hint)
    if spec is None:
        raise SpecError(problems.in_order())
    return spec


def examine_file(path: Path, *, name: str | None = None) -> list[Examined]:
    try:
        return examine_text(_bytes_of(path), file=str(path), name=name)
    except Refused as refused:
        return [_unreadable(str(path), refused)]


def examine_text(text: str | bytes, *, file: str, name: str | None = None, kind: str | None = None) -> list[Examined]:
    """One entry per document, at least one."""
    try:
        documents = _documents(_decoded(text), file)
    except Refused as refused:
        return [_unreadable(file, refused)]
    taken: dict[tuple[Kind, str], Mark] = {}
    found = [_examine(document, file, name, kind, taken) for document in documents]
    return [one for one in found if one] or [_unreadable(file, Refused(START, "", "is empty", "write a spec into it"))]


def _loaded(examined: list[Examined]) -> list[Loaded]:
    problems = [problem for one in examined for problem in one.problems]
    if problems:
        raise SpecError(problems)
    return [one.loaded for one in examined if one.loaded]


def _unreadable(file: str, refused: Refused) -> Examined:
    problems = Problems(file)
    refused.add_to(problems)
    return Examined(None, None, None, problems.in_order())


def _bytes_of(path: Path) -> bytes:
    """At most one byte more than is allowed. Raises Refused."""
    try:
        # Non-blocking, or a named pipe without a writer would hold us here for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refused(START, "", "is not a regular file", "give the path of a spec file")
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise Refused(START, "", "there is no such file", "check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Refused(START, "", f"cannot be read: {reason}", "check its type and permissions") from None


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_BYTES:
        raise Refused(START, "", TOO_LARGE, SPLIT_IT)
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8-sig")
        mark = mark_at(before, len(before))
        raise Refused(mark, "", "is not UTF-8 text", "save it as UTF-8") from None


def _documents(text: str, file: str) -> list[Document]:
    suffix = PurePath(file).suffix.lower()
    if suffix == ".toml":
        raise Refused(START, "", "is TOML, which is not read", "write YAML or JSON")
    if suffix in (".json", ".jsonc") or (suffix not in SUFFIXES and text.lstrip().startswith("{")):
        from appliance.spec.jsonc import read_json

        return read_json(text, file, comments=suffix != ".json")
    from appliance.spec.yaml import read_yaml  # deferred: the YAML library is not needed for JSON or stored documents

    return read_yaml(text, file)


def _examine(
    document: Document, file: str, name: str | None, kind: str | None, taken: dict[tuple[Kind, str], Mark]
) -> Examined | None:
    """None: the document is empty."""
    root, problems = document.root, document.problems
    if root is None or (root.value is None and not problems.errors):
        return Examined(None, None, None, problems.in_order()) if problems.errors else None
    if not isinstance(root.value, dict):
        problems.error(root.mark, "", f"must be a map with `jobs`, `image` or `kind`, not {describe(root)}")
        return Examined(None, None, None, problems.in_order())
    found = _kind(root, problems, kind)
    called = _name(root, found, file, name, problems)
    if found is None:
        return Examined(None, called, None, problems.in_order())
    if called is not None:
        earlier = taken.setdefault((found, called), root.mark)
        if earlier is not root.mark:
            message = f"the {found} {quoted(called)} is in line {earlier.line} already"
            problems.error(root.mark, "", message, "give one of the two another `name`")
    spec = _read(found, called or "unnamed", root, problems)
    errors, warnings, extensions = problems.in_order(), tuple(problems.warnings), problems.extensions_in_order()
    if spec is None or called is None or errors:
        return Examined(found, called, None, errors, warnings, extensions)
    plain = to_plain(root)
    if found == "workflow":
        keep_as_written(root, plain)
    loaded = Loaded(found, called, plain, spec, root.mark.line, warnings)
    return Examined(found, called, loaded, (), warnings, extensions)


def _kind(root: Node, problems: Problems, given: str | None) -> Kind | None:
    """None: it cannot be told, which is noted."""
    entries = root.value if isinstance(root.value, dict) else {}
    if "kind" in entries:
        fields = Fields(root, "", problems)
        said = fields.choice("kind", KINDS, required=True)
        if said in KINDS:
            return cast(Kind, said)
    if given in KINDS:
        return cast(Kind, given)
    if "jobs" in entries or any(key in entries for key in ON_KEYS):
        return "workflow"
    if _DEPLOYMENT_KEYS & set(entries):
        return "deployment"
    if {"defaults", "inputs", "context"} & set(entries):
        return "workflow"
    if "kind" not in entries:
        hint = f"a workflow has `jobs`, a deployment `image`; or say `kind: {'|'.join(KINDS)}`"
        problems.error(root.mark, "", "it cannot be told what this declares", hint)
    return None


def _name(root: Node, kind: Kind | None, file: str, given: str | None, problems: Problems) -> str | None:
    """None: there is none or it cannot be used, which is noted."""
    entries = root.value if isinstance(root.value, dict) else {}
    if kind == "workflow" and "kind" not in entries:
        entries = {}  # its `name` is a mistake, which the workflow's reader notes
    stem = "" if file in NAMELESS else PurePath(file).stem
    mark, path, said = root.mark, "", given or stem
    if (node := entries.get("name")) is not None:
        mark, path = node.mark, "name"
        before = len(problems.errors)
        said = Fields(root, "", problems).text("name")
        if len(problems.errors) > before:
            return None
    if not said:
        problems.error(mark, path, "has no name", "add `name:`, or give one with --name")
        return None
    try:
        name = slug(said)
    except UsageError as error:
        problems.error(mark, path, error.message, error.hint)
        return None
    if name != said and path:
        problems.warn(mark, path, f"{quoted(said)} is called {quoted(name)} here, because it becomes a path")
    return name


def _read(kind: Kind, name: str, root: Node, problems: Problems) -> Spec | None:
    try:
        return _READERS[kind](name, root, problems)
    except ValidationError as error:  # a rule of the models that the readers do not know
        for found in error.errors():
            where = ".".join(str(part) for part in found["loc"])
            problems.error(root.mark, where, found["msg"])
        return None
