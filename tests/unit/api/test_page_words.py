"""What the page of a history says, from plain data: its pure part run by node, where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance.api import pages
from appliance.paths import encode

NODE = shutil.which("node") or ""
pytestmark = pytest.mark.skipif(not NODE, reason="there is no node to run the page's scripts with")
WORDS = Path(pages.__file__).with_name("words.js")
NOON = 1_700_049_600  # 2023-11-15 12:00 UTC


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("page")
    (found / "words.mjs").write_text(WORDS.read_text())  # node takes a module by the end of its name
    return found


def said(folder: Path, expression: str, **given: Any) -> Any:
    """The value of an expression over the exported names and `given`."""
    program = (
        f"import * as words from './words.mjs'; const given = {json.dumps(given)};"
        f"const all = {{...words, ...given}}; with_(all);"
        "function with_(all) { const f = new Function(...Object.keys(all), `return (" + expression + ")`);"
        " process.stdout.write(JSON.stringify(f(...Object.values(all)) ?? null)); }"
    )
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", program],
        cwd=folder,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def moment(created: float) -> dict[str, Any]:
    return {"id": str(created), "created": created}


def test_moments_by_day_newest_first(folder: Path) -> None:
    given = [moment(NOON), moment(NOON - 60), moment(NOON - 86_400), moment(NOON - 5 * 86_400)]
    days = said(folder, "byDay(moments, now)", moments=given, now=NOON + 60)
    assert [day["title"] for day in days] == ["Today", "Yesterday", "Friday 10 November 2023"]
    assert [len(day["moments"]) for day in days] == [2, 1, 1]


@pytest.mark.parametrize(
    ("path", "attempt", "wanted"),
    [
        ("a.ipynb", 0, "a-2023-11-15-120000.ipynb"),
        ("d.x/a.ipynb", 1, "d.x/a-2023-11-15-120000-2.ipynb"),
        ("d.x/Makefile", 0, "d.x/Makefile-2023-11-15-120000"),
        (".gitignore", 0, ".gitignore-2023-11-15-120000"),
        ("data", 0, "data-2023-11-15-120000"),
    ],
)
def test_a_copy_is_named_after_its_moment(folder: Path, path: str, attempt: int, wanted: str) -> None:
    assert said(folder, "beside(path, at, attempt)", path=path, at=NOON, attempt=attempt) == wanted


OLD_TO_NEW = {"older": "m1", "newer": "m2", "against": "newer"}
UNTIL_NOW = {"older": "m1", "newer": "now", "against": "older"}


@pytest.mark.parametrize(
    ("change", "view", "wanted"),
    [
        ({"change": "changed", "path": "a"}, OLD_TO_NEW, {"moment": "m2", "path": "a"}),
        ({"change": "added", "path": "a"}, OLD_TO_NEW, {"moment": "m2", "path": "a"}),
        ({"change": "removed", "path": "a"}, OLD_TO_NEW, {"moment": "m1", "path": "a"}),
        ({"change": "renamed", "path": "b", "was": "a"}, OLD_TO_NEW, {"moment": "m2", "path": "b"}),
        ({"change": "changed", "path": "a"}, UNTIL_NOW, {"moment": "m1", "path": "a"}),
        ({"change": "removed", "path": "a"}, UNTIL_NOW, {"moment": "m1", "path": "a"}),
        ({"change": "renamed", "path": "b", "was": "a"}, UNTIL_NOW, {"moment": "m1", "path": "a"}),
        ({"change": "added", "path": "a"}, UNTIL_NOW, None),
    ],
)
def test_what_a_change_offers_to_bring_back_is_where_the_file_was(
    folder: Path, change: dict[str, str], view: dict[str, str], wanted: dict[str, str] | None
) -> None:
    assert said(folder, "source(change, view)", change=change, view=view) == wanted


def test_lines_beside_each_other_keep_their_numbers(folder: Path) -> None:
    hunk = {"before": 4, "after": 4, "lines": [" a", "-b", "-c", "+B", " d", "+e", "\\ No newline"]}
    rows = said(folder, "pairs(hunk)", hunk=hunk)
    told = [
        [side and (side["number"], side["mark"] + side["text"]) for side in (row["left"], row["right"])]
        for row in rows
        if "note" not in row
    ]
    assert told == [
        [(4, " a"), (4, " a")],
        [(5, "-b"), (5, "+B")],
        [(6, "-c"), None],
        [(7, " d"), (6, " d")],
        [None, (7, "+e")],
    ]
    assert rows[-1] == {"note": "No newline"}


def test_the_part_of_a_line_that_differs(folder: Path) -> None:
    assert said(folder, "differing('lr = 0.1', 'lr = 0.01')") == [7, 7, 8]
    assert said(folder, "differing('abc', 'xyz')") is None
    assert said(folder, "differing('aaaa', 'aaaaaa')") == [4, 4, 6]


def test_outputs_are_shown_as_they_are_stored_and_never_as_markup(folder: Path) -> None:
    outputs = [
        {"output_type": "stream", "name": "stderr", "text": ["one\n", "\u001b[31mtwo\u001b[0m"]},
        {"output_type": "display_data", "data": {"image/png": "aGVs\nbG8=", "text/plain": "<Figure>"}},
        {"output_type": "display_data", "data": {"image/png": 'x" onerror="alert(1)', "text/plain": "plain"}},
        {"output_type": "execute_result", "data": {"text/html": "<script>alert(1)</script>"}},
        {"output_type": "error", "traceback": ["ValueError: x"]},
        {"output_type": "display_data", "data": {"image/svg+xml": "<svg onload='alert(1)'/>"}},
        None,
        {"output_type": "stream", "text": 7},
    ]
    found = said(folder, "outputsAt(notebook, 2)", notebook={"cells": [{}, {"outputs": outputs}]})
    assert found[0] == {"kind": "text", "name": "stderr", "text": "one\ntwo"}
    assert found[1] == {"kind": "image", "url": "data:image/png;base64,aGVsbG8="}
    assert found[2] == {"kind": "text", "name": "", "text": "plain"}
    assert found[3] == {"kind": "words", "text": "text/html: not shown here"}
    assert found[4] == {"kind": "error", "text": "ValueError: x\n"}
    assert found[5]["url"].startswith("data:image/svg+xml;charset=utf-8,%3Csvg")
    assert len(found) == len(outputs)


@pytest.mark.parametrize("notebook", [None, 7, [], {}, {"cells": 7}, {"cells": [None]}, {"cells": [{"outputs": {}}]}])
def test_a_file_that_is_no_notebook_has_no_outputs(folder: Path, notebook: Any) -> None:
    assert said(folder, "outputsAt(notebook, 1)", notebook=notebook) == []


@pytest.mark.parametrize("path", ["a.ipynb", r"a\b", r"a\xe9", r"a\x5c", r"\x41", "ü ß", r"d\xffe/\\x80"])
def test_paths_are_written_as_the_appliance_does(folder: Path, path: str) -> None:
    assert said(folder, "encode(path)", path=path) == encode(path)


def test_only_what_is_held_here_is_released_here(folder: Path) -> None:
    for held, wanted in (
        (["user: x", "notebook: y"], True),
        (["notebook"], True),
        (["user: notebook"], False),
        ([], False),
    ):
        assert said(folder, "heldHere(moment)", moment={"held": held}) is wanted
