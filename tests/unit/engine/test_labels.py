from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.labels import Owner, owner_of

TEXT = st.text(max_size=20)


@given(
    st.builds(Owner, TEXT, TEXT, TEXT, TEXT, part=TEXT, generation=st.integers(min_value=0), digest=TEXT),
)
def test_an_owner_survives_its_labels(owner: Owner) -> None:
    assert owner_of(owner.to_labels()) == owner


def test_a_stranger_has_no_owner() -> None:
    assert owner_of({"com.example.instance": "1"}) is None


def test_a_generation_that_is_no_number_is_zero() -> None:
    labels = Owner("i", "notebook", "n", "u").to_labels() | {"dev.appliance.generation": "x"}
    owner = owner_of(labels)
    assert owner is not None
    assert owner.generation == 0
