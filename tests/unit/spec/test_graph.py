from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.spec.graph import Ancestry, in_order

JOBS = "abcdefg"
graphs = st.dictionaries(st.sampled_from(JOBS), st.lists(st.sampled_from(JOBS + "x"), max_size=4))


def above(needs: dict[str, list[str]], job: str) -> set[str]:
    """All that `job` waits for, by adding until nothing is added."""
    found: set[str] = set()
    while True:
        more = {needed for one in {job, *found} for needed in needs.get(one, ()) if needed in needs}
        if more <= found:
            return found
        found |= more


@given(graphs)
def test_circles_are_found_exactly_where_there_are_any(needs: dict[str, list[str]]) -> None:
    order, circles = in_order(needs)
    assert bool(circles) == any(job in above(needs, job) for job in needs)
    for circle in circles:
        for job, following in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert following in needs[job]
    if not circles:
        assert sorted(order) == sorted(needs)
        for job in needs:
            assert all(order.index(other) < order.index(job) for other in above(needs, job))


@given(graphs)
def test_ancestry_goes_through_jobs_between(needs: dict[str, list[str]]) -> None:
    order, circles = in_order(needs)
    if circles:
        return
    ancestry = Ancestry(needs, order)
    for job in needs:
        assert {other for other in needs if ancestry.waits_for(job, other)} == above(needs, job)
    assert not ancestry.waits_for("x", "a")


def test_a_chain_longer_than_the_stack() -> None:
    needs = {str(n): [str(n - 1)] if n else [] for n in range(20_000)}
    order, circles = in_order(dict(reversed(needs.items())))
    assert not circles
    assert order[0] == "0"
