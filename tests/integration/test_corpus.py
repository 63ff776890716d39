"""Real Gradient files from public repositories, each with a verdict. The files are data: read, never run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import Problem
from appliance.spec.load import Examined, examine_file, parse
from tests.unit.spec.test_fuzz import assert_within, check

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
ENTRY = re.compile(r"^### (?P<file>\S+)\n- source: .*\n- verdict: (?P<verdict>.*)$", re.MULTILINE)


class Case(NamedTuple):
    path: Path
    verdict: str


def cases() -> Iterator[Case]:
    for kind in ("workflows", "deployments"):
        manifest = CORPUS / kind / "MANIFEST.md"
        if manifest.exists():
            for match in ENTRY.finditer(manifest.read_text(encoding="utf-8")):
                yield Case(manifest.parent / match["file"], match["verdict"])


CASES = list(cases())
needs_corpus = pytest.mark.skipif(not CASES, reason="the corpus of Gradient files is not beside the checkout")


def problems_of(examined: list[Examined]) -> list[Problem]:
    return [problem for one in examined for problem in one.problems]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.name)
def test_the_verdict(case: Case) -> None:
    examined = examine_file(case.path)
    problems = problems_of(examined)
    if case.verdict == "valid":
        assert not problems, "\n".join(map(str, problems))
    elif reason := case.verdict.partition("malformed-yaml: ")[2]:
        assert [problem.message.partition(",")[0] for problem in problems] == [f"not valid YAML: {reason}"]
    else:
        assert problems
    for problem in problems:
        assert_within(case.path.read_text(encoding="utf-8"), problem)
    for one in examined:
        if one.loaded:
            assert parse(one.loaded.kind, one.loaded.name, one.loaded.document) == one.loaded.spec


REASONS = [
    (r"job (\S+): unknown key (\S+)", r"jobs.\1.\2"),
    (r"unknown top-level key (\S+)", r"\1"),
    (r"unknown defaults key (\S+)", r"defaults.\1"),
    (r"job (\S+): outputs is null", r"jobs.\1.outputs"),
    (r"job (\S+): \S+ without (\S+)", r"jobs.\1.with.\2"),
    (r"job (\S+): \S+ has no field (\S+)", r"jobs.\1.\2"),
    (r"job (\S+): no uses", r"jobs.\1.uses"),
    (r"job (\S+): input from \S+ not in needs", r"jobs.\1.inputs."),
    (r"GitHub-style \$\{\{ \}\} expression", "jobs."),
    (r"bad context path \S+", "jobs."),
    (r"job\.inputs dataset without with\.ref/id", "jobs."),
    (r"job (\S+) is not a map", r"jobs.\1"),
    (r"job (\S+): env is not a map", r"jobs.\1.env"),
    (r"job (\S+): needs unknown job \S+", r"jobs.\1.needs["),
    (r"job (\S+): input from (?:unknown job )?\S+(?: not in needs)?", r"jobs.\1.inputs."),
    (r"job (\S+): inline input without with", r"jobs.\1.inputs."),
    (r"job (\S+): output (\S+) type \S+", r"jobs.\1.outputs.\2.type"),
    (r"job (\S+): git-checkout with no output", r"jobs.\1"),
    (r"job (\S+): resources\.(\S+) is defaults-only", r"jobs.\1.resources.\2"),
    (r"jobs missing or not a map", "jobs"),
    (r"on is not on\.github", "on."),
    (r"models is a map, not a list", "models"),
    (r"image missing or not a string", "image"),
    (r"port is not a number", "port"),
    (r"unknown or wrong-dialect key (\S+)", r"\1"),
]
"""A reason in the manifest -> the path that one of our problems must begin with."""


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.verdict.startswith("schema-invalid")], ids=lambda case: case.path.name
)
def test_the_reason(case: Case) -> None:
    paths = [problem.path for problem in problems_of(examine_file(case.path))]
    for reason in case.verdict.removeprefix("schema-invalid: ").split("; "):
        for pattern, path in REASONS:
            if match := re.fullmatch(pattern, reason):
                wanted = match.expand(path)
                found = any(path == wanted or (path.startswith(wanted) and wanted[-1] in ".[") for path in paths)
                assert found, f"{reason}: nothing at {wanted} among {paths}"
                break
        else:
            pytest.fail(f"the reason {reason!r} is not known to this test")


@needs_corpus
def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints what was found for every file, and how often it agrees."""
    rows, agreed = [], 0
    for case in CASES:
        problems = problems_of(examine_file(case.path))
        same = (not problems) == (case.verdict == "valid")
        agreed += same
        ours = f"{len(problems)} problems, first: {problems[0].path} {problems[0].message}" if problems else "valid"
        if warnings := [warning for one in examine_file(case.path) for warning in one.warnings]:
            ours += f" (warns: {warnings[0].message})"
        rows.append(
            f"{'' if same else 'DIFFERS':8}{case.path.name:100.100} {case.verdict.split(':')[0]:15} {ours:.110}"
        )
    with capsys.disabled():
        print("", *rows, f"{agreed} of {len(CASES)} verdicts agree", sep="\n")
    assert agreed == len(CASES)


LINES = [
    "\t",
    "  - x",
    "on: push",
    "needs: a",
    "<<: *a",
    "&a",
    "---",
    "jobs:",
    "? a",
    "'",
    "# \u2028",
    "  env: [a]",
    "- - -",
]
changes = st.tuples(
    st.sampled_from(["drop", "double", "indent", "dedent", "swap", "cut", "insert", "letter", "end"]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(LINES),
    st.characters() | st.sampled_from(":-{}[]&*!|>'\"%@`#\t \r"),
)


def changed(lines: list[str], how: str, where: float, line: str, letter: str) -> list[str]:
    """The lines of a file with one thing done to them."""
    if not lines:
        return lines
    at = int(where * len(lines))
    old = lines[at]
    place = int(where * 7919) % (len(old) + 1)
    news: dict[str, list[str]] = {
        "drop": [],
        "double": [old, old],
        "indent": ["  " + old],
        "dedent": [old.removeprefix("  ")],
        "swap": [old[::-1]],
        "cut": [old[:place]],
        "insert": [old[: len(old) - len(old.lstrip())] + line, old],
        "letter": [old[:place] + letter + old[place:]],
        "end": [old + "\r"],
    }
    return lines[:at] + news[how] + lines[at + 1 :]


@needs_corpus
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_changed_file_is_read_or_refused_with_a_place(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    lines = case.path.read_text(encoding="utf-8").split("\n")
    for change in data.draw(st.lists(changes, min_size=1, max_size=5)):
        lines = changed(lines, *change)
    text = "\n".join(lines)
    with contextlib.suppress(UnicodeEncodeError):
        check(text.encode(), case.path.name)
