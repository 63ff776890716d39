from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.router.maps import (
    AGAIN,
    BASIC,
    BODY,
    KEY,
    KEYS_MAP,
    MAPS,
    PLAIN,
    RATES,
    ROUTES_MAP,
    TIMEOUT,
    entry_value,
    flags_of,
    maps,
    rate,
)
from appliance.router.table import WINDOWS_S, Access, Hold, Limits, Route, Table, Target
from tests.unit.router import strategies


def test_an_entry_tells_everything_about_a_route() -> None:
    route = Route(
        "/deployments/x",
        (Target("a", 1),),
        strip=True,
        hold=Hold(60, 1000),
        access=Access("key", frozenset({"0" * 64, "A" * 64})),
        limits=Limits(requests=100, window_s=10, body=1 << 20, timeout_s=1.5),
    )
    assert entry_value(7, route) == "slot-7/skb2th/1048576/100/1500/60.000/1000"
    assert entry_value(7, Route("/notebooks/n", (Target("a", 1),), strip=False)).split("/")[1] == "p"
    found = maps(Table().put(route))
    assert found[KEYS_MAP] == {f"deployments/x/{one * 64}": "in" for one in "0A"}
    assert list(found[ROUTES_MAP]) == ["deployments/x"]


@given(strategies.routes)
def test_a_route_that_asks_for_anything_is_not_plain(route: Route) -> None:
    flags = flags_of(entry_value(0, route))
    asks = bool(flags & {BASIC, KEY, BODY, TIMEOUT, *RATES.values()})
    assert asks == bool(route.access or route.limits.body or route.limits.requests or route.limits.timeout_s)
    assert (PLAIN in flags) is not asks
    assert (AGAIN in flags) is (len(route.targets) > 1)


@given(strategies.tables)
def test_every_entry_is_one_word_without_a_command_in_it(table: Table) -> None:
    found = maps(table)
    assert set(found) == set(MAPS)
    for entries in found.values():
        for key, value in entries.items():
            assert not set(key + value) & set(" ;\n\r\t\0")
    for value in found[ROUTES_MAP].values():
        assert len(value.split("/")) == 7


@given(st.integers(1, 10_000), st.floats(0.001, 86_400))
def test_nobody_may_ask_more_often_than_declared(requests: int, window: float) -> None:
    count, counted = rate(Limits(requests=requests, window_s=window))
    assert counted in WINDOWS_S
    assert count >= 1
    least = (count, counted) == (1, WINDOWS_S[-1])
    assert count / counted <= requests / window + 1e-6 or least
    assert requests / window - count / counted <= 1 / counted + 1e-6


@pytest.mark.parametrize(
    ("requests", "window", "expected"),
    [
        (100, 10, (100, 10)),
        (100, 60, (100, 60)),
        (1000, 7200, (500, 3600)),
        (10, 5, (2, 1)),
        (1, 0.5, (2, 1)),
        (5, 900, (20, 3600)),
        (1, 20, (3, 60)),
        (1, 86_400, (1, 3600)),
    ],
)
def test_limits_over_other_times(requests: int, window: float, expected: tuple[int, int]) -> None:
    assert rate(Limits(requests=requests, window_s=window)) == expected


def test_no_limit_is_none() -> None:
    assert rate(Limits())[0] == 0
