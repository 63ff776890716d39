"""The notebook's plan: single decisions, and the law that following it always ends well."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.notebooks.plan import (
    BACKOFF_S,
    LONG_SESSION_S,
    RESTARTS,
    START_DEADLINE_S,
    Facts,
    Session,
    Step,
    decide,
    row_of_crashes,
)

NOW = 10_000.0
RUNNING = Session(id="s1", number=1, digest="d", state="running", ready=True, started=NOW - 60)
ENDED = replace(RUNNING, state="ended", ended=NOW - 1, ending="it failed (exit code 1)")


def facts(*sessions: Session, wanted: bool = True, image: str = "ready", **more: object) -> Facts:
    values = {"deleting": False, "digest": "d", "asked": 0.0, "sessions": sessions, **more}
    return Facts(wanted=wanted, image=image, **values)  # type: ignore[arg-type]


def test_a_notebook_that_is_to_run_gets_its_image_then_a_session() -> None:
    assert decide(facts(image="unknown"), NOW).verb == "prepare"
    busy = decide(facts(image="busy", image_message="layer 3 of 9"), NOW)
    assert (busy.phase, busy.message, busy.verb) == ("Preparing", "layer 3 of 9", None)
    assert busy.wake is not None
    assert decide(facts(), NOW).verb == "begin"


def test_an_image_that_cannot_be_had_is_tried_again_later() -> None:
    failed = facts(image="failed", image_message="no such image", image_retry_at=NOW + 5)
    assert decide(failed, NOW) == Step("Failed", "no such image", wake=NOW + 5)
    assert decide(failed, NOW + 5).verb == "prepare"


def test_why_the_appliance_stopped_it_is_said_until_it_is_started_again() -> None:
    assert decide(facts(wanted=False, rested="nothing went on"), NOW) == Step("Stopped", "nothing went on")
    assert decide(facts(RUNNING, rested="nothing went on"), NOW).message == ""


def test_a_session_is_started_asked_and_then_runs() -> None:
    created = replace(RUNNING, state="created", ready=False)
    assert decide(facts(created), NOW).verb == "start"
    silent = decide(facts(replace(RUNNING, ready=False), silence="its port is not open yet"), NOW)
    assert (silent.phase, silent.verb) == ("Starting", "probe")
    assert "not open yet" in silent.message
    assert decide(facts(RUNNING), NOW) == Step("Running", session=RUNNING)


def test_long_silence_is_a_failure_that_is_still_asked() -> None:
    silent = replace(RUNNING, ready=False, started=NOW - START_DEADLINE_S)
    step = decide(facts(silent), NOW)
    assert (step.phase, step.verb) == ("Failed", "probe")


def test_stop_halts_and_a_deleted_notebook_is_destroyed_last() -> None:
    assert decide(facts(RUNNING, wanted=False), NOW).verb == "halt"
    assert decide(facts(ENDED, wanted=False), NOW).verb == "clear"
    assert decide(facts(wanted=False), NOW) == Step("Stopped")
    assert decide(facts(RUNNING, deleting=True), NOW).verb == "halt"
    assert decide(facts(deleting=True), NOW).verb == "destroy"


def test_a_changed_spec_waits_for_its_image_before_the_session_ends() -> None:
    waiting = decide(facts(RUNNING, image="busy", image_message="pulling", digest="other"), NOW)
    assert (waiting.phase, waiting.verb) == ("Running", None)
    assert "pulling" in waiting.message
    assert decide(facts(RUNNING, image="unknown", digest="other"), NOW).verb == "prepare"
    assert decide(facts(RUNNING, digest="other"), NOW).verb == "halt"


@pytest.mark.parametrize("crashes", range(RESTARTS))
def test_a_session_that_ends_is_followed_by_another_after_a_pause(crashes: int) -> None:
    ended = replace(ENDED, crashes=crashes, ended=NOW)
    step = decide(facts(ended), NOW)
    assert (step.phase, step.verb, step.wake) == ("Failed", None, NOW + BACKOFF_S[crashes])
    assert "it failed (exit code 1)" in step.message
    assert f"restart {crashes + 1} of {RESTARTS}" in step.message
    begin = decide(facts(ended), NOW + BACKOFF_S[crashes])
    assert (begin.verb, begin.crashes) == ("begin", crashes + 1)


def test_after_too_many_quick_endings_it_stays_down_until_asked() -> None:
    ended = replace(ENDED, crashes=RESTARTS)
    assert decide(facts(ended), NOW + 1e6) == decide(facts(ended), NOW)
    assert decide(facts(ended), NOW).phase == "Failed"
    assert decide(facts(ended, asked=NOW), NOW).verb == "clear"


def test_a_long_session_ends_the_row_of_quick_endings() -> None:
    long = replace(ENDED, crashes=RESTARTS, started=ENDED.ended - LONG_SESSION_S)
    assert row_of_crashes(long) == 1


def test_a_shutdown_from_inside_is_a_stop() -> None:
    assert decide(facts(replace(ENDED, closed=True)), NOW).verb == "rest"


def test_what_is_missing_is_told_and_nothing_begins() -> None:
    step = decide(facts(image="unknown", blocked="no dataset 'x'"), NOW)
    assert (step.phase, step.message, step.verb) == ("Pending", "no dataset 'x'", None)


@dataclass
class World:
    """A notebook's surroundings, obeying each step as the controller would."""

    wanted: bool = True
    deleting: bool = False
    digest: str = "a"
    asked: float = 0.0
    image: str = "unknown"
    image_works: bool = True
    answers: bool = True
    now: float = 0.0
    number: int = 0
    gone: bool = False
    sessions: list[Session] = field(default_factory=list)

    def facts(self) -> Facts:
        retry = self.now + 5 if self.image == "failed" else 0.0
        return facts(
            *self.sessions,
            wanted=self.wanted and not self.deleting,
            image=self.image,
            deleting=self.deleting,
            digest=self.digest,
            asked=self.asked,
            image_retry_at=retry,
        )

    def settle(self) -> Step:
        for _ in range(12):
            step = decide(self.facts(), self.now)
            if step.verb is None or not self.obey(step):
                return step
        raise AssertionError(f"did not settle: {self}")

    def obey(self, step: Step) -> bool:
        session = step.session
        match step.verb:
            case "prepare":
                self.image = "ready" if self.image_works else "failed"
            case "begin":
                self.image = "unknown"
                self.number += 1
                made = Session(str(self.number), self.number, self.digest, "created", crashes=step.crashes)
                self.sessions.append(made)
            case "start" if session:
                self.replace(session, state="running", started=self.now)
            case "probe" if session:
                self.replace(session, ready=self.answers)
                return self.answers
            case "halt" | "clear" if session:
                assert step.verb == "clear" or session.state != "ended"
                self.sessions.remove(session)
            case "rest":
                self.wanted = False
            case "destroy":
                assert not self.sessions, "the files went while a session was there"
                self.gone = True
                return False
        return True

    def replace(self, session: Session, **change: object) -> None:
        self.sessions[self.sessions.index(session)] = replace(session, **change)  # type: ignore[arg-type]

    def crash(self) -> None:
        for session in self.sessions:
            if session.state == "running":
                self.replace(session, state="ended", ended=self.now, ending="it failed")


EVENTS = st.sampled_from(
    ["start", "stop", "spec", "crash", "image lost", "image back", "mute", "speak", "tick", "long"]
)


def happen(world: World, event: str) -> None:
    match event:
        case "start" | "stop":
            world.wanted, world.asked = event == "start", world.now
        case "spec":
            world.digest, world.asked, world.image = world.digest + "'", world.now, "unknown"
        case "crash":
            world.crash()
        case "image lost" | "image back":
            world.image_works = event == "image back"
        case "mute" | "speak":
            world.answers = event == "speak"
        case "tick":
            world.now += 3
        case "long":
            world.now += 700


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=25))
def test_every_history_settles_with_at_most_one_session(history: list[str]) -> None:
    world = World()
    for event in history:
        world.now += 0.01
        happen(world, event)
        step = world.settle()
        assert len([session for session in world.sessions if session.state == "running"]) <= 1
        if not world.wanted:
            assert step.phase == "Stopped"
            assert not world.sessions
        if step.phase == "Running":
            assert any(session.ready and session.state == "running" for session in world.sessions)


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=25), st.booleans())
def test_once_all_is_well_a_start_leads_to_running_and_a_delete_to_nothing(history: list[str], delete: bool) -> None:
    world = World()
    for event in history:
        world.now += 0.01
        happen(world, event)
        world.settle()
    world.now += 1
    world.wanted, world.asked, world.image_works, world.answers = True, world.now, True, True
    if world.image == "failed":
        world.image = "unknown"
    world.deleting = delete
    step = world.settle()
    if delete:
        assert world.gone
    else:
        assert step.phase == "Running"
        (session,) = world.sessions
        assert session.digest == world.digest
