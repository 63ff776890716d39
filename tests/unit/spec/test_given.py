"""Files of run inputs, as `--inputPath` takes them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import NotFound, SpecError, UsageError
from appliance.spec.dump import read_mapping, to_yaml

FORMS = [
    "x:v1",
    {"value": "x"},
    {"value": ""},
    {"ref": "x"},
    {"id": "team/x:v1"},
    {"with": {"value": "x"}},
    {"type": "string", "with": {"value": "x"}},
    {"type": "dataset", "optional": True, "with": {"id": "x"}},
    {"type": "dataset", "ref": "x"},
]


def read(folder: Path, text: str, name: str = "inputs.yaml") -> dict[str, Any]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_mapping(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", ["a.yaml", "a.json", "a", "a.jsonc"])
def test_every_form(tmp_path: Path, form: object, wrapped: bool, name: str) -> None:
    document = {"inputs": {"data": form}} if wrapped else {"data": form}
    text = to_yaml(document) if name == "a.yaml" else json.dumps(document, indent="\t" if "json" in name else 1)
    assert read(tmp_path, text, name) == document


def test_a_byte_order_mark_windows_line_ends_and_comments(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff# mine\r\ninputs:\r\n  a: x\r\n") == {"inputs": {"a": "x"}}
    assert read(tmp_path, '{"a": "x", // mine\n}', "a.jsonc") == {"a": "x"}


def test_an_input_may_be_called_inputs(tmp_path: Path) -> None:
    assert read(tmp_path, "inputs: {value: x}\n") == {"inputs": {"value": "x"}}
    assert read(tmp_path, "inputs: {value: {value: x}}\n") == {"inputs": {"value": {"value": "x"}}}
    assert read(tmp_path, "{inputs: {value: x}, other: {ref: y}}\n")["other"] == {"ref": "y"}


@pytest.mark.parametrize(
    ("text", "place", "path", "words", "hint"),
    [
        ("a: x\nseed: {value: 7}\n", (2, 15), "seed.value", "must be a string, not the number `7`", '"7"'),
        ("seed: 0.10\n", (1, 7), "seed", "must be a value, not the number `0.10`", '"0.10"'),
        ("seed: [7]\n", (1, 7), "seed", "must be a value, not a list", "{value: TEXT}"),
        ("seed:\n", (1, 1), "seed", "not empty (null)", ""),
        ("seed: {valu: x, value: y}\n", (1, 8), "seed.valu", "unknown key", "did you mean `value`?"),
        ("seed: {}\n", (1, 7), "seed", "must have `value` or `ref` or `id`", ""),
        ("data: {ref: a, id: b}\n", (1, 7), "data", "must have one of", ""),
        ("data: {ref: ../a}\n", (1, 13), "data.ref", "not a dataset reference", ""),
        ("data: {type: dataset, value: a}\n", (1, 7), "data", "must have `ref` or `id`", ""),
        ("data: {type: volume, with: {ref: a}}\n", (1, 14), "data.type", "must be `dataset` or `string`", ""),
        ("data: {type: string, with: a}\n", (1, 28), "data.with", "must be a map", ""),
        ("inputs:\n  a: {value: 7}\n", (2, 14), "inputs.a.value", "must be a string", '"7"'),
        ("a: x\na: y\n", (2, 1), "a", "is in line 1 already", ""),
    ],
)
def test_mistakes(tmp_path: Path, text: str, place: tuple[int, int], path: str, words: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(tmp_path, text)
    found = caught.value.problems[0]
    assert ((found.line, found.column), found.path, words in found.message, hint in found.hint) == (
        place,
        path,
        True,
        True,
    ), found


@pytest.mark.parametrize("text", ["", "- a", "x", "a: 1\n---\nb: 2\n"])
def test_no_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="must be a mapping of input names"):
        read(tmp_path, text)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_mapping(tmp_path / "none.yaml")
    with pytest.raises(NotFound):
        read_mapping(tmp_path)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40) | st.lists(st.sampled_from("a:{}[]\n \"',-&*x7"), max_size=30).map("".join))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("any.yaml", "any.json"):
        (folder / name).write_text(text, encoding="utf-8", newline="")
        with contextlib.suppress(UsageError):
            assert isinstance(read_mapping(folder / name), dict)
