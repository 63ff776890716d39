from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import UsageError
from appliance.spec.names import NAME, check_name, slug


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("train", "train"),
        ("EfficientNet-B2", "EfficientNet-B2"),
        ("gradient-ai/automatic", "gradient-ai-automatic"),
        ("my cool deployment", "my-cool-deployment"),
        ("Train (v1.5) - final", "Train-v1.5-final"),
        ("modèle", "modele"),
        ("-x-", "x"),
        ("a..b", "a..b"),
    ],
)
def test_free_texts_become_names(text: str, name: str) -> None:
    assert slug(text) == name


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../x", "a/../b", "./a", "/etc/passwd", "a\\b", "---", "日本", "a\nb", "a\x1b[31m", "a\0"]
)
def test_what_is_no_name_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        slug(text)
    assert "the letters a-z and A-Z, digits" in caught.value.hint
    assert caught.value.message.isprintable()


def test_long_names_are_cut_and_stay_apart() -> None:
    one, two = slug("x" * 100 + "1"), slug("x" * 100 + "2")
    assert len(one) == len(two) == 63
    assert one != two
    assert slug("x" * 100 + "1") == one


@given(st.text())
def test_a_slug_is_a_name_and_stays_one(text: str) -> None:
    try:
        name = slug(text)
    except UsageError:
        return
    assert NAME.fullmatch(name)
    assert slug(name) == name
    check_name("notebook", name)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "-a", ".a", "a" * 64, "a\n", "ä"])
def test_a_name_is_checked_as_it_stands(text: str) -> None:
    with pytest.raises(UsageError):
        check_name("notebook", text)
