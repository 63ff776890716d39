"""Who goes first."""

from __future__ import annotations

from appliance.scheduler.order import order
from appliance.scheduler.types import Policy, Request
from appliance.spec.machines import Shape
from tests.support.cluster import ask, holds

POLICY = Policy()


def names(requests: list[Request], used: dict[str, float] | None = None, gpus: int = 4) -> list[str]:
    return [one.id for one in order(requests, [], used or {}, POLICY, gpus=gpus)]


def test_a_higher_priority_goes_first_and_else_who_asked_first() -> None:
    assert names([ask("b", asked=2), ask("a", asked=1), ask("c", asked=3, priority=10)]) == ["c", "a", "b"]


def test_what_waits_for_long_enough_goes_before_any_priority() -> None:
    later = ask("later", asked=201 * POLICY.point_s, priority=100)
    assert names([later, ask("early", priority=-100)]) == ["early", "later"]


def test_owners_take_turns_in_a_burst() -> None:
    burst = [ask(f"a{number}", asked=number, owner="a") for number in range(8)]
    found = names([*burst, ask("b0", asked=100, owner="b"), ask("b1", asked=101, owner="b")])
    assert found.index("b0") < found.index("a2")
    assert [one for one in found if one.startswith("a")] == [one.id for one in burst]


def test_who_has_had_much_goes_behind_but_not_for_ever() -> None:
    used = {"greedy": 1e9}
    new = ask("new", asked=POLICY.fair_s - 1, owner="modest")
    assert names([ask("old", owner="greedy"), new], used) == ["new", "old"]
    late = ask("late", asked=POLICY.fair_s + 1, owner="modest")
    assert names([ask("old", owner="greedy"), late], used) == ["old", "late"]


def test_what_is_held_counts_for_the_turn_and_what_is_let_go_does_not() -> None:
    requests = [ask("a", asked=0, owner="a"), ask("b", asked=10, owner="b")]
    held = [holds(ask("h", owner="a"), "g0")]
    assert [one.id for one in order(requests, held, {}, POLICY, gpus=1)] == ["b", "a"]
    going = [holds(ask("h", owner="a"), "g0", freeing=True)]
    assert [one.id for one in order(requests, going, {}, POLICY, gpus=1)] == ["a", "b"]


def test_an_instance_counts_as_the_part_of_a_card_that_it_is() -> None:
    small = [ask(f"s{number}", Shape(mig="1g.10gb"), asked=0, owner="a") for number in range(3)]
    assert names([*small, ask("b", asked=400, owner="b")], gpus=1) == ["s0", "s1", "s2", "b"]
    assert names([ask("w0", owner="a"), ask("w1", owner="a"), ask("b", asked=400, owner="b")], gpus=1)[1] == "b"


def test_what_makes_way_never_goes_before_a_higher_priority() -> None:
    free = ask("free", asked=0, priority=-50, preemptible=True)
    high = ask("high", asked=1e6)
    assert names([free, high]) == ["high", "free"]
    # one that could not begin anyhow does not hold it back
    assert names([free, ask("high", asked=1e6, ready=False)]) == ["free", "high"]
