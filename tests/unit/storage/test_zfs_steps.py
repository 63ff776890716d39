"""What has to be sent to another place, planned from listings, and carried out by a model of send and receive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.storage.zfs.steps import Dataset, Moment, Step, parse, steps, volume_of

HERE, THERE = "tank/volumes", "far/backup"
LISTING = """\
tank/volumes\tguid\t1
tank/volumes\tcreatetxg\t5
tank/volumes\torigin\t-
tank/volumes\tappliance:sealed\t-
tank/volumes/v\tguid\t2
tank/volumes/v\tcreatetxg\t6
tank/volumes/v\torigin\ttank/volumes/u@s
tank/volumes/v\tappliance:sealed\ton
tank/volumes/v@new\tguid\t4
tank/volumes/v@new\tcreatetxg\t20
tank/volumes/v@new\torigin\t-
tank/volumes/v@old\tguid\t3
tank/volumes/v@old\tcreatetxg\t9
tank/volumes/v@old\torigin\t-
"""


def test_a_listing_is_read_with_snapshots_in_the_order_they_were_taken() -> None:
    assert parse(LISTING) == {
        "tank/volumes": Dataset("tank/volumes", "", sealed=False, moments=()),
        "tank/volumes/v": Dataset(
            "tank/volumes/v",
            "tank/volumes/u@s",
            sealed=True,
            moments=(Moment("old", "3", 9), Moment("new", "4", 20)),
        ),
    }


def test_what_follows_a_colon_is_not_part_of_the_volume() -> None:
    assert [volume_of(f"{THERE}/{name}", THERE) for name in ("a/b", "a/b:1", "v:12")] == ["a/b", "a/b", "v"]


class Place:
    """Datasets below `top`, as ZFS would have them after each operation."""

    def __init__(self, top: str, datasets: dict[str, Dataset] | None = None) -> None:
        self.top = top
        self.datasets = {top: Dataset(top, "", sealed=False, moments=())} | (datasets or {})

    def guids(self) -> set[str]:
        return {moment.guid for dataset in self.datasets.values() for moment in dataset.moments}

    def receive(self, step: Step, sources: dict[str, Dataset]) -> None:
        """What `zfs receive` refuses fails here."""
        source, _, last = step.source.partition("@")
        moments = sources[source].up_to(last)
        assert moments
        base = None
        if step.base:
            dataset, _, name = step.base.partition("@")
            (base,) = [moment for moment in sources[dataset].moments if moment.name == name]
            assert base.guid in self.guids(), "the base is not there"
            new = moments[moments.index(base) + 1 :] if base in moments else moments
        else:
            new = moments
            assert len(new) == 1, "a whole snapshot is sent alone"
        assert new
        if step.exists:
            there = self.datasets[step.into]
            assert base
            assert there.moments[-1].guid == base.guid, "it was changed since"
            self.datasets[step.into] = replace(there, moments=there.moments + new)
        else:
            assert step.into not in self.datasets
            origin = next(
                (
                    f"{dataset.name}@{moment.name}"
                    for dataset in self.datasets.values()
                    for moment in dataset.moments
                    if base and moment.guid == base.guid
                ),
                "",
            )
            self.datasets[step.into] = Dataset(step.into, origin, sealed=False, moments=new)


class World:
    """A store in which volumes are made, cloned, frozen and destroyed, the history going over to clones."""

    def __init__(self) -> None:
        self.datasets: dict[str, Dataset] = {}
        self.count = 0

    def create(self, volume: str) -> None:
        name = f"{HERE}/{volume}"
        self.datasets.setdefault(name, Dataset(name, "", sealed=False, moments=()))

    def freeze(self, volume: str, snapshot: str) -> None:
        name = f"{HERE}/{volume}"
        if name in self.datasets and not self.datasets[name].up_to(snapshot):
            self.count += 1
            moment = Moment(snapshot, f"g{self.count}", self.count)
            found = self.datasets[name]
            self.datasets[name] = replace(found, moments=(*found.moments, moment))

    def clone(self, volume: str, new: str) -> None:
        source, name = self.datasets.get(f"{HERE}/{volume}"), f"{HERE}/{new}"
        if source and source.moments and name not in self.datasets:
            moment = source.moments[len(source.moments) // 2]
            self.datasets[name] = Dataset(name, f"{source.name}@{moment.name}", sealed=False, moments=())

    def destroy(self, volume: str) -> None:
        name = f"{HERE}/{volume}"
        gone = self.datasets.pop(name, None)
        if gone is None:
            return
        clones = [dataset for dataset in self.datasets.values() if dataset.origin.startswith(f"{name}@")]
        if not clones:
            return
        index = {moment.name: number for number, moment in enumerate(gone.moments)}
        heir = max(clones, key=lambda clone: index[clone.origin.partition("@")[2]])
        needed = {clone.origin.partition("@")[2] for clone in clones}
        handed = tuple(replace(moment, name=f"left:{moment.guid}") for moment in gone.moments if moment.name in needed)
        new_names = {moment.name: f"{heir.name}@left:{moment.guid}" for moment in gone.moments}
        for clone in clones:
            origin = gone.origin if clone is heir else new_names[clone.origin.partition("@")[2]]
            self.datasets[clone.name] = replace(clone, origin=origin)
        self.datasets[heir.name] = replace(self.datasets[heir.name], moments=handed + heir.moments)


def plan(world: World, place: Place, point: str) -> list[Step]:
    wanted = {name[len(HERE) + 1 :]: name for name in world.datasets}
    return steps(world.datasets, wanted, point, place.datasets, place.top)


def back_up(world: World, place: Place, point: str, interrupted_after: int = 99) -> None:
    for name in world.datasets:
        world.freeze(name[len(HERE) + 1 :], point)
    for step in plan(world, place, point)[:interrupted_after]:
        place.receive(step, world.datasets)


NAMES = st.sampled_from(["a", "b", "c/1", "c/2"])
DEEDS = st.one_of(
    st.tuples(st.just("create"), NAMES),
    st.tuples(st.just("freeze"), NAMES),
    st.tuples(st.just("clone"), NAMES, NAMES),
    st.tuples(st.just("destroy"), NAMES),
    st.tuples(st.just("backup"), st.integers(0, 5)),
)


@given(st.lists(DEEDS, max_size=25))
def test_every_plan_can_be_carried_out_and_brings_everything_over(deeds: list[tuple[Any, ...]]) -> None:
    world, place = World(), Place(THERE)
    points = 0
    for number, (deed, *names) in enumerate([*deeds, ("backup", 99)]):
        if deed != "backup":
            more = [f"s{number}"] if deed == "freeze" else []
            getattr(world, deed)(*names, *more)
            continue
        points += 1
        back_up(world, place, f"b{points}", interrupted_after=int(names[0]))
    assert plan(world, place, f"b{points}") == [], "nothing is sent twice"
    for name, dataset in world.datasets.items():
        volume = name[len(HERE) + 1 :]
        ends = [
            there
            for there in place.datasets.values()
            if there.name != THERE and volume_of(there.name, THERE) == volume and there.up_to(f"b{points}")
        ]
        assert [there.moments[-1].guid for there in ends] == [dataset.moments[-1].guid]
        assert {moment.guid for moment in dataset.moments} <= place.guids()
    back = Place("tank2/volumes")
    wanted = {
        volume_of(name, THERE): name
        for name, found in place.datasets.items()
        if name != THERE and found.up_to(f"b{points}")
    }
    for step in steps(place.datasets, wanted, f"b{points}", back.datasets, back.top):
        assert ":" not in step.into, "an empty store has room for every name"
        back.receive(step, place.datasets)
    assert {volume_of(name, back.top) for name in back.datasets if name != back.top} == set(wanted)


def test_a_volume_without_the_snapshot_is_left_out() -> None:
    world = World()
    world.create("a")
    world.freeze("a", "other")
    assert plan(world, Place(THERE), "b1") == []


@pytest.mark.parametrize("again", [1, 2])
def test_a_volume_that_took_another_course_gets_a_name_beside_it(again: int) -> None:
    place = Place(THERE)
    for number in range(again + 1):
        world = World()
        world.count = 100 * number
        world.create("v")
        back_up(world, place, f"b{number}")
    assert set(place.datasets) == {THERE, f"{THERE}/v", *(f"{THERE}/v:{number + 1}" for number in range(again))}
