"""How a deployment gets from the replicas that run to the ones that are declared. Pure: facts and `now` in, plan out.

A revision is a spec that was applied. Its replicas are made all at once beside those of the revision that serves; they
take the traffic together, when the last of them is ready, and only then do the others leave. A revision that never
gets there takes no traffic and is undone; the one before it goes on. Where there is none, it is tried again with
growing pauses. Two revisions that do not fit side by side are swapped: the others leave first, and requests wait.

Replicas belong to a revision by digest, not by generation: to scale, or to apply again what still runs, replaces none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from appliance.deployments.facts import Facts, Phase, Place, Plan, Replica, Revision

BACKOFF_FIRST_S = 1.0
BACKOFF_MOST_S = 300.0
LONG_LIFE_S = 600.0
"""A replica that lived so long ends the row of quick endings before it."""
LOOP = 3
"""So many quick endings in a row are called a crash loop."""
PROGRESS_EVERY_S = 1.0
BLOCKED_EVERY_S = 5.0
YOUNG_S = 10.0
"""So long nobody is told that a new replica does not answer yet."""
LOOK_S = 10.0
"""A daemon that begins anew looks so long before it judges by what it finds: no probe has spoken yet."""


@dataclass(slots=True)
class _Upkeep:
    """What one revision needs to have its replicas."""

    kept: list[Replica] = field(default_factory=list)
    retire: list[Replica] = field(default_factory=list)
    make: list[Place] = field(default_factory=list)
    next: list[Place] = field(default_factory=list)
    wake: list[float] = field(default_factory=list)


def decide(facts: Facts, now: float) -> Plan:
    plan = _decide(facts, now)
    if not facts.undone or not (facts.wanted.replicas or facts.asleep):
        return plan
    phase: Phase = "Degraded" if plan.phase == "Ready" else plan.phase
    return replace(plan, phase=phase, message=f"{facts.undone}; {plan.message}")


def _decide(facts: Facts, now: float) -> Plan:
    wanted = facts.wanted
    if wanted.replicas == 0:
        return _disable(facts)
    current = _upkeep(wanted, facts, now)
    complete = sum(replica.able for replica in current.kept) >= wanted.replicas
    fallback = None if complete else _fallback(facts)
    crossing = _is_crossing(facts, complete=complete)
    held = not (crossing and not _strangers(facts, wanted)) and _hold_back(facts, current)
    crossing = crossing and not held
    undo = "" if held else _undo(facts, current.kept, complete=complete, now=now)
    old = _upkeep(fallback, facts, now) if fallback and not crossing else _Upkeep()
    _make_room(facts, fallback, current, old, crossing=crossing, complete=complete)
    known = {replica.id for upkeep in (current, old) for replica in (*upkeep.kept, *upkeep.retire)}
    others = [replica for replica in facts.replicas if replica.id not in known]
    able = [replica for replica in current.kept if replica.able]
    serve = able if crossing else _serve(facts, able, old.kept, others, complete=complete)
    plan = Plan(
        phase=_phase(facts, current.kept, serve, complete=complete, held=held, now=now),
        message=_message(facts, current.kept, serve, complete=complete, held=held, crossing=crossing, now=now),
        serve=tuple(serve),
        undo_at=None if held else _undo_at(facts, complete=complete),
        undo=undo,
        complete=complete,
        swapping=crossing,
    )
    if undo:
        return plan
    started = [*([] if _must_wait(facts, wanted, crossing) else current.kept), *old.kept]
    return replace(
        plan,
        make=(*(current.make if facts.prepared == "ready" else ()), *old.make),
        next=tuple(current.next),
        start=tuple(replica for replica in started if replica.state == "created"),
        halt=tuple(one for one in (*current.kept, *old.kept) if one.state == "running" and one.sick),
        retire=(*current.retire, *old.retire, *(other for other in others if other not in serve)),
        prepare=bool(current.make) and _should_prepare(facts, now),
        wake=_wake(facts, current, old, complete=complete, held=held, now=now),
    )


def _is_crossing(facts: Facts, *, complete: bool) -> bool:
    """All is here that the wanted revision needs but room: it is made once the others are gone."""
    return facts.swap and facts.prepared == "ready" and bool(facts.since) and not complete


def _strangers(facts: Facts, revision: Revision) -> bool:
    """Others than this revision's replicas still take room."""
    there = (*facts.replicas, *facts.leaving)
    return any(replica.digest != revision.digest and replica.state != "ended" for replica in there)


def _must_wait(facts: Facts, revision: Revision, crossing: bool) -> bool:
    return crossing and _strangers(facts, revision)


def _make_room(
    facts: Facts, fallback: Revision | None, current: _Upkeep, old: _Upkeep, *, crossing: bool, complete: bool
) -> None:
    """Of two that do not fit side by side only one is made, and only when nobody else takes its room."""
    if not facts.swap or complete:
        return
    if crossing:
        if _strangers(facts, facts.wanted):
            current.next, current.make = current.make, []
    elif fallback and _strangers(facts, fallback):
        old.make = []


def _may_undo(facts: Facts, *, complete: bool) -> bool:
    if complete or not facts.back or facts.blocked or facts.in_queue or was_whole(facts.stable, facts.wanted):
        return False
    return facts.stable is None or facts.stable.digest != facts.wanted.digest


def _undo_at(facts: Facts, *, complete: bool) -> float | None:
    """When the wanted revision is given up unless it is ready by then; None: it is not."""
    begun = _begun(facts) if facts.since else facts.asked if facts.prepared == "failed" else 0.0
    if not begun or not _may_undo(facts, complete=complete):
        return None
    return max(begun + facts.deadline_s, facts.looking + LOOK_S)


def _undo(facts: Facts, kept: Sequence[Replica], *, complete: bool, now: float) -> str:
    """Why the wanted revision is given up; empty: it is not."""
    if not _may_undo(facts, complete=complete):
        return ""
    ill = next((f"replica {one.part}: {_ill(one)}" for one in kept if not one.able and _ill(one)), "")
    because = f": {ill}" if ill else ""
    if not any(replica.able for replica in kept) and any(_loops(replica) for replica in kept):
        return f"its replicas end again and again{because}"
    if now < facts.looking + LOOK_S:
        return ""
    if _late(facts, now):
        hurry = f" of the {facts.hurry_s:.0f} s that requests wait (rollout.hold)" if facts.hurry_s else ""
        lacks = f": {facts.waits}" if facts.waits else because
        return f"it was not ready after {facts.deadline_s:.0f} s{hurry}{lacks}"
    if facts.prepared == "failed" and not facts.since and now >= facts.asked + facts.deadline_s:
        return f"it could not begin within {facts.deadline_s:.0f} s: {facts.prepare_message}"
    return ""


def _ill(replica: Replica) -> str:
    return replica.ending if replica.state == "ended" else replica.sick or replica.said


def _loops(replica: Replica) -> bool:
    return not replica.interrupted and replica.streak + (replica.state == "ended") >= LOOP


def restart_at(ended: Replica) -> float:
    """When an ended replica is made again, unix seconds."""
    if ended.interrupted:
        return ended.ended
    return ended.ended + min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** (min(streak(ended), 30) - 1))


def streak(ended: Replica) -> int:
    """Quick endings in a row, this one included; a long life begins a new row, and who was interrupted has none."""
    if ended.interrupted:
        return 0
    return 1 if ended.ended - ended.started >= LONG_LIFE_S else ended.streak + 1


def _disable(facts: Facts) -> Plan:
    left = len(facts.replicas) + len(facts.leaving)
    if left:
        message = "1 replica is ending" if left == 1 else f"{left} replicas are ending"
        return Plan("Updating", message, retire=facts.replicas)
    if facts.asleep:
        return Plan("Asleep", facts.asleep, complete=True)
    return Plan("Disabled", "no replica is declared; the data of its models is kept", complete=True)


def _fallback(facts: Facts) -> Revision | None:
    """The revision that has to go on until the wanted one is ready."""
    stable = facts.stable
    return stable if stable and stable.replicas and stable.digest != facts.wanted.digest else None


def _upkeep(revision: Revision, facts: Facts, now: float) -> _Upkeep:
    """Keep the newest replica of each place, the best places first; make what is missing or due for a restart."""
    places: dict[int, list[Replica]] = {}
    for replica in facts.replicas:
        if replica.digest == revision.digest:
            places.setdefault(replica.index, []).append(replica)
    newest = {index: max(found, key=lambda one: (one.restarts, one.generation)) for index, found in places.items()}
    best = sorted(newest.values(), key=_rank)
    kept = best[: revision.replicas]
    upkeep = _Upkeep(kept=kept)
    upkeep.retire = [one for found in places.values() for one in found if one not in kept]
    for replica in kept:
        if replica.state != "ended":
            continue
        if now >= restart_at(replica) or replica.interrupted:
            excused = replica.excused + replica.interrupted
            upkeep.make.append(Place(revision, replica.index, replica.restarts + 1, streak(replica), excused))
        else:
            upkeep.wake.append(restart_at(replica))
    # a replica that is leaving has its name until it is gone, and its GPUs
    leaving = (one for one in facts.leaving if revision.generation == one.generation or revision.digest == one.digest)
    taken = {*places, *(replica.index for replica in leaving)}
    free = (index for index in itertools.count() if index not in taken)
    upkeep.make += [Place(revision, next(free)) for _ in range(revision.replicas - len(kept))]
    return upkeep


def _rank(replica: Replica) -> tuple[bool, bool, int]:
    """Scaling down takes the last of this order first."""
    return (not replica.ready, replica.state == "ended", replica.index)


def _serve(
    facts: Facts, able: Sequence[Replica], old: Sequence[Replica], others: Sequence[Replica], *, complete: bool
) -> Sequence[Replica]:
    """One revision serves at a time: the wanted one as soon as it is whole, else what was ready before it."""
    if complete or (able and facts.stable and facts.stable.digest == facts.wanted.digest):
        return able
    before = [replica for replica in old if replica.able]
    return before or _one_revision([other for other in others if other.able]) or able


def _one_revision(replicas: Sequence[Replica]) -> list[Replica]:
    newest = max(replicas, key=lambda replica: replica.generation, default=None)
    return [replica for replica in replicas if newest and replica.digest == newest.digest]


def _hold_back(facts: Facts, upkeep: _Upkeep) -> bool:
    """Take out what may not begin; True: there was some. To make again what has run before is no new work."""
    if not facts.blocked or was_whole(facts.stable, facts.wanted):
        return False
    wanted, upkeep.make = upkeep.make, [place for place in upkeep.make if place.restarts]
    return len(wanted) > len(upkeep.make)


def _should_prepare(facts: Facts, now: float) -> bool:
    return facts.prepared == "unknown" or (facts.prepared == "failed" and now >= facts.prepare_retry_at)


def _late(facts: Facts, now: float) -> bool:
    return bool(facts.since) and not facts.in_queue and now >= _begun(facts) + facts.deadline_s


def _begun(facts: Facts) -> float:
    """Since when its time runs. The machine may have been off meanwhile, but whoever waits in a swap has waited on."""
    return facts.since if facts.swap else max(facts.since, facts.looking)


def _growing(facts: Facts, kept: Sequence[Replica], now: float) -> bool:
    """Whoever is not able has come since the load asked for more, or for the first after a sleep, or resumes."""
    ill = [replica for replica in kept if not replica.able]
    asked = bool(facts.scaled) and now < facts.scaled + facts.deadline_s
    if not asked and not any(one.interrupted or one.resumed for one in ill):
        return False
    return all(one.interrupted or _resuming(one, facts, now) or (asked and _has_come(one, facts.scaled)) for one in ill)


def _resuming(replica: Replica, facts: Facts, now: float) -> bool:
    in_time = not replica.started or now < replica.started + facts.deadline_s
    return replica.resumed and replica.state != "ended" and not replica.sick and in_time


def _has_come(replica: Replica, since: float) -> bool:
    """With nothing before it in its place."""
    new = not replica.restarts and replica.state != "ended" and not replica.sick
    return new and (not replica.started or replica.started >= since - 1.0)


def was_whole(stable: Revision | None, wanted: Revision) -> bool:
    """The wanted generation has been ready as a whole before."""
    return stable is not None and (stable.generation, stable.digest) == (wanted.generation, wanted.digest)


def _wake(facts: Facts, current: _Upkeep, old: _Upkeep, *, complete: bool, held: bool, now: float) -> float | None:
    times = [*old.wake, *current.wake]
    times += [one.started + YOUNG_S for one in current.kept if one.state == "running" and one.said and not one.ready]
    if current.make and facts.prepared == "busy":
        times.append(now + PROGRESS_EVERY_S)
    if held:
        times.append(now + BLOCKED_EVERY_S)
    if facts.waits:
        times.append(now + BLOCKED_EVERY_S)
    if current.make and facts.prepared == "failed":
        times.append(facts.prepare_retry_at)
    if not complete and not was_whole(facts.stable, facts.wanted):
        begun = _begun(facts) if facts.since else facts.asked
        times += [max(begun + facts.deadline_s, facts.looking + LOOK_S)] if begun else []
    return min((at for at in times if at > now), default=None)


def _phase(
    facts: Facts, kept: Sequence[Replica], serve: Sequence[Replica], *, complete: bool, held: bool, now: float
) -> Phase:
    if complete:
        return "Ready"
    looping = any(_loops(replica) for replica in kept)
    if was_whole(facts.stable, facts.wanted):
        if _growing(facts, kept, now):
            return "Updating" if serve else "Starting"
        return "Failed" if looping and not serve else "Degraded"
    if (held or facts.waits) and not looping:
        return "Updating" if serve else "Pending"
    if looping or facts.prepared == "failed" or _late(facts, now):
        return "Degraded" if serve else "Failed"
    if serve:
        return "Updating"
    return "Starting" if facts.prepared == "ready" else "Preparing"


def _message(
    facts: Facts,
    kept: Sequence[Replica],
    serve: Sequence[Replica],
    *,
    complete: bool,
    held: bool,
    crossing: bool,
    now: float,
) -> str:
    wanted = facts.wanted
    parts = [f"{sum(replica.able for replica in kept)} of {wanted.replicas} replicas ready"]
    if complete:
        return "; ".join([*parts, *([_others(len(facts.leaving))] if facts.leaving else [])])
    if held or facts.waits:
        parts.insert(0, "; ".join(filter(None, (facts.blocked if held else "", facts.waits))))
    elif facts.prepared != "ready" and facts.prepare_message:
        parts.insert(0, facts.prepare_message)
    elif not was_whole(facts.stable, facts.wanted) and _late(facts, now):
        parts.append(f"generation {wanted.generation} is not ready after {facts.deadline_s:.0f} s")
    if crossing and not serve:
        parts.insert(0, "one revision takes over from another, and requests wait")
    if serve and serve[0].digest != wanted.digest:
        parts.append(f"generation {serve[0].generation} goes on serving")
    ill = [replica for replica in kept if not replica.able and describe(replica, now)]
    return "; ".join([*parts, *(f"replica {replica.part}: {describe(replica, now)}" for replica in ill[:1])])


def _others(count: int) -> str:
    return "1 other is leaving" if count == 1 else f"{count} others are leaving"


def _young(replica: Replica, now: float) -> bool:
    """It has only just begun: that its probes fail says nothing yet."""
    return bool(replica.started) and now < replica.started + YOUNG_S and not replica.failures


def describe(replica: Replica, now: float) -> str:
    """What is wrong with a replica, and when it is made again; empty: nothing is known."""
    if replica.state != "ended":
        return replica.sick or ("" if replica.ready or _young(replica, now) else replica.said)
    if replica.interrupted:
        return f"{replica.ending}; it begins again"
    wait = max(0.0, restart_at(replica) - now)
    return f"{replica.ending}; restart {replica.failures + 1} in {wait:.0f} s"
