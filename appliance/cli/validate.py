"""`appliance validate`: checks spec files without a daemon. Problems go to `out`, one per line; the tally to `err`.

Strict is Gradient's own dialect: what the appliance adds to it is a problem too, and says what to write for Gradient.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from appliance.spec.load import SUFFIXES, Examined, examine_file
from appliance.spec.problems import printable


def run(files: Sequence[str], *, as_json: bool, out: TextIO, err: TextIO, strict: bool = False) -> int:
    """0: every file is valid; 1: one is not. A folder stands for the spec files in it."""
    invalid, checked, documents = 0, 0, []
    for given in files:
        found = _spec_files(Path(given))
        if not found:
            print(f"{printable(given)}: no spec files in this folder", file=err)
        for path in found:
            examined = [_strict(one) if strict else one for one in examine_file(path)]
            checked += 1
            invalid += any(one.problems for one in examined)
            documents += [_document(str(path), one) for one in examined]
            if not as_json:
                _print(examined, out, err)
    if as_json:
        json.dump(documents, out, indent=2)
        print(file=out)
    words = "1 file" if checked == 1 else f"{checked} files"
    print(f"{words} checked, {invalid} invalid", file=err)
    return 1 if invalid else 0


def _strict(one: Examined) -> Examined:
    """With its extensions among its problems."""
    found = sorted((*one.problems, *one.extensions), key=lambda problem: (problem.line, problem.column))
    return replace(one, problems=tuple(found))


def _spec_files(path: Path) -> list[Path]:
    if not os.path.isdir(path):  # unlike Path.is_dir, it raises nothing
        return [path]
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return [path]  # reading it as a file says why
    files = [path / name for name in names if not name.startswith(".")]
    return [file for file in files if file.suffix in SUFFIXES and not os.path.isdir(file)]


def _print(examined: list[Examined], out: TextIO, err: TextIO) -> None:
    for one in examined:
        for problem in one.problems:
            print(printable(str(problem)), file=out)
        for warning in one.warnings:
            print(f"warning: {printable(str(warning))}", file=err)


def _document(file: str, one: Examined) -> dict[str, object]:
    return {
        "file": file,
        "kind": one.kind,
        "name": one.name,
        "valid": not one.problems,
        "problems": [problem.to_json() for problem in one.problems],
        "warnings": [problem.to_json() for problem in one.warnings],
        "extensions": [problem.path for problem in one.extensions],
    }
