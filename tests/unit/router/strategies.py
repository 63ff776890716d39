"""Hypothesis strategies of routes and tables."""

from __future__ import annotations

from hypothesis import strategies as st

from appliance.router.table import Route, Table, Target

names = st.sampled_from(["a", "A", "ab", "a.b", "a-b", "a_b", "0", "x" * 63])
targets = st.builds(Target, names, st.integers(1, 65535))
prefixes = st.builds("/{}/{}".format, st.sampled_from(["notebooks", "deployments"]), names)
routes = st.builds(
    Route,
    prefixes,
    st.lists(targets, max_size=3, unique_by=lambda target: target.id).map(tuple),
    st.booleans(),
)
changes = st.lists(routes | prefixes, max_size=8)


def apply(changes: list[Route | str], table: Table) -> Table:
    for change in changes:
        table = table.put(change) if isinstance(change, Route) else table.drop(change)
    return table


tables = st.builds(apply, changes, st.builds(Table, capacity=st.sampled_from([1, 4, 64])))
