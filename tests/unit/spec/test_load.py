from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from appliance.errors import SpecError
from appliance.spec.load import examine_text, load_file, load_text, parse
from appliance.spec.tree import MAX_BYTES

WORKFLOW = "jobs: {a: {uses: script@v1, with: {image: x, script: y}}}\n"


def message_of(text: str | bytes, file: str = "x.yaml") -> str:
    with pytest.raises(SpecError) as caught:
        load_text(text, file=file)
    return str(caught.value)


def test_every_document_of_a_file() -> None:
    found = load_text("---\nkind: dataset\nname: a\n---\n# nothing\n---\nkind: notebook\nname: a\n", file="x.yaml")
    assert [(one.kind, one.name, one.line) for one in found] == [("dataset", "a", 2), ("notebook", "a", 7)]


def test_the_problems_of_all_documents_at_once() -> None:
    text = "kind: dataset\nname: a\nx: 1\n---\nimage: 5\n---\nkind: dataset\nname: a\n"
    words = message_of(text).splitlines()
    assert [line.split(": ")[0] for line in words] == ["x.yaml:3:1", "x.yaml:5:8", "x.yaml:7:1"]
    assert "is in line 1 already" in words[2]


@pytest.mark.parametrize(
    ("file", "given", "name"),
    [
        ("/some/where/nightly train.yml", None, "nightly-train"),
        ("x.yaml", "given", "given"),
        ("stdin", "given", "given"),
        ("-", "a/b", "a-b"),
        ("a.b.yaml", None, "a.b"),
        ("y" * 100 + ".yaml", None, "y" * 54 + "-bd6c4e66"),
    ],
)
def test_where_the_name_comes_from(file: str, given: str | None, name: str) -> None:
    (found,) = load_text(WORKFLOW, file=file, name=given)
    if len(name) == 63:
        assert (found.name[:55], len(found.name)) == (name[:55], 63)
    else:
        assert found.name == name
    assert found.spec.name == found.name


def test_the_documents_own_name_wins() -> None:
    (found,) = load_text("image: x\nname: mine\n", file="x.yaml", name="given")
    assert found.name == "mine"


def test_what_has_no_name_asks_for_one() -> None:
    assert "has no name (add `name:`, or give one with --name)" in message_of(WORKFLOW, "stdin")


def test_the_kind_may_be_given() -> None:
    (found,) = load_text("{}", file="x.json", kind="notebook")
    assert found.kind == "notebook"


@pytest.mark.parametrize(
    ("text", "file", "words"),
    [
        ("", "x.yaml", "x.yaml:1:1: is empty"),
        ("# only\n# words\n", "x.yaml", "is empty"),
        ("---\n---\n", "x.yaml", "is empty"),
        (" \n", "x.json", "is empty"),
        ("null", "x.json", "is empty"),
        ("- a\n", "x.yaml", "x.yaml:1:1: must be a map with `jobs`, `image` or `kind`, not a list"),
        ("5", "x.json", "not the number `5`"),
        ("just words\n", "x.yaml", "not the text `just words`"),
        (b"a: \xff\n", "x.yaml", "x.yaml:1:4: is not UTF-8"),
        ("a: 1\n".encode("utf-16"), "x.yaml", "is not UTF-8"),
        (b"x" * (MAX_BYTES + 1), "x.yaml", "is larger than 1 MiB"),
        ("x: " + "é" * MAX_BYTES, "x.yaml", "larger than 1 MiB"),
        ("image = 'x'", "x.toml", "is TOML"),
        ("\x1b[31m: 1", "x.yaml", "not allowed"),
    ],
)
def test_what_is_no_spec(text: str | bytes, file: str, words: str) -> None:
    found = message_of(text, file)
    assert words in found
    assert found.isprintable()


def test_foreign_text_cannot_reach_the_terminal() -> None:
    assert message_of('"\\e[31m\\n": 1\nimage: x\n').isprintable()


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert load_text(b"\xef\xbb\xbfimage: x\n", file="x.yaml")
    assert load_text(b'\xef\xbb\xbf{"image": "x"}', file="x.json")


@pytest.mark.parametrize("file", ["x.json", "x.jsonc", "body"])
def test_json_by_name_or_by_look(file: str) -> None:
    (found,) = load_text('{"name": "a", "image": "x"}', file=file)
    assert (found.kind, found.name) == ("deployment", "a")


def test_a_stored_document_makes_the_same_spec() -> None:
    text = (
        "defaults: {env: &e {A: b}}\njobs: {a: {uses: script@v1, env: {<<: *e, C: d}, with: {image: x, script: y}}}\n"
    )
    (found,) = load_text("'on': {github: {}}\n" + text, file="x.yaml")
    stored = json.loads(json.dumps(found.document, sort_keys=True, allow_nan=False))
    assert parse(found.kind, found.name, stored) == found.spec


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("a", {"image": 5}, "deployment/a: image: must be a string"),
        ("../a", {"image": "x"}, "name: `../a` cannot be the name"),
        ("a", {"image": "x", "kind": "notebook"}, "kind: the document is not a deployment"),
        ("a", {"image": "x", "env": object()}, "of type object"),
        ("a", {"image": "x", 5: 6}, "no text"),
        ("a", {"image": "x\0"}, "NUL"),
        ("a", {"image": "x", "port": float("nan")}, "finite"),
        ("a", {"image": "x", "port": 2**70}, "64 bits"),
        ("a", [], "must be a map"),
    ],
)
def test_a_stored_document_is_checked(name: str, document: object, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse("deployment", name, document)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_a_document_without_end_is_refused() -> None:
    document: dict[str, object] = {}
    document["image"] = document
    with pytest.raises(SpecError, match="levels deep"):
        parse("deployment", "a", document)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text("image: x\n")
    (found,) = load_file(file)
    assert found.name == "web"


@pytest.mark.parametrize("what", ["missing", "folder", "pipe", "large", "null byte"])
def test_files_that_cannot_be_read(tmp_path: Path, what: str) -> None:
    path = tmp_path / ("a\0b" if what == "null byte" else "x.yaml")
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "large":
        path.write_bytes(b"#" * (5 << 20))
    with pytest.raises(SpecError) as caught:
        load_file(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (1, 1)
    words = {"missing": "no such file", "folder": "cannot be read", "pipe": "regular", "large": "1 MiB"}
    assert words.get(what, "cannot be read") in problem.message or "regular" in problem.message


def test_an_invalid_document_still_says_what_it_is() -> None:
    (found,) = examine_text("image: 5\nname: web\n", file="x.yaml")
    assert (found.kind, found.name, found.loaded) == ("deployment", "web", None)
