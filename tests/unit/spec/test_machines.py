"""Machine types: names and numbers onto the GPUs that a machine has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.scheduler.types import Card
from appliance.spec.catalogue import FREE_PRIORITY, GIB, NAMES, label, machine
from appliance.spec.machines import Shape, known, shape_of

MIB = 2**20


def whole(number: int, gib: float | None) -> Card:
    memory = None if gib is None else int(gib * GIB)
    return Card(f"GPU-{number}", f"GPU-{number}", "whole", "", memory, "NVIDIA something")


def part(number: int, profile: str, gib: float | None) -> Card:
    memory = None if gib is None else int(gib * GIB)
    return Card(f"MIG-{number}", "GPU-0", "mig", profile, memory, "NVIDIA something")


SMALL, MIDDLE, LARGE = whole(1, 11), whole(2, 24), whole(3, 48)
PARTS = (part(1, "1g.10gb", 9.6), part(2, "3g.40gb", 39), part(3, "2g.20gb", 19.5))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_catalogue_says_something(name: str) -> None:
    found = machine(name)
    assert found is not None
    assert known(name, {})
    assert found == machine(name.lower()) == machine(name.upper())
    assert bool(found.gpus) == (not name.startswith("C") and name != "Free-CPU")


@pytest.mark.parametrize(
    ("name", "gpus", "gib", "free"),
    [
        ("C5", 0, 0, False),
        ("P4000", 1, 8, False),
        ("P5000", 1, 16, False),
        ("A4000-8C", 1, 16, False),
        ("A4000x2", 2, 16, False),
        ("GPU+x2", 2, 8, False),
        ("V100-32Gx4", 4, 32, False),
        ("A100-80GBx4", 4, 80, False),
        ("A100", 1, 40, False),
        ("Free-RTX4000", 1, 8, True),
        ("Free-A100-80G", 1, 80, True),
        ("Free-GPU", 1, 0, True),
        ("FreeGPU", 1, 0, True),
        ("FreeCPU", 0, 0, True),
        ("Free-CPU", 0, 0, True),
        ("Free-C3", 0, 0, True),
    ],
)
def test_the_labels_of_real_files(name: str, gpus: int, gib: int, free: bool) -> None:
    found = machine(name)
    assert found is not None
    assert (found.gpus, found.gpu_memory, found.free) == (gpus, gib * GIB, free)


@pytest.mark.parametrize(
    "name", ["", "C4x2", "ours", "IPU-POD16", "ml.g4dn.xlarge", "P4000x0", "x2", "é", "P" * 10_000]
)
def test_other_names_say_nothing(name: str) -> None:
    assert machine(name) is None


@given(
    st.text(max_size=30) | st.from_regex(r"(Free-?)?[A-Za-z0-9+-]{0,8}(-[0-9]{1,3}GB?)?(x[0-9]{1,3})?", fullmatch=True)
)
def test_any_name_has_an_answer(name: str) -> None:
    shape, warning = shape_of(name, 0, {}, [SMALL, LARGE, *PARTS])
    assert bool(shape.gpus) <= known(name, {})
    assert bool(warning) or known(name, {}) or not name
    assert label(name).count >= 1


def test_the_smallest_that_is_large_enough_does() -> None:
    shape, warning = shape_of("P5000", 0, {}, [SMALL, MIDDLE, LARGE])
    assert (shape.gpus, warning) == (1, "")
    assert SMALL.memory < shape.least <= 16 * GIB < MIDDLE.memory  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("P4000", 8_119),
        ("RTX4000", 7_982),
        ("P5000", 15_109),
        ("A4000", 15_360),
        ("A5000", 22_731),
        ("A6000", 46_068),
        ("V100-32G", 32_510),
        ("A100", 40_536),
        ("A100-80G", 81_559),
    ],
)
def test_a_card_of_the_very_kind_does_though_some_of_its_memory_is_taken(name: str, mib: int) -> None:
    card = replace(SMALL, memory=mib * MIB)
    shape, warning = shape_of(name, 0, {}, [card])
    assert (warning, shape.gpus) == ("", 1)
    assert shape.least <= mib * MIB


def test_one_that_is_too_large_gets_the_largest_here_and_a_word() -> None:
    shape, warning = shape_of("A100-80G", 0, {}, [SMALL, MIDDLE])
    assert shape == Shape(gpus=1, least=24 * GIB)
    assert warning == "`A100-80G` asks for 80G of GPU memory, and the largest here has 24G"


def test_several_are_as_large_as_all_of_them_can_be() -> None:
    cards = [SMALL, MIDDLE, LARGE, whole(4, 24)]
    assert shape_of("A4000x2", 0, {}, cards) == (Shape(gpus=2, least=int(16 * GIB * 0.9)), "")
    shape, warning = shape_of("A6000x2", 0, {}, cards)
    assert shape == Shape(gpus=2, least=24 * GIB)
    assert warning == "`A6000x2` asks for 48G of GPU memory, and the 2 largest here have 24G"


def test_more_than_there_are_stay_asked_for_and_are_told() -> None:
    shape, warning = shape_of("A4000x8", 0, {}, [MIDDLE, LARGE, *PARTS])
    assert shape.gpus == 8
    assert warning == "`A4000x8` asks for 8 GPUs, and this machine has 2 that are not split"


def test_an_instance_does_where_no_whole_one_can() -> None:
    assert shape_of("P4000", 0, {}, PARTS)[0].mig == "1g.10gb"
    assert shape_of("A4000", 0, {}, PARTS)[0].mig == "2g.20gb"
    assert shape_of("A6000", 0, {}, PARTS) == (
        Shape(gpus=1, mig="3g.40gb", least=39 * GIB),
        "`A6000` asks for 48G of GPU memory, and the largest here has 39G",
    )
    assert shape_of("A4000", 0, {}, [SMALL, *PARTS]) == (Shape(gpus=1, mig="2g.20gb", least=int(16 * GIB * 0.9)), "")
    assert shape_of("P4000", 0, {}, [SMALL, *PARTS])[0].mig == ""
    shape, warning = shape_of("P4000x2", 0, {}, PARTS)
    assert (shape.gpus, shape.mig) == (2, "")
    assert warning == "`P4000x2` asks for 2 GPUs, and this machine has 0 that are not split"


def test_a_memory_that_cannot_be_seen_is_not_none() -> None:
    shape, warning = shape_of("P5000", 0, {}, [whole(1, None)])
    assert shape == Shape(gpus=1)
    assert warning == "`P5000` gets any GPU: how much memory they have cannot be seen"
    assert shape_of("P5000", 0, {}, [whole(1, None), MIDDLE])[1] == ""
    assert shape_of("P5000", 0, {}, [part(1, "1g.5gb", None)])[0] == Shape(gpus=1, mig="1g.5gb")
    assert shape_of("Free-GPU", 0, {}, [whole(1, None)])[0].gpus == 1


def test_free_machines_stand_behind_all_others_and_make_way() -> None:
    expected = Shape(gpus=1, preemptible=True, priority=FREE_PRIORITY)
    assert shape_of("Free-GPU", 0, {}, [SMALL]) == (expected, "")
    assert shape_of("Free-P4000", 0, {}, [SMALL])[0].priority == FREE_PRIORITY


def test_without_a_driver_a_name_runs_without_a_gpu_and_a_number_waits() -> None:
    shape, warning = shape_of("P4000", 0, {}, None)
    assert (shape.gpus, warning) == (0, "`P4000` has a GPU, and this machine has none: it runs without")
    assert shape_of("P4000", 2, {}, None)[0].gpus == shape_of("", 2, {}, None)[0].gpus == 2
    assert shape_of("C5", 0, {}, None) == (Shape(), "")


def test_with_a_driver_that_has_no_card_now_a_name_waits() -> None:
    assert shape_of("P4000", 0, {}, [])[0].gpus == 1


def test_the_number_that_the_spec_names_wins() -> None:
    cards = [MIDDLE, LARGE]
    assert shape_of("A4000x2", 1, {}, cards)[0].gpus == 1
    assert shape_of("C4", 1, {}, cards) == (Shape(gpus=1), "")
    assert shape_of("", 2, {}, cards) == (Shape(gpus=2), "")
    assert shape_of("", 0, {}, cards) == (Shape(), "")
    assert shape_of("", 1, {}, PARTS) == (
        Shape(gpus=1, mig="3g.40gb"),
        "all GPUs here are split: it gets an instance 3g.40gb",
    )


OWN = {
    "big": Shape(gpus=2, cpus=8, memory=GIB),
    "P4000": Shape(gpus=1, mig="1g.10gb"),
    "soft": Shape(gpus=1, share=GIB),
}


def test_ones_own_come_first() -> None:
    assert shape_of("P4000", 0, OWN, [LARGE]) == (OWN["P4000"], "")
    assert shape_of("p4000", 0, OWN, None) == (OWN["P4000"], "")
    assert shape_of("Free-P4000", 0, OWN, None) == (replace(OWN["P4000"], preemptible=True, priority=FREE_PRIORITY), "")
    assert shape_of("bigx4", 0, OWN, [LARGE]) == (Shape(gpus=8, cpus=32, memory=4 * GIB), "")
    assert shape_of("big", 1, OWN, [LARGE]) == (Shape(gpus=1, cpus=8, memory=GIB), "")


def test_a_part_of_a_gpu_is_not_multiplied() -> None:
    assert shape_of("soft", 2, OWN, [LARGE]) == (Shape(gpus=2), "`soft` is a part of one GPU: it gets 2 whole ones")
    assert shape_of("P4000", 2, OWN, [LARGE])[0] == OWN["P4000"]
    assert shape_of("softx2", 0, OWN, [LARGE])[0] == Shape()
    assert shape_of("P4000x2", 0, OWN, [MIDDLE, LARGE])[0].gpus == 2


def test_a_name_that_nobody_knows_gets_what_the_setting_says() -> None:
    assert shape_of("ours", 0, OWN, [LARGE]) == (
        Shape(),
        "`ours` is no machine type that is known here: it runs without a GPU",
    )
    shape, warning = shape_of("ours", 0, OWN, [LARGE], default="big")
    assert (shape, warning) == (OWN["big"], "`ours` is no machine type that is known here: it gets `big`")
    shape, warning = shape_of("ours", 0, OWN, [LARGE], default="A100-80G")
    assert shape.gpus == 1
    assert warning.endswith("it gets `A100-80G`; `A100-80G` asks for 80G of GPU memory, and the largest here has 48G")
    assert shape_of("ours", 3, OWN, [LARGE]) == (
        Shape(gpus=3),
        "`ours` is no machine type that is known here: it gets 3 GPUs",
    )
    assert shape_of("ours", 0, {}, [LARGE], default="ours")[0] == Shape()
    assert "\x1b" not in shape_of("\x1b[2J", 0, {}, [LARGE])[1]


CARDS = st.lists(
    st.builds(whole, st.integers(0, 99), st.none() | st.floats(1, 100))
    | st.builds(
        part, st.integers(0, 99), st.sampled_from(["1g.10gb", "2g.20gb", "7g.80gb"]), st.none() | st.floats(1, 100)
    ),
    max_size=8,
)


@given(st.sampled_from(NAMES), st.sampled_from(["", "x2", "x4"]), CARDS)
def test_what_the_machine_can_give_is_never_asked_for_in_vain(name: str, many: str, cards: Sequence[Card]) -> None:
    """If there are as many whole cards as the name asks for, these or an instance do for the shape, in any order."""
    shape, warning = shape_of(name + many, 0, {}, cards)
    assert (shape, warning) == shape_of(name + many, 0, {}, list(reversed(cards)))
    enough = [card for card in cards if card.kind == ("mig" if shape.mig else "whole")]
    fitting = [
        card
        for card in enough
        if card.profile == shape.mig and (not shape.least or (card.memory is not None and card.memory >= shape.least))
    ]
    whole_ones = [card for card in cards if card.kind == "whole"]
    if shape.gpus and (len(whole_ones) >= shape.gpus or (cards and shape.gpus == 1)):
        assert len(fitting) >= shape.gpus
    if shape.gpus and not warning and cards:
        assert len(fitting) >= shape.gpus
