"""The GPUs of replicas. Each place of a revision has a lease of its own: it is kept while the replica there is made
again, waits in the machine's queue while there is none, and is let go when the place is left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from appliance.deployments.facts import Place, Plan, Replica, Revision, part
from appliance.deployments.view import View
from appliance.scheduler.leasing import Leases
from appliance.scheduler.types import LOCAL, Answer, Who
from appliance.spec.models import Deployment
from appliance.state.resources import Resource

PRIORITY = 50
"""Somebody waits for an answer: before notebooks and jobs."""


class Leasing:
    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._asked: defaultdict[str, dict[str, Who]] = defaultdict(dict)
        """uid -> part -> who asks for that place."""
        self._promised: defaultdict[str, set[str]] = defaultdict(set)
        """uid -> parts that get what one that leaves still has."""
        self._waits: dict[str, bool] = {}
        """uid -> whether somebody of it waited at the last look."""

    def words(self, uid: str) -> str:
        """Why replicas of it are not made yet, of which it is known; empty: none waits."""
        words = next((_words(answer) for answer in self._answers(uid) if _waits(answer)), "")
        self._waits[uid] = bool(words)
        return words

    def free(self, spec: Deployment) -> int | None:
        """So many more of its replicas could have their GPUs now; None: they need none, or nobody gets one here."""
        return self._leases.free(spec.machine) if spec.machine else None

    def granted_at(self, view: View, replicas: Iterable[Replica]) -> float:
        """Who has waited for GPUs has the whole deadline from then on: when the wanted revision had its last, unix
        seconds; 0: it has none."""
        if view.spec is None or not view.spec.machine:
            return 0.0
        places = {part(one.digest, one.index) for one in replicas if one.digest == view.wanted.digest}
        places |= {one for one in self._asked[view.deployment.uid] if one.startswith(f"{view.wanted.digest}-")}
        found = (self._leases.peek(Who("deployment", view.deployment.name, view.deployment.uid, one)) for one in places)
        return max((answer.since for answer in found), default=0.0)

    def settle(self, view: View, plan: Plan, replicas: Iterable[Replica]) -> bool:
        """Ask for what the plan makes, let go what it has no place for. False: somebody waits who did not before."""
        uid = view.deployment.uid
        before = self._waits.get(uid, False)
        live = {part(one.digest, one.index) for one in replicas}
        for place in (*plan.make, *plan.next):
            live.add(part(place.revision.digest, place.index))
            self.ask(view, place, ready=place in plan.make)
        for one in plan.start:  # made before this daemon began, maybe: its GPUs are wanted still
            self.ask(view, Place(Revision(one.generation, one.digest, 0), one.index))
        self._leave(view.deployment, live)
        return before or not self.words(uid)

    def ask(self, view: View, place: Place, *, ready: bool = True) -> Answer:
        spec = view.specs[place.revision.digest]
        who = _who(view.deployment, spec, place.revision, place.index)
        if not spec.machine:
            return Answer("unneeded")
        self._asked[view.deployment.uid][who.part] = who
        priority = PRIORITY if spec.priority is None else spec.priority
        return self._leases.ask(who, machine=spec.machine, ready=ready, priority=priority, preemptible=False)

    def fits(self, view: View, replica: Replica, lease: str) -> bool:
        """What was made with the GPUs of this lease may begin: they are that replica's still."""
        revision = Revision(replica.generation, replica.digest, 0)
        who = _who(view.deployment, view.specs[replica.digest], revision, replica.index)
        return self._leases.peek(who).lease == lease

    def held(self, view: View, place: Place, container: str) -> None:
        spec = view.specs[place.revision.digest]
        self._leases.held(_who(view.deployment, spec, place.revision, place.index), container)

    def release(self, deployment: Resource, replica: Replica, *, handing_over: bool) -> None:
        """It is gone. `handing_over`: to a successor of the same deployment, if one waits."""
        who = Who("deployment", deployment.name, deployment.uid, part(replica.digest, replica.index))
        self._asked[deployment.uid].pop(who.part, None)
        self._release(deployment.uid, who, handing_over=handing_over)

    def forget(self, deployment_uid: str) -> None:
        """The deployment is gone."""
        for who in self._asked.pop(deployment_uid, {}).values():
            self._leases.release(who)
        self._promised.pop(deployment_uid, None)
        self._waits.pop(deployment_uid, None)

    def _heir(self, uid: str) -> Who | None:
        """One that waits, and to which nobody has left anything yet."""
        self._promised[uid] &= self._asked[uid].keys()
        free = (who for one, who in self._asked[uid].items() if one not in self._promised[uid])
        return next((who for who in free if _waits(self._leases.peek(who))), None)

    def _answers(self, uid: str) -> Iterable[Answer]:
        return (self._leases.peek(who) for who in self._asked[uid].values())

    def _leave(self, deployment: Resource, live: Collection[str]) -> None:
        uid = deployment.uid
        for gone in [one for one in self._asked[uid] if one not in live]:
            promised = gone in self._promised[uid]
            self._release(uid, self._asked[uid].pop(gone), handing_over=promised)

    def _release(self, uid: str, who: Who, *, handing_over: bool) -> None:
        heir = self._heir(uid) if handing_over else None
        if heir:
            self._promised[uid].add(heir.part)
        self._leases.release(who, successor=heir)


def _who(deployment: Resource, spec: Deployment, revision: Revision, index: int) -> Who:
    return Who("deployment", deployment.name, deployment.uid, part(revision.digest, index), spec.owner or LOCAL)


def _waits(answer: Answer) -> bool:
    return answer.state in ("waits", "impossible")


def _words(answer: Answer) -> str:
    return answer.words or "it waits for a GPU"
