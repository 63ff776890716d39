"""Who holds the space, which moments hold most of it, and how long the rest lasts. Pure: figures in, figures out.

A snapshot alone often frees little: what two of them share, neither holds alone. So beside single snapshots there are
groups, all moments of a volume that may go, with what comes back if they go together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from appliance.state.snapshots import Snapshot
from appliance.storage.base import Reclaim, Usage

DAY_S = 86_400.0
WINDOW_S = 7 * DAY_S
LEAST_S = DAY_S
"""Growth of less than a day says nothing of a day."""
MOST_HOLDERS = 20
MOST_GROUPS = 8
LEAST_SHARED = 64 << 20
"""Bytes that a volume's snapshots hold together and none alone, from which on they are worth a look as a group."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Something with volumes. Sizes in bytes."""

    kind: str
    """`notebook`, `deleted` (a notebook in the trash), `dataset`, `run`, `shared` or `system`; `?` for volumes that
    belong to nothing known."""
    name: str
    live: int
    """What its present files refer to, shared with others or not."""
    history: int
    """On the disk for its past: would come back, at the least, if only the present files were kept."""
    unique: int
    """Comes back if it goes with all its past; at the least, where others were made from it."""
    disk: int
    """Counted to it and to no one else: what a fork shares with its source counts to the source."""


@dataclass(frozen=True, slots=True)
class Holder:
    """One snapshot, or several that hold together what none holds alone."""

    kind: str
    name: str
    """Of the owner."""
    snapshots: tuple[str, ...]
    """Oldest first."""
    bytes: int
    """What comes back if these go and no others."""
    exact: bool
    """False: at least so much."""
    created: float
    """Of the oldest, unix seconds; 0: not known."""
    cause: str
    message: str
    held: bool
    """Somebody holds it, so it is never pruned."""


@dataclass(frozen=True, slots=True)
class Written:
    """A moment or a version."""

    at: float
    bytes: int | None
    """That it added; None: nobody knows."""


@dataclass(frozen=True, slots=True)
class Growth:
    per_day: float | None
    """Bytes; None: too little is known, and `why` says what."""
    days: float
    """Seen so long."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    low_in_days: float | None
    """New work waits from then on; None: not at this pace."""
    full_in_days: float | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the state tells of the volumes."""

    names: Mapping[str, tuple[str, str]]
    """First two parts of a volume's name, such as `datasets/UID` -> kind and name of its owner."""
    sources: Collection[str]
    """Owners, as in `names`, that others were made from: what these share with them stays if they go."""
    heads: Collection[str]
    """Volumes that are a workspace's present."""
    moments: Mapping[str, Snapshot]
    """By snapshot id."""
    held: Collection[str]
    """Ids of moments that somebody holds."""
    ended: Mapping[str, float] = field(default_factory=dict)
    """First two parts of a run's volumes -> when it ended, or began where it goes on, unix seconds."""


def owner_of(volume: str, known: Known) -> tuple[str, str]:
    """Kind and name."""
    room, _, rest = volume.partition("/")
    if room in ("storage", "system"):
        return ("shared", "storage") if room == "storage" else ("system", rest.partition("/")[0] or room)
    return known.names.get(_key(volume), ("?", _key(volume)))


def owners(usages: Mapping[str, Usage], known: Known) -> list[Owner]:
    """Who holds most comes first."""
    volumes: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for volume in usages:
        volumes[owner_of(volume, known)].append(volume)
    found = []
    for (kind, name), theirs in volumes.items():
        present = [volume for volume in theirs if not _is_past(volume, known)]
        disk = sum(usages[volume].unique + usages[volume].shared for volume in theirs)
        live = sum(usages[volume].referenced for volume in present)
        # what lies below a fork is its source's, so there the second figure is the better one
        history = max(disk - live, sum(usages[volume].history for volume in present))
        alone = not any(_key(volume) in known.sources for volume in theirs)
        unique = disk if alone else sum(usages[volume].unique for volume in theirs)
        found.append(Owner(kind, name, live, max(0, history), unique, disk))
    return sorted(found, key=lambda owner: (-owner.disk, -owner.live, owner.kind, owner.name))


def _key(volume: str) -> str:
    return "/".join(volume.split("/")[:2])


def _is_past(volume: str, known: Known) -> bool:
    """A workspace that was rolled back keeps the volumes it was on."""
    return volume.startswith("workspaces/") and volume not in known.heads


def groups_to_ask(usages: Mapping[str, Usage], known: Known) -> list[tuple[str, tuple[str, ...]]]:
    """Volumes whose snapshots hold much together that none holds alone, each with those that may go; few."""
    found = []
    for volume, usage in usages.items():
        free = tuple(snapshot for snapshot in usage.snapshots if snapshot not in known.held)
        shared = usage.history - sum(usage.snapshots.values())
        if len(free) > 1 and shared >= max(LEAST_SHARED, usage.history // 20):
            found.append((shared, volume, free))
    return [(volume, free) for _, volume, free in sorted(found, reverse=True)[:MOST_GROUPS]]


def holders(
    usages: Mapping[str, Usage], groups: Iterable[tuple[str, tuple[str, ...], Reclaim]], known: Known
) -> list[Holder]:
    """Single snapshots and groups that hold anything, most first, the few largest."""
    found = [
        _holder(volume, (snapshot,), Reclaim(size, exact=True), known)
        for volume, usage in usages.items()
        for snapshot, size in usage.snapshots.items()
        if size > 0
    ]
    found += [_holder(volume, snapshots, back, known) for volume, snapshots, back in groups if back.bytes > 0]
    return sorted(found, key=lambda holder: (-holder.bytes, holder.name, holder.created))[:MOST_HOLDERS]


def _holder(volume: str, snapshots: tuple[str, ...], back: Reclaim, known: Known) -> Holder:
    kind, name = owner_of(volume, known)
    first = known.moments.get(snapshots[0])
    one = first if len(snapshots) == 1 else None
    cause = one.cause if one else "backup" if snapshots[0].startswith("backup-") else ""
    created = first.created if first else 0.0
    message = one.message if one else f"{len(snapshots)} snapshots together" if len(snapshots) > 1 else ""
    if first is None and not cause and kind == "run":
        cause, created = "run", known.ended.get(_key(volume), 0.0)
        message = message or "as its job left it"
    return Holder(
        kind,
        name,
        snapshots,
        back.bytes,
        back.exact,
        created=created,
        cause=cause if len(snapshots) == 1 else "",
        message=message,
        held=any(snapshot in known.held for snapshot in snapshots),
    )


def growth(written: Sequence[Written], since: float | None, now: float) -> Growth:
    """Of the last days, from what still exists of what was added. `since`: the oldest moment or version of all.

    What was pruned meanwhile came back and is not in it; what a live file was overwritten with counts as often as it
    was kept. So it is the pace at which the space goes while nothing is pruned.
    """
    if since is None:
        return Growth(None, 0.0, "nothing has been kept yet")
    span = min(WINDOW_S, now - since)
    if span < LEAST_S:
        return Growth(None, max(0.0, span) / DAY_S, "there is less than a day of history")
    recent = [each for each in written if each.at >= now - WINDOW_S]
    sizes = [each.bytes for each in recent if each.bytes is not None]
    unknown = len(recent) - len(sizes)
    if recent and unknown > len(recent) / 2:
        return Growth(None, span / DAY_S, f"of {unknown} of {len(recent)} moments and versions nobody knows the size")
    why = f"{unknown} moments and versions of unknown size are not counted" if unknown else ""
    return Growth(sum(sizes) * DAY_S / span, span / DAY_S, why)


def forecast(free: int, low: int, pace: Growth) -> Forecast:
    """`free` bytes at present; below `low` new work waits."""
    if not pace.per_day:
        return Forecast(None, None)
    return Forecast(max(0, free - low) / pace.per_day, free / pace.per_day)


def bounded(pace: Growth, most: int) -> Growth:
    """No more can have been added than is there: `most` bytes of all volumes."""
    if pace.per_day is None or pace.per_day * pace.days <= most:
        return pace
    return replace(pace, per_day=most / pace.days)
