"""Who gets which cards, who waits, and what is kept for whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.scheduler import words
from appliance.scheduler.freeing import STUCK_S
from appliance.scheduler.placement import place
from appliance.scheduler.types import Card, Held, Placement, Policy, Request, Who
from appliance.spec.machines import Shape
from tests.support.cluster import GIB, ask, holds, instance, whole

POLICY = Policy()
FOUR = tuple(whole(f"g{number}") for number in range(4))


def placed(
    cards: tuple[Card, ...],
    held: list[Held],
    requests: list[Request],
    used: dict[str, float] | None = None,
    now: float = 0.0,
    leaving: tuple[str, ...] = (),
    expected: dict[str, float] | None = None,
) -> Placement:
    return place(cards, held, requests, used or {}, POLICY, now=now, leaving=leaving, expected=expected or {})


def given(found: Placement) -> dict[str, tuple[str, ...]]:
    return {grant.request: grant.cards for grant in found.grants}


def test_what_fits_is_given_the_smallest_card_that_does() -> None:
    cards = (whole("big", 80), whole("small", 16), whole("middle", 24))
    assert given(placed(cards, [], [ask("a", Shape(gpus=1, least=20 * GIB))])) == {"a": ("middle",)}
    assert given(placed(cards, [], [ask("a")])) == {"a": ("small",)}


def test_several_cards_are_of_one_model_where_that_can_be() -> None:
    cards = (whole("a1", 24, "A"), whole("b1", 40, "B"), whole("b2", 40, "B"))
    assert given(placed(cards, [], [ask("x", 2)])) == {"x": ("b1", "b2")}
    assert given(placed(cards, [], [ask("x", 3)])) == {"x": ("a1", "b1", "b2")}


@pytest.mark.parametrize("state", ["drained", "lost", "foreign"])
def test_nothing_is_put_on_a_card_that_is_not_well_and_it_is_said(state: str) -> None:
    found = placed((whole("g0", state=state, why="Xid 79"),), [], [ask("a")])
    assert not found.grants
    assert not found.waits[0].place
    assert "Xid 79" in found.waits[0].why
    assert "g0" in found.waits[0].why


def test_a_card_of_unknown_memory_is_given_to_who_wants_no_certain_amount_only() -> None:
    cards = (whole("g0", None),)
    assert given(placed(cards, [], [ask("a")])) == {"a": ("g0",)}
    assert not placed(cards, [], [ask("a", Shape(gpus=1, least=1))]).grants
    assert not placed(cards, [], [ask("a", Shape(share=1))]).grants


def test_a_model_is_a_pattern_of_the_name_in_any_case() -> None:
    cards = (whole("g0", model="NVIDIA GeForce RTX 4090"), whole("g1", model="NVIDIA A100-SXM4-80GB"))
    assert given(placed(cards, [], [ask("a", Shape(gpus=1, model="*a100*"))])) == {"a": ("g1",)}


def test_instances_are_given_by_profile_and_never_in_place_of_a_whole_card() -> None:
    cards = (instance("m0", "2g.20gb"), instance("m1", "1g.10gb"), instance("m2", "1g.10gb"))
    assert given(placed(cards, [], [ask("a", Shape(mig="1g.10gb"))])) == {"a": ("m1",)}
    assert given(placed(cards, [], [ask("a", Shape(gpus=2, mig="1G.10GB"))])) == {"a": ("m1", "m2")}
    found = placed(cards, [], [ask("a")])
    assert not found.grants
    assert "split by MIG" in found.waits[0].why


def test_who_holds_a_card_that_was_split_meanwhile_holds_its_instances() -> None:
    assert not placed(
        (instance("m0", "1g.10gb", "card"),), [holds(ask("a"), "card")], [ask("b", Shape(mig="1g.10gb"))]
    ).grants


def test_what_this_machine_can_never_give_holds_up_nobody() -> None:
    found = placed(FOUR, [], [ask("eight", 8, priority=100), ask("one", asked=5)], now=10_000)
    assert given(found) == {"one": ("g0",)}
    assert found.claims == {}
    assert found.waits[0].place == 0
    assert "this machine has 4" in found.waits[0].why


def test_a_card_that_its_holder_does_not_give_back_counts_as_not_there() -> None:
    stuck = replace(holds(ask("dead"), "g0", freeing=True), let_go=0.0)
    both, one = ask("both", 2), ask("one", asked=1)
    before = placed(FOUR[:2], [stuck], [both, one], now=STUCK_S - 1)
    assert before.claims == {"both": ("g0", "g1")}
    after = placed(FOUR[:2], [stuck], [both, one], now=STUCK_S)
    assert given(after) == {"one": ("g1",)}
    assert "run dead" in after.waits[0].why


def test_who_still_fetches_its_image_keeps_its_place_and_holds_nothing() -> None:
    found = placed(FOUR[:1], [], [ask("slow", ready=False), ask("quick", asked=5), ask("late", asked=9)], now=9_000)
    assert given(found) == {"quick": ("g0",)}
    assert [(wait.request, wait.place) for wait in found.waits] == [("slow", 1), ("late", 2)]
    assert "cannot begin yet" in found.waits[0].why


def test_others_go_by_the_head_until_its_patience_is_over() -> None:
    busy = [holds(ask("n1"), "g0"), holds(ask("n2"), "g1")]
    requests = [ask("big", 4, asked=0), ask("small", asked=1)]
    assert given(placed(FOUR, busy, requests, now=POLICY.patience_s - 1)) == {"small": ("g2",)}
    late = placed(FOUR, busy, requests, now=POLICY.patience_s)
    assert given(late) == {}
    assert late.claims == {"big": ("g2", "g3")}
    small = late.waits[1]
    assert "kept for run big" in small.why
    assert small.forecast is None, "nobody knows when big has its turn"
    assert "behind run big" in small.behind


def test_what_ends_by_force_before_the_head_can_begin_goes_by_on_its_cards() -> None:
    busy = [holds(ask("long", 3, bound_s=1000), "g0", "g1", "g2")]
    requests = [ask("big", 4, asked=0), ask("fits", asked=1, bound_s=800), ask("not", asked=2, bound_s=1200)]
    assert given(placed(FOUR, busy, requests, now=100)) == {"fits": ("g3",)}
    assert given(placed(FOUR, busy, [requests[0], requests[2]], now=100)) == {}


def test_without_a_bound_nothing_goes_by_on_kept_cards_whatever_it_usually_takes() -> None:
    busy = [holds(ask("long", 3, bound_s=1000), "g0", "g1", "g2")]
    found = placed(FOUR, busy, [ask("big", 4), ask("quick", asked=1)], now=100, expected={"quick": 10.0})
    assert given(found) == {}


def test_cards_that_the_head_does_not_need_are_given() -> None:
    busy = [holds(ask("long", 2, bound_s=1000), "g0", "g1")]
    found = placed(FOUR, busy, [ask("big", 3), ask("any", asked=1)], now=100)
    assert given(found) == {"any": ("g2",)}
    assert found.claims == {"big": ("g0", "g1", "g3")}


def test_those_who_want_quite_different_cards_do_not_hold_up_each_other() -> None:
    cards = (*FOUR[:2], instance("m0", "1g.10gb"), instance("m1", "1g.10gb"))
    busy = [holds(ask("n"), "g0"), holds(ask("m", Shape(mig="1g.10gb")), "m0")]
    requests = [ask("two", 2), ask("pair", Shape(gpus=2, mig="1g.10gb"), asked=1)]
    found = placed(cards, busy, requests, now=5_000)
    assert found.claims == {"two": ("g1",), "pair": ("m1",)}
    assert "behind" not in found.waits[1].behind


def test_a_shared_card_is_filled_up_to_its_margin_and_given_to_nobody_alone() -> None:
    share = Shape(share=10 * GIB)
    held = [holds(ask("a", share), "g1")]
    assert given(placed(FOUR[:2], held, [ask("b", share), ask("c", asked=1)])) == {"b": ("g1",), "c": ("g0",)}
    full = [*held, holds(ask("b", share), "g1"), holds(ask("c"), "g0")]
    assert given(placed(FOUR[:2], full, [ask("d", Shape(share=4 * GIB))])) == {}


def test_who_wants_a_card_alone_is_not_kept_from_it_for_ever_by_those_who_share() -> None:
    share = Shape(share=10 * GIB)
    held = [holds(ask("a", share), "g0")]
    requests = [ask("alone"), ask("b", share, asked=1)]
    assert given(placed(FOUR[:1], held, requests, now=10)) == {"b": ("g0",)}
    assert given(placed(FOUR[:1], held, requests, now=POLICY.patience_s)) == {}


def test_work_that_opted_in_makes_way_for_a_higher_priority_after_a_while() -> None:
    old = holds(ask("old", preemptible=True, priority=-50), "g0", since=0)
    young = holds(ask("young", preemptible=True, priority=-50), "g1", since=50)
    wants = ask("wants", asked=100)
    assert not placed(FOUR[:2], [old, young], [wants], now=100 + POLICY.preempt_after_s - 1).preempts
    found = placed(FOUR[:2], [old, young], [wants], now=100 + POLICY.preempt_after_s)
    assert [(one.request, one.by) for one in found.preempts] == [("young", "wants")]
    assert "run wants" in found.preempts[0].words
    # once told, it is not told again, nor anybody in its place; and what it leaves is kept
    again = placed(FOUR[:2], [old, young], [wants, ask("other", asked=300)], now=400, leaving=("young",))
    assert not again.preempts
    assert again.claims == {"wants": ("g1",)}
    assert "not yet free of run young" in again.waits[0].behind


@pytest.mark.parametrize(
    "holder", [ask("h", preemptible=True), ask("h", priority=-50), ask("h", priority=5, preemptible=True)]
)
def test_nobody_makes_way_who_did_not_opt_in_or_is_as_important(holder: Request) -> None:
    assert not placed(FOUR[:1], [holds(holder, "g0")], [ask("wants")], now=10_000).preempts


def test_nobody_is_told_to_go_in_vain() -> None:
    held = [holds(ask("free", preemptible=True, priority=-1), "g0"), holds(ask("stays"), "g1")]
    assert not placed(FOUR[:2], held, [ask("both", 2)], now=10_000).preempts


def test_the_fewest_make_way() -> None:
    held = [
        holds(ask("one", preemptible=True, priority=-1), "g0", since=9),
        holds(ask("two", preemptible=True, priority=-1), "g1", since=9),
        holds(ask("pair", 2, preemptible=True, priority=-1), "g2", "g3", since=1),
    ]
    found = placed(FOUR, held, [ask("wants", 2, asked=10)], now=10_000)
    assert [one.request for one in found.preempts] == ["pair"]


def test_as_many_who_share_make_way_as_are_in_the_way() -> None:
    share = Shape(share=7 * GIB)
    held = [holds(ask(name, share, preemptible=True, priority=-1), "g0", since=at) for at, name in enumerate("abc")]
    found = placed(FOUR[:1], held, [ask("more", Shape(share=10 * GIB), asked=10)], now=10_000)
    assert [one.request for one in found.preempts] == ["b", "c"]
    assert [one.request for one in placed(FOUR[:1], held, [ask("all", asked=10)], now=10_000).preempts] == list("abc")


def test_what_made_way_does_not_take_the_card_again_before_whom_it_made_way_for() -> None:
    old = ask("old", asked=0, preemptible=True, priority=-1)
    found = placed(FOUR[:1], [], [old, ask("wants", asked=900_000)], now=900_100)
    assert given(found) == {"wants": ("g0",)}


def test_the_forecast_goes_by_what_things_usually_take_and_by_bounds() -> None:
    held = [holds(ask("usual"), "g0"), holds(ask("bound", bound_s=500), "g1")]
    requests = [ask("a", asked=10), ask("b", asked=11), ask("c", asked=12)]
    found = placed(FOUR[:2], held, requests, now=100, expected={"usual": 300.0, "a": 50.0})
    assert [wait.forecast for wait in found.waits] == [300.0, 350.0, 500.0]
    nothing = placed(FOUR[:1], [holds(ask("notebook"), "g0")], [ask("a")], now=100)
    assert nothing.waits[0].forecast is None
    assert "run notebook" in nothing.waits[0].behind


def test_what_overran_its_usual_time_is_not_said_to_end_in_the_past() -> None:
    found = placed(FOUR[:1], [holds(ask("usual"), "g0")], [ask("a")], now=1000, expected={"usual": 300.0})
    assert found.waits[0].forecast == 1500.0


def test_a_request_that_holds_already_is_not_given_a_second_time() -> None:
    request = ask("a")
    assert placed(FOUR, [holds(request, "g0")], [request, request]) == Placement()


def test_without_any_gpu_it_is_said() -> None:
    found = placed((), [], [ask("a")])
    assert "this machine has no GPU" in found.waits[0].why


def test_the_words_of_many_are_not_made_anew_for_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done each second on the daemon's loop: it may not grow with the square of the queue."""
    asked: list[str] = []
    say = words.who

    def who(one: Who) -> str:
        asked.append(one.uid)
        return say(one)

    monkeypatch.setattr(words, "who", who)
    held = [holds(ask(f"h{number}"), f"g{number}") for number in range(4)]
    shapes = (Shape(gpus=1), Shape(gpus=2), Shape(share=GIB))
    requests = [ask(f"r{number:03}", shapes[number % 3], asked=float(number)) for number in range(200)]
    found = placed(FOUR, held, requests, now=300.0)
    assert found.waits[199].behind == "behind run r000, run r001, run r002 and 196 more"
    assert len(asked) <= 2 * len(requests)
