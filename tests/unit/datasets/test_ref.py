"""References to dataset versions, and ids."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.datasets.ref import Ref, dataset_id, dataset_uid, derived_id, parse_ref, random_id
from appliance.errors import UsageError

FIRST = string.ascii_letters + string.digits
NAMES = st.builds(lambda first, rest: first + rest, st.sampled_from(FIRST), st.text(FIRST + "._-", max_size=62))
UIDS = st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")


@given(NAMES | st.just(""), NAMES, NAMES | st.just(""))
def test_a_reference_comes_back_as_it_was(namespace: str, name: str, version: str) -> None:
    ref = Ref(namespace, name, version)
    assert parse_ref(str(ref)) == ref


@given(st.text() | st.text(st.sampled_from("ab/:.\n ")))
def test_any_text_is_a_reference_that_writes_itself_or_a_usage_error(text: str) -> None:
    try:
        found = str(parse_ref(text))
    except UsageError:
        return
    assert found == text


@pytest.mark.parametrize(
    ("text", "namespace", "name", "version"),
    [
        ("demo-dataset", "", "demo-dataset", ""),
        ("dsxbr4wc9x8ttbv", "", "dsxbr4wc9x8ttbv", ""),
        ("dsxbr4wc9x8ttbv:phf0zt7", "", "dsxbr4wc9x8ttbv", "phf0zt7"),
        ("gradient/mnist", "gradient", "mnist", ""),
        ("gradient-next/mnist-sample:latest", "gradient-next", "mnist-sample", "latest"),
        ("data:v0.2.0", "", "data", "v0.2.0"),
    ],
)
def test_references_of_real_specs(text: str, namespace: str, name: str, version: str) -> None:
    ref = parse_ref(text)
    assert (ref.namespace, ref.name, ref.version) == (namespace, name, version)
    assert ref.is_latest == (version in ("", "latest"))


@pytest.mark.parametrize(
    "text", ["", ":", "a:", ":a", "a/", "/a", "a/b/c", "a:b:c", "../a", "a/..", "a b", "a\n", "a" * 64, "ü", "$REF"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ref(text)


@given(UIDS)
def test_an_id_stands_for_one_uid(uid: str) -> None:
    text = dataset_id(uid)
    assert len(text) == 15
    assert text.startswith("ds")
    assert set(text) <= set(string.ascii_lowercase + string.digits)
    assert dataset_uid(text) == uid
    assert str(parse_ref(text)) == text


@pytest.mark.parametrize(
    "text", ["", "ds", "dszzzzzzzzzzzzz", "DS0000000000000", "xx0000000000000", "ds00000000000000"]
)
def test_a_text_that_is_no_id_has_no_uid(text: str) -> None:
    assert dataset_uid(text) is None


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_derived_ids_are_the_same_for_the_same_parts_only(one: list[str], other: list[str]) -> None:
    if "\0" not in "".join(one + other):
        assert (derived_id(13, *one) == derived_id(13, *other)) == (one == other)
    assert len(derived_id(7, *one)) == len(random_id(7)) == 7
