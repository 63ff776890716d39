"""The rollout plan: single decisions, and the laws that hold in every history."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.deployments.facts import Facts, Place, Plan, Replica, Revision
from appliance.deployments.plan import LONG_LIFE_S, LOOP, decide, describe, restart_at, streak

NOW = 10_000.0
A, B = Revision(1, "a", 2), Revision(2, "b", 2)


def replica(revision: Revision, index: int, **more: object) -> Replica:
    values = {"state": "running", "ready": True, "started": NOW - 60, **more}
    restarts = values.pop("restarts", 0)
    return Replica(
        id=f"{revision.generation}-{index}-{restarts}",
        generation=revision.generation,
        index=index,
        restarts=restarts,  # type: ignore[arg-type]
        digest=revision.digest,
        **values,  # type: ignore[arg-type]
    )


def ended(revision: Revision, index: int, **more: object) -> Replica:
    values = {"state": "ended", "ready": False, "ended": NOW - 0.5, "ending": "it failed (exit code 1)", **more}
    return replica(revision, index, **values)


def facts(wanted: Revision, *replicas: Replica, stable: Revision | None = None, **more: object) -> Facts:
    values = {"prepared": "ready", "since": NOW - 10, "deadline_s": 300.0, **more}
    return Facts(wanted=wanted, stable=stable, replicas=replicas, **values)  # type: ignore[arg-type]


A0, A1, B0, B1 = replica(A, 0), replica(A, 1), replica(B, 0), replica(B, 1)


def test_the_first_revision_is_prepared_then_made_then_ready() -> None:
    plan = decide(facts(A, prepared="unknown", since=0.0), NOW)
    assert (plan.phase, plan.prepare, plan.make) == ("Preparing", True, ())
    plan = decide(facts(A), NOW)
    assert (plan.phase, plan.make) == ("Starting", (Place(A, 0), Place(A, 1)))
    plan = decide(facts(A, replace(A0, ready=False), replace(A1, state="created", ready=False)), NOW)
    assert (plan.phase, plan.serve, [one.id for one in plan.start]) == ("Starting", (), ["1-1-0"])
    plan = decide(facts(A, A0, replace(A1, ready=False)), NOW)
    assert (plan.phase, plan.serve) == ("Updating", (A0,))
    plan = decide(facts(A, A0, A1), NOW)
    assert (plan.phase, plan.complete, plan.serve, plan.message) == ("Ready", True, (A0, A1), "2 of 2 replicas ready")


FULL = "waits for disk space"


def test_without_room_nothing_begins_and_its_reason_is_told() -> None:
    plan = decide(facts(A, prepared="unknown", since=0.0, blocked=FULL), NOW)
    assert (plan.phase, plan.prepare, plan.make) == ("Pending", False, ())
    assert FULL in plan.message
    assert plan.wake is not None, "it must begin by itself"
    plan = decide(facts(B, A0, A1, stable=A, blocked=FULL), NOW)
    assert (plan.phase, plan.serve, plan.make, plan.retire) == ("Updating", (A0, A1), (), ())
    assert FULL in plan.message


def test_without_room_what_runs_goes_on_and_is_made_again() -> None:
    dead = ended(A, 0, ended=NOW - 60)
    plan = decide(facts(A, dead, A1, stable=A, blocked=FULL), NOW)
    assert plan.make == (Place(A, 0, 1, 1),)
    assert FULL not in plan.message
    plan = decide(facts(A, A1, stable=A, blocked=FULL), NOW)
    assert plan.make == (Place(A, 0),), "one that somebody removed"
    more = replace(A, generation=3, replicas=3)
    plan = decide(facts(more, dead, A1, stable=A, blocked=FULL), NOW)
    assert plan.make == (Place(more, 0, 1, 1),), "scaled up: the one more waits"
    fewer = replace(A, generation=3, replicas=1)
    assert decide(facts(fewer, A0, A1, stable=A, blocked=FULL), NOW).phase == "Ready"


def test_an_update_serves_the_old_revision_until_the_new_one_is_whole() -> None:
    plan = decide(facts(B, A0, A1, stable=A), NOW)
    assert (plan.phase, plan.serve, plan.retire) == ("Updating", (A0, A1), ())
    assert plan.make == (Place(B, 0), Place(B, 1))
    plan = decide(facts(B, A0, A1, B0, replace(B1, ready=False), stable=A), NOW)
    assert (plan.serve, plan.retire) == ((A0, A1), ())
    plan = decide(facts(B, A0, A1, B0, B1, stable=A), NOW)
    assert (plan.phase, plan.serve, plan.retire, plan.complete) == ("Ready", (B0, B1), (A0, A1), True)


def test_a_bad_revision_is_degraded_after_its_deadline_and_never_serves() -> None:
    bad = ended(B, 0, restarts=1)
    early = decide(facts(B, A0, A1, bad, stable=A), NOW)
    assert (early.phase, early.serve) == ("Updating", (A0, A1))
    assert "restart 2" in early.message
    late = decide(facts(B, A0, A1, bad, stable=A, since=NOW - 301), NOW)
    assert (late.phase, late.serve) == ("Degraded", (A0, A1))
    assert "generation 1 goes on serving" in late.message
    first = decide(facts(B, bad, since=NOW - 301), NOW)
    assert first.phase == "Failed"


def test_a_crash_loop_is_told_before_the_deadline() -> None:
    looping = ended(B, 0, restarts=LOOP, streak=LOOP - 1)
    assert decide(facts(B, A0, A1, looping, stable=A), NOW).phase == "Degraded"


def test_the_old_revision_is_kept_whole_while_a_new_one_fails() -> None:
    dead = ended(A, 1, ended=NOW - 5)
    plan = decide(facts(B, A0, dead, ended(B, 0), stable=A), NOW)
    assert Place(A, 1, restarts=1, streak=1) in plan.make


def test_scaling_up_replaces_nothing() -> None:
    more = replace(A, generation=2, replicas=3)
    plan = decide(facts(more, A0, A1, stable=A), NOW)
    assert (plan.serve, plan.retire, plan.make) == ((A0, A1), (), (Place(more, 2),))


def test_scaling_down_takes_the_unready_first_then_the_last() -> None:
    one = replace(A, generation=2, replicas=1)
    assert decide(facts(one, A0, A1, stable=A), NOW).retire == (A1,)
    plan = decide(facts(one, replace(A0, ready=False), A1, stable=A), NOW)
    assert [gone.id for gone in plan.retire] == ["1-0-0"]
    assert plan.serve == (A1,)


def test_disabled_has_no_replicas_and_says_so() -> None:
    nothing = Revision(3, "", 0)
    assert decide(facts(nothing, A0, A1, stable=A), NOW).retire == (A0, A1)
    leaving = decide(facts(nothing, stable=A, leaving=(A0, A1)), NOW)
    assert (leaving.phase, leaving.complete) == ("Updating", False)
    assert decide(facts(nothing, stable=A), NOW).phase == "Disabled"


def test_an_unhealthy_replica_is_halted_and_gets_no_traffic() -> None:
    sick = replace(A1, sick="its liveness probe failed 3 times")
    plan = decide(facts(A, A0, sick, stable=A), NOW)
    assert (plan.phase, plan.serve, plan.halt, plan.retire) == ("Degraded", (A0,), (sick,), ())
    assert "liveness" in plan.message


def test_restarts_pause_longer_and_longer_and_a_long_life_forgives() -> None:
    pauses = [restart_at(ended(A, 0, streak=number)) - (NOW - 0.5) for number in range(12)]
    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses[-1] == 300
    assert streak(ended(A, 0, streak=9, started=NOW - 0.5 - LONG_LIFE_S)) == 1
    assert describe(ended(A, 0, restarts=3, streak=3), NOW) == "it failed (exit code 1); restart 4 in 8 s"


def test_the_record_of_an_end_goes_once_its_successor_is_there() -> None:
    before, after = ended(A, 1, ended=NOW - 9), replica(A, 1, restarts=1)
    plan = decide(facts(A, A0, before, after, stable=A), NOW)
    assert (plan.retire, plan.serve, plan.make) == ((before,), (A0, after), ())


def test_going_back_to_what_still_runs_makes_nothing() -> None:
    again = replace(A, generation=3)
    plan = decide(facts(again, A0, A1, replace(B0, ready=False), stable=A), NOW)
    assert (plan.phase, plan.serve, plan.make) == ("Ready", (A0, A1), ())
    assert [gone.id for gone in plan.retire] == ["2-0-0"]


def test_a_ready_replica_of_a_revision_that_never_became_whole_serves_until_the_next_is() -> None:
    plan = decide(facts(B, A0, replace(A1, ready=False)), NOW)
    assert (plan.serve, [gone.id for gone in plan.retire]) == ((A0,), ["1-1-0"])


def test_a_start_right_after_a_stop_takes_no_name_of_those_that_leave() -> None:
    stopped = Revision(1, "", 0)
    plan = decide(facts(A, stable=stopped, leaving=(A0, A1)), NOW)
    assert (plan.phase, plan.make) == ("Starting", (Place(A, 2), Place(A, 3)))


@dataclass
class World:
    """A deployment's surroundings, obeying each plan as the controller would. `bad`: digests that never get ready.

    `swap`: two revisions have no room side by side. `back`: what fails is undone.
    """

    wanted: Revision = A
    stable: Revision | None = None
    bad: set[str] = field(default_factory=set)
    pinned: set[str] = field(default_factory=set)
    image_works: bool = True
    since: float = 0.0
    asked: float = 0.0
    now: float = 0.0
    replicas: list[Replica] = field(default_factory=list)
    leaving: list[Replica] = field(default_factory=list)
    stopped: bool = False
    serving: tuple[Replica, ...] = ()
    swap: bool = False
    back: bool = False
    undone: set[int] = field(default_factory=set)
    """Generations."""
    generation: int = 1
    """The declared one."""

    def facts(self) -> Facts:
        stable = self.stable
        prepared = "ready" if self.wanted.digest in self.pinned else "unknown" if self.image_works else "failed"
        return facts(
            Revision(self.wanted.generation, "", 0) if self.stopped else self.wanted,
            *self.replicas,
            leaving=tuple(self.leaving),
            stable=self.stable,
            prepared=prepared,
            prepare_retry_at=self.now + 5,
            since=self.since,
            asked=self.asked,
            swap=self.swap,
            back=self.back and stable is not None and stable.digest != self.wanted.digest and stable.replicas > 0,
        )

    def settle(self) -> Plan:
        for _ in range(12):
            before = self.replicas[:]
            plan = decide(self.facts(), self.now)
            self.check(plan, before)
            if not self.obey(plan):
                return plan
        raise AssertionError(f"did not settle: {self}")

    def check(self, plan: Plan, before: list[Replica]) -> None:
        able = [one for one in before if one.able]
        assert all(one in able for one in plan.serve), "only able replicas serve"
        assert len({one.digest for one in plan.serve}) <= 1, "one revision serves at a time"
        assert not set(plan.serve) & {*plan.retire, *plan.halt}, "whoever leaves does not serve"
        if self.wanted.replicas and not self.stopped and able and not plan.swapping:
            assert plan.serve, "somebody able was there, and nobody serves"
        if self.swap:
            self.check_room(plan)
        else:
            assert not plan.swapping
        assert not {one.revision.generation for one in plan.make} & self.undone, "what was undone came back"
        if (
            not self.stopped
            and not plan.swapping
            and self.stable
            and self.stable.replicas
            and self.stable.digest != self.wanted.digest
            and not plan.complete
        ):
            old = [one for one in able if one.digest == self.stable.digest]
            assert not old or all(one.digest == self.stable.digest for one in plan.serve), "served too early"
        names = {(one.revision.generation, one.index, one.restarts) for one in plan.make}
        assert len(names) == len(plan.make), "two replicas of one name"
        taken = {(one.generation, one.index, one.restarts) for one in (*before, *self.leaving)}
        assert not names & taken, "a name twice"

    def check_room(self, plan: Plan) -> None:
        """Nobody begins beside another revision."""
        there = {one.digest for one in (*self.replicas, *self.leaving) if one.state == "running"}
        for beginning in ({one.digest for one in plan.start}, {one.revision.digest for one in plan.make}):
            assert len(beginning) <= 1 or plan.complete
            assert plan.complete or not beginning or there <= beginning, "two revisions side by side"
        if plan.swapping:
            assert plan.retire or not there - {self.wanted.digest} or self.leaving, "a swap that waits for nobody"

    def obey(self, plan: Plan) -> bool:
        self.serving = plan.serve
        if plan.undo:
            assert self.stable is not None
            self.undone.add(self.wanted.generation)
            self.wanted = self.stable
            self.since = self.now
            return True
        if plan.complete:
            self.stable = Revision(self.wanted.generation, "", 0) if self.stopped else self.wanted
        if plan.prepare:
            if not self.image_works:
                return False
            self.pinned.add(self.wanted.digest)
            self.since = self.now
        for place in plan.make:
            made = replica(place.revision, place.index, restarts=place.restarts, state="created", ready=False)
            self.replicas.append(replace(made, streak=place.streak))
        for one in plan.start:
            self.change(one, state="running", started=self.now)
        for one in plan.halt:
            self.change(one, state="ended", ended=self.now, ending=one.sick, ready=False, sick="")
        for one in plan.retire:
            self.replicas.remove(one)
            self.leaving.append(one)
        return bool(plan.prepare or plan.make or plan.start or plan.halt or plan.retire)

    def change(self, one: Replica, **values: object) -> None:
        self.replicas[self.replicas.index(one)] = replace(one, **values)  # type: ignore[arg-type]

    def probe(self) -> None:
        for one in self.replicas:
            if one.state == "running" and not one.sick:
                self.change(one, ready=one.digest not in self.bad)

    def happen(self, event: str, pick: int) -> None:
        running = [one for one in self.replicas if one.state == "running"]
        chosen = running[pick % len(running)] if running else None
        generation = self.generation + 1
        if event in ("apply", "scale"):
            self.generation, self.asked = generation, self.now
        match event:
            case "apply":
                self.wanted = Revision(generation, "abc"[pick % 3], max(1, self.wanted.replicas))
                self.since = self.now if self.wanted.digest in self.pinned else 0.0
            case "scale":
                self.wanted = replace(self.wanted, generation=generation, replicas=pick % 4)
            case "bad":
                self.bad ^= {"abc"[pick % 3]}
            case "crash" if chosen:
                self.change(chosen, state="ended", ended=self.now, ending="it failed", ready=False, sick="")
            case "sick" if chosen:
                self.change(chosen, sick="its liveness probe failed")
            case "unready" if chosen:
                self.change(chosen, ready=False)
            case "removed" if chosen:
                self.replicas.remove(chosen)
            case "probe":
                self.probe()
            case "left":
                self.leaving.clear()
            case "stop":
                self.stopped = not self.stopped
            case "image":
                self.image_works = not self.image_works
            case "time":
                self.now += 10.0 ** (pick % 4)


EVENTS = st.tuples(
    st.sampled_from(
        [
            "apply",
            "scale",
            "bad",
            "crash",
            "sick",
            "unready",
            "removed",
            "probe",
            "probe",
            "left",
            "stop",
            "image",
            "time",
        ]
    ),
    st.integers(0, 11),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=30), st.booleans(), st.booleans())
def test_the_laws_hold_in_every_history_and_every_pass_settles(
    history: list[tuple[str, int]], swap: bool, back: bool
) -> None:
    world = World(swap=swap, back=back)
    for event, pick in history:
        world.now += 0.01
        world.happen(event, pick)
        world.settle()


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=30), st.booleans(), st.booleans())
def test_once_all_is_well_the_declared_replicas_serve_and_nothing_else_is_left(
    history: list[tuple[str, int]], swap: bool, back: bool
) -> None:
    world = World(swap=swap, back=back)
    for event, pick in history:
        world.now += 0.01
        world.happen(event, pick)
        world.settle()
    world.bad.clear()
    world.stopped = False
    world.image_works = True
    world.back = False  # what is undone was not well
    for _ in range(6):
        world.now += 400  # beyond every pause
        world.settle()
        world.leaving.clear()
        world.probe()
    plan = world.settle()
    assert plan.complete
    assert plan.phase == ("Ready" if world.wanted.replicas else "Disabled")
    assert len(world.replicas) == world.wanted.replicas
    assert all(one.digest == world.wanted.digest for one in world.replicas)
    assert set(plan.serve) == set(world.replicas)


BAD_B = replica(B, 0, ready=False, said="its readiness probe fails")


def swap(*replicas: Replica, **more: object) -> Plan:
    return decide(facts(B, *replicas, stable=A, swap=True, back=True, **more), NOW)


def test_a_swap_waits_with_all_it_needs_then_empties_the_route() -> None:
    plan = swap(A0, A1, prepared="busy", since=0.0)
    assert (plan.serve, plan.retire, plan.swapping) == ((A0, A1), (), False)
    plan = swap(A0, A1)
    assert (plan.serve, plan.retire, plan.make, plan.swapping) == ((), (A0, A1), (), True)
    assert "requests wait" in plan.message
    plan = swap(leaving=(A0, A1))
    assert (plan.serve, plan.make, plan.swapping) == ((), (), True), "they still have what the new ones need"
    plan = swap()
    assert plan.make == (Place(B, 0), Place(B, 1))
    plan = swap(B0, replace(B1, ready=False))
    assert plan.serve == (B0,), "nobody else is there to answer those that wait"
    plan = swap(B0, B1)
    assert (plan.phase, plan.complete, plan.swapping) == ("Ready", True, False)


def test_a_swap_does_not_begin_without_room_and_is_brought_to_its_end_without_it() -> None:
    plan = swap(A0, A1, blocked=FULL)
    assert (plan.serve, plan.retire, plan.make, plan.swapping) == ((A0, A1), (), (), False)
    assert swap(blocked=FULL).make == (Place(B, 0), Place(B, 1)), "the others are gone: somebody has to serve"


def test_a_swap_that_fails_goes_back_and_there_too_one_waits_for_the_other() -> None:
    plan = swap(BAD_B, since=NOW - 60, deadline_s=48.0)
    assert "it was not ready after 48 s: replica 2-0: its readiness probe fails" in plan.undo
    assert (plan.make, plan.retire) == ((), ())
    back = decide(facts(A, BAD_B, stable=A, swap=True), NOW)
    assert (back.serve, back.retire, back.make) == ((), (BAD_B,), ())
    back = decide(facts(A, leaving=(BAD_B,), stable=A, swap=True), NOW)
    assert back.make == ()
    assert decide(facts(A, stable=A, swap=True), NOW).make == (Place(A, 0), Place(A, 1))


def test_a_revision_is_undone_when_it_is_late_or_loops_or_has_no_image() -> None:
    late = facts(B, A0, A1, BAD_B, stable=A, back=True, since=NOW - 301)
    assert "not ready after 300 s" in decide(late, NOW).undo
    assert not decide(replace(late, looking=NOW - 1), NOW).undo, "the machine may have been off"
    assert decide(replace(late, looking=NOW - 1), NOW).wake == NOW + 299
    swap = replace(late, looking=NOW - 1, swap=True, replicas=(BAD_B,))
    assert not decide(swap, NOW).undo, "no probe has spoken yet"
    assert decide(swap, NOW).wake == NOW + 9
    assert decide(swap, NOW + 10).undo, "who waits has waited on"
    assert not decide(replace(late, back=False), NOW).undo
    assert not decide(replace(late, blocked=FULL), NOW).undo
    looping = ended(B, 0, restarts=LOOP, streak=LOOP - 1)
    assert "again and again" in decide(facts(B, A0, A1, looping, stable=A, back=True), NOW).undo
    assert not decide(facts(B, A0, A1, looping, B1, stable=A, back=True), NOW).undo, "one of them is well"
    nowhere = facts(B, A0, A1, stable=A, back=True, prepared="failed", since=0.0, prepare_message="no image two")
    plan = decide(replace(nowhere, asked=NOW - 301), NOW)
    assert plan.undo == "it could not begin within 300 s: no image two"
    assert not decide(replace(nowhere, asked=NOW - 299), NOW).undo


def test_what_was_undone_is_told_while_the_earlier_one_serves() -> None:
    plan = decide(facts(A, A0, A1, stable=A, undone="generation 2 was undone"), NOW)
    assert (plan.phase, plan.complete) == ("Degraded", True)
    assert plan.message == "generation 2 was undone; 2 of 2 replicas ready"


def test_asleep_nothing_runs_and_it_is_said() -> None:
    plan = decide(facts(replace(A, replicas=0), stable=A, asleep="no request for 900 s"), NOW)
    assert (plan.phase, plan.message, plan.complete) == ("Asleep", "no request for 900 s", True)


def test_who_comes_back_for_a_third_revision_waits_for_the_second_to_leave() -> None:
    """The first made way for the second, and now a third is wanted, whose image is not here yet."""
    third = Revision(3, "c", 2)
    third_facts = facts(third, BAD_B, stable=A, swap=True, back=True, prepared="busy", since=0.0)
    plan = decide(third_facts, NOW)
    assert (plan.serve, plan.retire, plan.make) == ((), (BAD_B,), ())
    plan = decide(replace(third_facts, replicas=(), leaving=(BAD_B,)), NOW)
    assert plan.make == ()
    plan = decide(replace(third_facts, replicas=()), NOW)
    assert plan.make == (Place(A, 0), Place(A, 1))


def test_it_tells_when_a_revision_is_undone() -> None:
    rolls = facts(B, A0, A1, BAD_B, stable=A, back=True)
    assert decide(rolls, NOW).undo_at == NOW - 10 + 300
    assert decide(replace(rolls, looking=NOW - 5), NOW).undo_at == NOW - 5 + 300
    assert decide(replace(rolls, back=False), NOW).undo_at is None
    assert decide(replace(rolls, blocked=FULL), NOW).undo_at is None
    assert decide(facts(B, B0, B1, stable=A, back=True), NOW).undo_at is None
    waits = replace(rolls, prepared="busy", since=0.0, asked=NOW - 20)
    assert decide(waits, NOW).undo_at is None, "an image may take an hour"
    assert decide(replace(waits, prepared="failed"), NOW).undo_at == NOW - 20 + 300


def test_a_new_replica_that_does_not_answer_yet_is_no_news() -> None:
    new = replica(A, 0, ready=False, said="GET /: refused", started=NOW - 3)
    plan = decide(facts(replace(A, replicas=1), new), NOW)
    assert "refused" not in plan.message
    assert plan.wake == NOW + 7
    assert "refused" in decide(facts(replace(A, replicas=1), new), NOW + 7).message
    again = replace(new, restarts=1, streak=1)
    assert "refused" in decide(facts(replace(A, replicas=1), again), NOW).message
