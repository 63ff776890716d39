from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.spec.jsonc import read_json
from appliance.spec.tree import from_plain, to_plain

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


def problems_of(text: str, *, comments: bool = False) -> list[str]:
    return [str(p) for document in read_json(text, "x.json", comments=comments) for p in document.problems.in_order()]


@given(values, st.sampled_from([None, 1, "\t"]))
def test_what_json_writes_is_read(value: object, indent: int | str | None) -> None:
    for text in (json.dumps(value, indent=indent), json.dumps(value, ensure_ascii=False)):
        (document,) = read_json(text, "x.json", comments=False)
        assert document.root is not None
        assert not document.problems.errors
        assert to_plain(document.root) == value


@given(values)
def test_a_plain_value_survives_the_tree(value: object) -> None:
    assert to_plain(from_plain(value)) == value


def test_comments_and_trailing_commas() -> None:
    text = '// head\n{"a": [1, /* two\nlines */ 2,], // end\n "b": "// no comment",}\n'
    (document,) = read_json(text, "x.jsonc", comments=True)
    assert document.root is not None
    assert to_plain(document.root) == {"a": [1, 2], "b": "// no comment"}
    assert document.root.keys["b"] == (4, 2)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('{"a": 1,}', "x.json:1:9", "comma before"),
        ('{"a": 1} // x', "x.json:1:10", "comments"),
        ('{"a": 1 "b": 2}', "x.json:1:9: ", "`,` or `}`"),
        ('{"a" 1}', "x.json:1:6: a", "`:` is expected"),
        ("{a: 1}", "x.json:1:2", "double quotes"),
        ('{\n  "a": tru\n}', "x.json:2:8", "`tru` is no value"),
        ('{"a": "x\ny"}', "x.json:1:7", "no end"),
        ('{"a": "\\x"}', "x.json:1:7", "no end"),
        ('{"a": 1', "x.json:1:8", "`,` or `}`"),
        ('{"a":', "x.json:1:6", "ends in the middle"),
        ("{} {}", "x.json:1:4", "more text"),
        ('{"a": 022}', "x.json:1:8", "`,` or `}`"),
        ('{"a": NaN}', "x.json:1:7", "no value"),
        ('{"a": 1, "a": 2}', "x.json:1:10: a", "in line 1 already"),
        ('{"a": 1e999}', "x.json:1:7: a", "finite"),
        ('{"a": ' + "9" * 5000 + "}", "x.json:1:7: a", "64 bits"),
        ('{"a": "\\ud800"}', "x.json:1:7: a", "surrogate"),
        ('{"\\u0000": 1}', "x.json:1:2", "NUL"),
        ('{"a":' * 1000, "x.json", "levels deep"),
        ('{"a": [' + "1," * 60_000 + "1]}", "x.json", "values"),
        ("/*", "x.json:1:1", "comment"),
    ],
)
def test_mistakes_have_a_place(text: str, place: str, words: str) -> None:
    found = problems_of(text)
    assert found
    assert found[0].startswith(place), found
    assert words in found[0]
