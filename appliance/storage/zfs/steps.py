"""What has to be sent so that another place has the same volumes: a plan from two listings. Pure.

Snapshots are known by GUID: it stays what it is when a snapshot is renamed, promoted or received. So nobody keeps
books about what was sent before, and a copy that a rename or a promote has taken apart is still recognised.

A dataset of the other place that took another course than ours (its newest snapshot is none of ours) is left as it
is; the volume is sent anew beside it, as `VOLUME:1`. What follows a colon is not part of a volume's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SEALED = "appliance:sealed"
"""Property of a volume that is read-only for good. `readonly` itself is what zfs-fuse has mounted, and that lies."""
PROPERTIES = f"guid,createtxg,origin,{SEALED}"


@dataclass(frozen=True, slots=True)
class Moment:
    name: str
    """Without the dataset."""
    guid: str
    order: int


@dataclass(frozen=True, slots=True)
class Dataset:
    name: str
    origin: str
    """`DATASET@SNAPSHOT`, empty where it is no clone."""
    sealed: bool
    moments: tuple[Moment, ...]
    """Oldest first."""
    token: str = ""
    """Of a receive that was cut off and can go on."""

    def up_to(self, snapshot: str) -> tuple[Moment, ...]:
        """Empty where it has no such snapshot."""
        for index, moment in enumerate(self.moments):
            if moment.name == snapshot:
                return self.moments[: index + 1]
        return ()


@dataclass(frozen=True, slots=True)
class Step:
    """One `zfs send | zfs receive`."""

    volume: str
    source: str
    """`DATASET@SNAPSHOT`."""
    base: str
    """`DATASET@SNAPSHOT` that the other place has; what lies between comes along. Empty: everything is sent."""
    into: str
    exists: bool
    """`into` is there and gets more snapshots."""


def parse(text: str) -> dict[str, Dataset]:
    """Name -> dataset, from `zfs get -r -H -p -o name,property,value` of PROPERTIES and perhaps the token."""
    values: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        name, key, value = line.split("\t", 2)
        values.setdefault(name, {})[key] = "" if value == "-" else value
    moments: dict[str, list[Moment]] = {}
    for name, found in values.items():
        dataset, at, snapshot = name.partition("@")
        if at:
            moments.setdefault(dataset, []).append(Moment(snapshot, found["guid"], int(found["createtxg"])))
    return {
        name: Dataset(
            name,
            found.get("origin", ""),
            found.get(SEALED) == "on",
            tuple(sorted(moments.get(name, ()), key=lambda moment: moment.order)),
            found.get("receive_resume_token", ""),
        )
        for name, found in values.items()
        if "@" not in name
    }


def volume_of(dataset: str, top: str) -> str:
    """The volume that a dataset below `top` has or had: `TOP/a/b:1` -> `a/b`."""
    return dataset[len(top) + 1 :].partition(":")[0]


def steps(
    sources: Mapping[str, Dataset], wanted: Mapping[str, str], snapshot: str, there: Mapping[str, Dataset], top: str
) -> list[Step]:
    """To have the volumes `wanted` (volume -> its dataset in `sources`) up to `snapshot` at `top`, clones as clones.

    `there` is what lies at `top` already. Volumes that lack the snapshot are left out.
    """
    guids = {f"{name}@{moment.name}": moment.guid for name, found in sources.items() for moment in found.moments}
    known = {moment.guid for dataset in there.values() for moment in dataset.moments}
    taken = set(there)
    found: list[Step] = []
    for volume in _origins_first(sources, wanted):
        source = sources[wanted[volume]]
        moments = source.up_to(snapshot)
        if not moments:
            continue
        mine = [dataset for name, dataset in there.items() if name != top and volume_of(name, top) == volume]
        follow = _follow(volume, source, moments, mine)
        if follow is None:
            into = _free(f"{top}/{volume}", taken)
            follow = _anew(volume, source, moments, into, clone=guids.get(source.origin, "") in known)
        found += follow
        known.update(moment.guid for moment in moments)
    return found


def _follow(volume: str, source: Dataset, moments: tuple[Moment, ...], mine: Iterable[Dataset]) -> list[Step] | None:
    """What continues one of the datasets `mine`; None where none of them can be continued."""
    guids = {moment.guid for dataset in mine for moment in dataset.moments}
    if moments[-1].guid in guids:
        return []
    newest = {dataset.moments[-1].guid: dataset for dataset in mine if dataset.moments}
    for moment in reversed(moments):
        if moment.guid in newest:
            into = newest[moment.guid].name
            last = f"{source.name}@{moments[-1].name}"
            return [Step(volume, last, f"{source.name}@{moment.name}", into, exists=True)]
    return None


def _anew(volume: str, source: Dataset, moments: tuple[Moment, ...], into: str, *, clone: bool) -> list[Step]:
    last = f"{source.name}@{moments[-1].name}"
    if clone:
        return [Step(volume, last, source.origin, into, exists=False)]
    first = f"{source.name}@{moments[0].name}"
    whole = Step(volume, first, "", into, exists=False)
    return [whole] if first == last else [whole, Step(volume, last, first, into, exists=True)]


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}:{number}"
    taken.add(name)
    return name


def _origins_first(sources: Mapping[str, Dataset], wanted: Mapping[str, str]) -> list[str]:
    """What a volume was cloned from comes before it."""
    volumes = {dataset: volume for volume, dataset in wanted.items()}
    ordered: dict[str, None] = {}
    for volume in sorted(wanted):
        chain: list[str] = []
        at: str | None = volume
        while at is not None and at not in ordered and at not in chain:
            chain.append(at)
            at = volumes.get(sources[wanted[at]].origin.partition("@")[0])
        ordered.update(dict.fromkeys(reversed(chain)))
    return list(ordered)
