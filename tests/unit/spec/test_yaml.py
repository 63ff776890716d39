from __future__ import annotations

import time
from typing import Any

import pytest

from appliance.spec.tree import MAX_DEPTH, Node, to_plain
from appliance.spec.yaml import MAX_DOCUMENTS, read_yaml, resolve


def root_of(text: str) -> Node:
    (document,) = read_yaml(text, "x.yaml")
    assert not document.problems.errors, [str(problem) for problem in document.problems.errors]
    assert document.root is not None
    return document.root


def problems_of(text: str) -> list[str]:
    return [str(problem) for document in read_yaml(text, "x.yaml") for problem in document.problems.in_order()]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("Null", None),
        ("true", True),
        ("FALSE", False),
        ("no", "no"),
        ("on", "on"),
        ("022", 22),
        ("-7", -7),
        ("0o14", "0o14"),
        ("089", "089"),
        ("0x1F", 31),
        ("3.10", 3.1),
        (".5", 0.5),
        ("-.5", "-.5"),
        ("1e-4", "1e-4"),
        ("1.5e5", "1.5e5"),
        ("1.0e-4", 0.0001),
        ("-2.5E+3", -2500.0),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2021-01-01", "2021-01-01"),
        ("0x", "0x"),
        ("1.2.3", "1.2.3"),
        ("e3", "e3"),
    ],
)
def test_a_number_is_what_both_versions_of_yaml_take_for_one(text: str, value: Any) -> None:
    found = resolve(text)
    assert (type(found), found) == (type(value), value)


def test_quotes_and_blocks_are_text() -> None:
    plain = to_plain(root_of("a: '1'\nb: \"no\"\nc: |\n  5\nd: !!str 7\ne: ! 8\n"))
    assert plain == {"a": "1", "b": "no", "c": "5\n", "d": "7", "e": "8"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: |\n  \n    x\n", "\nx\n"),
        ("a: |\n\n \n    x\n", "\n\nx\n"),
        ("a: >-\n \n  x\n  y\n", "\nx y"),
        ("a: |2\n \n   x\n", "\n x\n"),
        ("a: |\r\n  \r\n    x\r\n", "\nx\n"),
        ("a: |\n", ""),
        ("a: |+\n  \n\n", "\n\n"),
    ],
)
def test_blank_lines_at_the_start_of_a_block(text: str, value: str) -> None:
    assert to_plain(root_of(text)) == {"a": value}


def test_a_blank_line_that_is_longer_than_the_indentation_is_a_mistake() -> None:
    (problem,) = problems_of("a: |\n    \n  x\nb: 1\n")
    assert "not valid YAML" in problem


def test_keys_are_text_as_written() -> None:
    assert list(to_plain(root_of("on: 1\n8080: 2\ntrue: 3\n'x y': 4\n3.10: 5\n"))) == [
        "on",
        "8080",
        "true",
        "x y",
        "3.10",
    ]


def test_places_count_from_one() -> None:
    root = root_of("# head\njobs:\n  train:\n    args: [a, b]\n")
    assert isinstance(root.value, dict)
    jobs = root.value["jobs"]
    assert isinstance(jobs.value, dict)
    train = jobs.value["train"]
    assert isinstance(train.value, dict)
    args = train.value["args"]
    assert isinstance(args.value, list)
    assert root.keys["jobs"] == (2, 1)
    assert jobs.keys["train"] == (3, 3)
    assert args.value[1].mark == (4, 15)


def test_a_missing_value_stands_at_its_key() -> None:
    root = root_of("image:\nport: 80\n")
    assert isinstance(root.value, dict)
    assert root.value["image"].mark == (1, 1)


def test_aliases_and_merges_are_expanded() -> None:
    text = "base: &b {x: 1, y: 2}\nother: &o {z: 3}\na: {<<: *b, y: 5}\nc: {<<: [*o, *b]}\nd: *b\n"
    plain = to_plain(root_of(text))
    assert plain["a"] == {"y": 5, "x": 1}
    assert plain["c"] == {"z": 3, "x": 1, "y": 2}
    assert plain["d"] == {"x": 1, "y": 2}


def test_every_document_of_a_stream() -> None:
    documents = read_yaml("a: 1\n---\nb: 2\n...\n---\n", "x.yaml")
    assert [to_plain(document.root) for document in documents if document.root] == [{"a": 1}, {"b": 2}, None]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3:1: a", "in line 1 already"),
        ("a: {b: 1, b: 2}\n", "x.yaml:1:11: a.b", "in line 1 already"),
        ("a:\n\tb: 1\n", "x.yaml:2:1", "tab"),
        ("a: !!python/object:os.system x\n", "x.yaml:1:4: a", "tag"),
        ("a: !custom {b: 1}\n", "x.yaml:1:4: a", "tag"),
        ("? [a]\n: 1\n", "x.yaml:1:3", "a key must be text"),
        ("a: *nothing\n", "x.yaml:1:4: a", "names no anchor"),
        ("a: &a [*a]\n", "x.yaml:1:8: a[0]", "contains itself"),
        ("a: {<<: 5}\n", "x.yaml:1:9", "takes a map"),
        ("a: 99999999999999999999\n", "x.yaml:1:4: a", "more than 64 bits"),
        ("a: 0x" + "f" * 5000, "x.yaml:1:4: a", "more than 64 bits"),
        ("a: .inf\n", "x.yaml:1:4: a", "finite"),
        ("a: 1.0e+999\n", "x.yaml:1:4: a", "finite"),
        ('a: "\\0"\n', "x.yaml:1:4: a", "NUL"),
        ('a: "\\ud800"\n', "x.yaml:1:4: a", "surrogate"),
        ("a: \x07\n", "x.yaml:1:4", "not allowed"),
        (": 1\n", "x.yaml:1:1", "a key is missing"),
        ("a: [1, 2\n", "x.yaml:2:1", "not valid YAML"),
        ("a: b: c\n", "x.yaml:1:5", "quote a text"),
        ("a: " + "!" * 2000, "x.yaml:1:4", "a tag of more than 1000"),
        ("%YAML 3.0\n--- a\n", "x.yaml:1:1", "not valid YAML"),
    ],
)
def test_mistakes_have_a_place(text: str, place: str, words: str) -> None:
    found = problems_of(text)
    assert found
    assert found[0].startswith(f"{place}: "), found
    assert words in found[0]


def test_the_last_of_two_values_counts_where_a_key_is_doubled() -> None:
    (document,) = read_yaml("a: 1\na: 2\n", "x.yaml")
    assert document.root is not None
    assert to_plain(document.root) == {"a": 2}


def test_what_was_read_before_a_syntax_error_is_kept() -> None:
    first, second = read_yaml("a: 1\n---\nb: [\n", "x.yaml")
    assert first.root is not None
    assert second.root is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: " + "[" * 100_000, "levels deep"),
        ("a: " + "{b: " * 100_000, "levels deep"),
        ("- " * 100_000, "levels deep"),
        ("".join("  " * depth + "a:\n" for depth in range(500)), "levels deep"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200)), "levels deep"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{b}: &{b} [{f'*{a},' * 9}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
            "values",
        ),
        ("a: &a {b: c}\nd: {<<: [" + "*a," * 60_000 + "]}", "values"),
        ("--- a\n" * (MAX_DOCUMENTS + 1), "documents"),
    ],
    ids=["lists", "maps", "dashes", "indentation", "alias chain", "alias bomb", "merge bomb", "documents"],
)
def test_a_hostile_text_is_refused_soon(text: str, words: str) -> None:
    begun = time.process_time()
    found = problems_of(text)
    assert words in found[-1]
    assert time.process_time() - begun < 20


def test_nesting_up_to_the_limit_is_fine() -> None:
    depth = MAX_DEPTH - 1
    assert to_plain(root_of("[" * depth + "]" * depth)) is not None
