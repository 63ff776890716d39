"""What an image claims to have: asked by a program that any Python runs, and believed in bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.notebooks.kit.found import LONGEST, MARK, QUESTIONS, Found, parse

GOOD = {
    "version": [3, 12],
    "executable": "/opt/conda/bin/python3",
    "prefix": "/opt/conda",
    "machine": "x86_64",
    "libc": "glibc 2.31",
    "jupyter": False,
    "shell": ["/bin/bash"],
    "ipykernel": False,
}


def answered(**changes: object) -> Found:
    found = parse(f"a banner\n{MARK}{json.dumps({**GOOD, **changes})}\n")
    assert found
    return found


def test_an_answer() -> None:
    assert answered() == Found(
        python="/opt/conda/bin/python3",
        version=(3, 12),
        libc="glibc",
        glibc=(2, 31),
        machine="x86_64",
        prefix="/opt/conda",
        shell="/bin/bash",
    )


@pytest.mark.parametrize("which", [0, 2])
def test_the_questions_are_answered(which: int, tmp_path: Path) -> None:
    for name in ("jupyter", "jupyter-lab"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    command, *arguments = QUESTIONS[which]
    argv = [sys.executable if command == "python3" else command, *arguments]
    for path, expected in ((f"{tmp_path}:/usr/bin:/bin", True), ("/nowhere:/bin", False)):
        said = subprocess.run(argv, env={"PATH": path}, capture_output=True, text=True, check=True).stdout
        found = parse(said)
        assert found
        assert found.jupyter is expected
        assert os.access(found.shell, os.X_OK)
        if which == 0:
            assert found.keeps is False
            assert (found.python, found.version, found.libc) == (sys.executable, sys.version_info[:2], "glibc")
            assert found.lacks == ""


@pytest.mark.parametrize(
    ("changes", "platform"),
    [
        ({}, "x86_64-manylinux_2_28"),
        ({"libc": "glibc 2.27"}, "x86_64-manylinux2014"),
        ({"libc": "musl"}, "x86_64-unknown-linux-musl"),
        ({"libc": "glibc 2.39", "machine": "aarch64"}, "aarch64-manylinux_2_28"),
        ({"machine": "riscv64"}, ""),
        ({"libc": ""}, ""),
    ],
)
def test_wheels_for_it(changes: dict[str, object], platform: str) -> None:
    assert answered(**changes).platform == platform


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"executable": ""}, "no Python"),
        ({"version": [3, 7]}, "3.7 is older than 3.8"),
        ({"version": [2, 7]}, "2.7 is older than 3.8"),
        ({"libc": ""}, "no ipykernel to bring in"),
        ({"libc": "", "ipykernel": True}, ""),
    ],
)
def test_what_it_lacks(changes: dict[str, object], words: str) -> None:
    lacks = answered(**changes).lacks
    assert (words in lacks) if words else lacks == ""


@pytest.mark.parametrize(
    "path", ["python3", "/a:/b", "/a\n", "/" + "x" * LONGEST, 3, None, ["/a"], "/{connection_file}"]
)
def test_a_path_that_is_none_is_nothing(path: object) -> None:
    found = answered(executable=path, prefix=path, shell=[path])
    assert (found.python, found.prefix, found.shell) == ("", "", "")


@pytest.mark.parametrize("version", ["3.11", [3], [3, 1000], [-3, 1], [3, "11"], None, [3, 1, 2]])
def test_a_version_that_is_none_is_too_old(version: object) -> None:
    assert "older" in answered(version=version).lacks


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner),
)


@given(json_values)
def test_whatever_is_answered_is_bounded(answer: object) -> None:
    found = parse(MARK + json.dumps(answer))
    if found:
        assert all(0 <= part < 100 for part in found.version)
        assert all(len(path) <= LONGEST and path.isprintable() for path in (found.python, found.prefix, found.shell))


@given(st.text())
def test_anything_else_is_no_answer(said: str) -> None:
    assert parse(said) is None
    assert parse(MARK + "{" + said) is None or said.strip().endswith("}")


def test_deep_nonsense_is_no_answer() -> None:
    assert parse(MARK + "[" * 60_000) is None
