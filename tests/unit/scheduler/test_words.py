"""What is said of the queue."""

from __future__ import annotations

from appliance.scheduler import words
from appliance.scheduler.types import Wait, Who
from appliance.spec.machines import Shape
from tests.support.cluster import GIB, ask

NOON = 1_800_014_400.0


def test_the_sentence_has_why_place_behind_since_and_until() -> None:
    wait = Wait("a", 2, "it waits for a GPU: none is free", "behind run b", NOON + 130)
    assert words.said(wait, ask("a", asked=NOON - 60), NOON) == (
        "it waits for a GPU: none is free; place 2 in the queue; behind run b; since 11:59 UTC; "
        "it begins at about 12:03 UTC"
    )


def test_the_sentence_stays_while_nothing_changes() -> None:
    wait = Wait("a", 1, "it waits", "held by run b", NOON + 3_500)
    request = ask("a", asked=NOON - 3600)
    assert words.said(wait, request, NOON) == words.said(wait, request, NOON + 600)


def test_who_stands_in_no_queue_has_no_place() -> None:
    assert words.said(Wait("a", 0, "it asks for 8 GPUs"), ask("a"), NOON) == "it asks for 8 GPUs"


def test_another_day_is_named() -> None:
    assert words.moment(NOON + 86_400, NOON) == f"16 Jan {words.moment(NOON, NOON)}"
    assert words.forecast(None, NOON) == "nobody knows when it can begin"


def test_names_are_told_once_and_not_without_end() -> None:
    assert words.listed([]) == ""
    assert words.listed(["a", "a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed(list("abcdef")) == "a, b, c and 3 more"


def test_each_kind_is_called_what_its_user_calls_it() -> None:
    assert words.who(Who("run", "train", "1", part="fit")) == "job fit of run train"
    assert words.who(Who("execution", "nb", "1")) == "a run of notebook nb"
    assert words.who(Who("deployment", "front", "1", part="ab-0")) == "deployment front"


def test_a_shape_is_told_with_what_it_asks() -> None:
    assert words.shape(Shape(gpus=2, least=16 * GIB), 2) == "2 GPUs with at least 16 GiB"
    assert words.shape(Shape(mig="1g.10gb"), 1) == "a MIG instance of 1g.10gb"
    assert words.shape(Shape(share=GIB, model="A*"), 1) == "1 GiB of a GPU of the kind A*, shared with others"
