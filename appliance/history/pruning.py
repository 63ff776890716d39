"""Letting moments go: what retention says, and then the bytes. A row goes first; `clear` finds what it left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from appliance.history.retention import Policy, Verdict, judge
from appliance.history.volumes import Volumes
from appliance.state import snapshots
from appliance.state.db import Database
from appliance.state.snapshots import Snapshot
from appliance.storage.base import Reclaim, Store
from appliance.storage.threads import in_thread


@dataclass(frozen=True, slots=True)
class Pruning:
    verdicts: Sequence[Verdict]
    """Oldest first."""
    reclaim: Reclaim | None
    """What comes back; None: it was not asked for."""

    @property
    def going(self) -> list[Snapshot]:
        return [verdict.moment for verdict in self.verdicts if not verdict.why]


async def look(
    db: Database,
    store: Store,
    uid: str,
    held: Mapping[str, Sequence[str]],
    policy: Policy,
    now: float,
    *,
    measure: bool,
) -> Pruning:
    """What would go. Changes nothing; it stays true as long as the caller holds the workspace's lock."""
    found = Pruning(judge(snapshots.of_workspace(db.read, uid), held, policy, now), None)
    if not measure:
        return found
    left = {verdict.moment.volume for verdict in found.verdicts if verdict.why}
    return Pruning(found.verdicts, await _reclaim(store, found.going, {*left, snapshots.head(db.read, uid)}))


async def carry_out(db: Database, volumes: Volumes, uid: str, found: Pruning) -> None:
    """What has no row afterwards is destroyed; what somebody looks at now, or a kill leaves, goes the next time."""
    if going := found.going:
        with db.write() as transaction:
            snapshots.remove(transaction, uid, [moment.id for moment in going])
    await volumes.clear(uid)
    await volumes.clear_snapshots(uid)


async def _reclaim(store: Store, going: Iterable[Snapshot], staying: set[str | None]) -> Reclaim:
    """A volume that is not among `staying` goes with all that is in it."""
    by_volume: defaultdict[str, list[str]] = defaultdict(list)
    for moment in going:
        by_volume[moment.volume].append(moment.id)
    total, exact = 0, True
    for volume, ids in by_volume.items():
        if volume in staying:
            answer = await in_thread(store.reclaimable, volume, ids)
        else:
            answer = Reclaim((await in_thread(store.usage, volume)).unique, exact=len(by_volume) == 1)
        total += answer.bytes
        exact = exact and answer.exact
    return Reclaim(total, exact)
