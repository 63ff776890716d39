"""Hypothesis strategies of routes and tables."""

from __future__ import annotations

from hypothesis import strategies as st

from appliance.router.table import Access, Hold, Limits, Route, Table, Target

names = st.sampled_from(["a", "A", "ab", "a.b", "a-b", "a_b", "0", "x" * 63])
targets = st.builds(Target, names, st.integers(1, 65535), st.sampled_from(["127.0.0.1", "172.18.0.2"]))
seconds = st.floats(0.001, 86_400, allow_nan=False)
holds = st.none() | st.builds(Hold, seconds, st.integers(1, 10_000))
sums = st.sampled_from([digit * 64 for digit in "0A7F"])
accesses = st.none() | st.builds(Access, st.sampled_from(["basic", "key"]), st.frozensets(sums))
limits = st.just(Limits()) | st.builds(
    Limits, st.integers(0, 1000), seconds, st.integers(0, 1 << 40), st.none() | seconds
)
prefixes = st.builds("/{}/{}".format, st.sampled_from(["notebooks", "deployments"]), names)
routes = st.builds(
    Route,
    prefixes,
    st.lists(targets, max_size=3, unique_by=lambda target: target.id).map(tuple),
    st.booleans(),
    holds,
    accesses,
    limits,
)
changes = st.lists(routes | prefixes, max_size=8)


def apply(changes: list[Route | str], table: Table) -> Table:
    for change in changes:
        table = table.put(change) if isinstance(change, Route) else table.drop(change)
    return table


tables = st.builds(apply, changes, st.builds(Table, capacity=st.sampled_from([1, 4, 64])))
