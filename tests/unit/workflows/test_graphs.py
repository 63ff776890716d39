"""Random graphs of jobs with failures, retries, timeouts, cancels and killed daemons, against a small model of a run.

Time is virtual and no two ends fall on one instant, so the model says everything: which attempts start, in which
order, how each job ends and in which words. A kill costs no time, so it must change nothing of that.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from appliance.errors import Conflict, ImageNotFound, NoSuchImage, UsageError
from appliance.settings import load as load_settings
from appliance.spec.models import Workflow
from appliance.state import events
from appliance.state.runs import FINAL_PHASES, Job, Run
from appliance.workflows import plan
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import hosted
from appliance.workflows.submit import cancel_run
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, killer, script

MOST_JOBS = 60
KINDS = ["exit", "exit", "exit", "oom", "lost", "forever", "no image", "no registry"]
UNSTARTED = ("no image", "no registry")
NEVER = float("inf")
LOST = "its container disappeared while it ran, so nobody knows how far it came"
OOM = "out of memory: the kernel killed it (exit code 137)"


@dataclass(frozen=True)
class Try:
    """What one attempt does when it is left alone."""

    how: str
    """exit, oom, lost, forever, no image or no registry; a hosted job has exit (0: done, else refused) or forever."""
    code: int
    after_s: float

    @property
    def is_hopeless(self) -> bool:
        """Where it ends in Error: a registry has no such image, or a hosted job is refused for good."""
        return self.how == "no image" or self.code == 3


@dataclass(frozen=True)
class Node:
    name: str
    needs: tuple[str, ...]
    tries: tuple[Try, ...]
    """The last one is repeated."""
    limit: int
    delay_s: float
    timeout_s: float | None
    is_hosted: bool

    def attempt(self, number: int) -> Try:
        return self.tries[min(number, len(self.tries)) - 1]


@dataclass(frozen=True)
class Case:
    nodes: tuple[Node, ...]
    slots: int
    timeout_s: float | None
    cancel_s: float | None
    kills: tuple[int, ...]


def _uneven(seconds: int, *salt: object) -> float:
    """`seconds` and a bit that no other duration has."""
    return seconds + round(random.Random(repr(salt)).random() * 0.9, 5)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    names = [f"j{number}" for number in range(draw(st.integers(1, MOST_JOBS)))]
    nodes = []
    for number, name in enumerate(names):
        earlier = st.sampled_from(names[max(0, number - 12) : number]) if number else st.nothing()
        needs = tuple(sorted(draw(st.sets(earlier, max_size=3)))) if number else ()
        is_hosted = draw(st.integers(0, 7)) == 7
        kinds = ["exit", "exit", "forever"] if is_hosted else KINDS
        tries = []
        for index in range(draw(st.integers(1, 3))):
            how = draw(st.sampled_from(kinds))
            code = draw(st.sampled_from([0, 0, 0, 1, 3])) if how == "exit" else 1
            tries.append(Try(how, code, _uneven(draw(st.integers(1, 40)), "end", number, index)))
        timeout = draw(st.none() | st.integers(2, 60))
        if timeout is None and any(one.how == "forever" for one in tries):
            timeout = 30
        nodes.append(
            Node(
                name,
                needs,
                tuple(tries),
                draw(st.sampled_from([0, 0, 1, 3])),
                draw(st.sampled_from([0.0, 1.0, 20.0])),
                None if timeout is None else _uneven(timeout, "timeout", number),
                is_hosted,
            )
        )
    whole = st.none() | st.integers(1, 300)
    cancel, timeout = draw(whole), draw(whole)
    return Case(
        tuple(draw(st.permutations(nodes))),
        draw(st.integers(1, 5)),
        None if timeout is None else _uneven(timeout, "run"),
        None if cancel is None else _uneven(cancel, "cancel"),
        tuple(sorted(draw(st.sets(st.integers(0, 1500), max_size=25)))),
    )


# -- the model


@dataclass
class Expected:
    """A run played through. Times are seconds from its start."""

    case: Case
    phases: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    started: list[tuple[float, str, int]] = field(default_factory=list)
    """Second, job and attempt, of every container that was started."""
    run_phase: str = ""

    def __post_init__(self) -> None:
        self.now = 0.0
        self.attempts = {node.name: 1 for node in self.case.nodes}
        self.waits = {node.name: 0.0 for node in self.case.nodes}
        self.ends: dict[str, tuple[float, str, str]] = {}
        self.over = min(self.case.timeout_s or NEVER, NEVER)
        while len(self.phases) < len(self.case.nodes):
            self._begin()
            self._advance()
        bad = set(self.phases.values()) - {"Succeeded"}
        self.run_phase = "Canceled" if "Canceled" in bad else "Failed" if bad else "Succeeded"

    def _begin(self) -> None:
        for node in self.case.nodes:
            ready = all(self.phases.get(need) == "Succeeded" for need in node.needs)
            if node.name in self.phases or node.name in self.ends or not ready or self.waits[node.name] > self.now:
                continue
            if len(self.ends) >= self.case.slots:
                return
            attempt = self.attempts[node.name]
            what = node.attempt(attempt)
            if what.how in UNSTARTED:  # it has left its slot before anything else happens
                self._fail(node, "Error", "")
                return self._begin()
            if not node.is_hosted:
                self.started.append((self.now, node.name, attempt))
            self.ends[node.name] = self._end_of(node, what)

    def _end_of(self, node: Node, what: Try) -> tuple[float, str, str]:
        natural = NEVER if what.how == "forever" else self.now + what.after_s
        limit = NEVER if node.timeout_s is None else self.now + node.timeout_s
        if limit <= natural:
            return limit, "Failed", f"stopped: its timeout of {node.timeout_s:g} s has passed"
        if what.how == "exit" and what.code == 0:
            return natural, "Succeeded", ""
        if node.is_hosted:
            return natural, "Error", "refused"
        words = {"exit": f"exit code {what.code}", "oom": OOM, "lost": LOST}[what.how]
        return natural, "Error" if what.how == "lost" else "Failed", words

    def _advance(self) -> None:
        if len(self.phases) == len(self.case.nodes):
            return
        cancel = NEVER if self.case.cancel_s is None else self.case.cancel_s
        due = min((end, name) for name, (end, _, _) in self.ends.items()) if self.ends else (NEVER, "")
        waits = [at for name, at in self.waits.items() if name not in self.phases and at > self.now]
        self.now = min(due[0], cancel, self.over, *waits) if waits else min(due[0], cancel, self.over)
        if self.now == cancel:
            self._all("Canceled", "canceled")
        elif self.now == self.over:
            self._expire()
        elif self.now == due[0]:
            _, phase, reason = self.ends.pop(due[1])
            node = next(node for node in self.case.nodes if node.name == due[1])
            if phase == "Succeeded":
                self.phases[node.name] = phase
            else:
                self._fail(node, phase, reason)

    def _fail(self, node: Node, phase: str, reason: str) -> None:
        attempt = self.attempts[node.name]
        at = self.now + node.delay_s * 2 ** (attempt - 1)
        again = attempt <= node.limit and at < self.over
        if again and phase == "Error" and node.attempt(attempt).is_hopeless:
            reason = f"not tried again: {reason}"
        elif again:
            self.attempts[node.name], self.waits[node.name] = attempt + 1, at
            return
        self.phases[node.name], self.reasons[node.name] = phase, reason
        fallen = {node.name}
        while True:
            below = [one.name for one in self.case.nodes if one.name not in fallen and fallen & set(one.needs)]
            if not below:
                return
            for name in below:
                fallen.add(name)
                if name not in self.phases:
                    self.phases[name], self.reasons[name] = "Omitted", f"{node.name} failed"

    def _all(self, phase: str, reason: str) -> None:
        for node in self.case.nodes:
            if node.name not in self.phases:
                self.phases[node.name], self.reasons[node.name] = phase, reason
        self.ends.clear()

    def _expire(self) -> None:
        reason = f"stopped: the run's timeout of {self.case.timeout_s:g} s has passed"
        for node in self.case.nodes:
            if node.name in self.phases:
                continue
            tried = self.attempts[node.name] > 1
            runs = node.name in self.ends
            self.phases[node.name] = "Failed" if runs or tried else "Omitted"
            self.reasons[node.name] = reason if runs or not tried else f"not tried again: {reason}"
        self.ends.clear()


# -- the real one


class Play:
    """Drives a bench through a case: ends containers when their time has come, asks to cancel, lets time pass."""

    def __init__(self, case: Case, bench: Bench) -> None:
        self.case = case
        self.bench = bench
        self.nodes = {node.name: node for node in case.nodes}
        self.due: dict[str, tuple[float, Try]] = {}
        """By job: when its attempt ends by itself."""
        self.begun = bench.clock()
        self.launched: list[tuple[float, str, int]] = []

    def document(self) -> dict[str, Any]:
        jobs = {}
        for node in self.case.nodes:
            more: dict[str, Any] = {"retry": {"limit": node.limit, "delay": node.delay_s}} if node.limit else {}
            if node.timeout_s is not None:
                more["timeout"] = node.timeout_s
            job = script(*node.needs, **more)
            if node.is_hosted:
                job = {**job, "uses": "container@v1", "with": {"image": "busybox"}}
            elif any(one.how in UNSTARTED for one in node.tries):
                job["with"]["image"] = f"image-of-{node.name}"
            jobs[node.name] = job
        return {**flow(**jobs), **({} if self.case.timeout_s is None else {"timeout": self.case.timeout_s})}

    def body(self, name: str) -> Any:
        def begin(inside: Inside) -> None:
            attempt = self.bench.jobs(self.run)[name].attempt
            assert inside.spec.name.endswith(f"-{attempt}") == (attempt > 1), "a container's name tells its attempt"
            self.launched.append((self.bench.clock() - self.begun, name, attempt))
            self._plan_end(name, attempt)

        return begin

    def _plan_end(self, name: str, attempt: int) -> None:
        what = self.nodes[name].attempt(attempt)
        self.due.pop(name, None)
        if what.how != "forever":
            self.due[name] = (self.bench.clock() + what.after_s, what)

    async def ensure(self, ref: str, progress: Any, **_: Any) -> str:
        """No image where the attempt says so."""
        self.bench.engine.before("ensure")
        name = ref.removeprefix("image-of-")
        how = self.nodes[name].attempt(self.bench.jobs(self.run)[name].attempt).how if name in self.nodes else ""
        if how in UNSTARTED:
            raise (NoSuchImage if how == "no image" else ImageNotFound)("no such image")
        return f"sha256:{ref}"

    async def act(
        self, rooms: Rooms, run: Run, workflow: Workflow, job: Job, given: Mapping[str, Any]
    ) -> hosted.Done | str:
        """In place of what the daemon does itself."""
        self.bench.engine.before("act")
        what = self.nodes[job.name].attempt(job.attempt)
        assert job.started is not None
        if what.how == "forever" or rooms.clock() < job.started + what.after_s:
            if what.how != "forever":
                self.due[job.name] = (job.started + what.after_s, what)
            return "it takes a while"
        self.due.pop(job.name, None)
        if what.code:
            raise (UsageError if what.is_hopeless else Conflict)("refused")
        return hosted.Done({})

    async def play(self) -> None:
        bench = self.bench
        bench.engine.ensure = self.ensure  # type: ignore[method-assign]
        self.run = bench.submit(self.document(), body={node.name: self.body(node.name) for node in self.case.nodes})
        cancel = NEVER if self.case.cancel_s is None else self.begun + self.case.cancel_s
        bench.watch(killer(self.case.kills))
        for _ in range(100_000):
            await bench.settle()
            if bench.run(self.run).finished is not None:
                break
            times = [cancel, *bench.wakes.values(), *(at for at, _ in self.due.values())]
            at = min(times)
            assert at < NEVER, f"nothing is left to wait for: {bench.phases(self.run)}"
            bench.wait(max(0.0, at - bench.clock()))
            if bench.clock() < at:
                bench.wait(1e-6)
            if at == cancel:
                cancel = NEVER
                with suppress(Killed):
                    cancel_run(bench.db, self.run.id, now=bench.clock())
                bench.hint(self.run.id)
            await self._end_what_is_due()
        bench.watch(lambda call: None)

    async def _end_what_is_due(self) -> None:
        engine = self.bench.engine
        for name in [name for name, (at, _) in self.due.items() if at <= self.bench.clock()]:
            _, what = self.due.pop(name)
            if self.nodes[name].is_hosted:
                self.bench.hint(f"{self.run.id}/{name}")
            elif what.how == "lost":
                engine.vanish(name)
            else:
                engine.exit(name, 137 if what.how == "oom" else what.code, oom=what.how == "oom")


async def check(case: Case) -> None:
    expected = Expected(case)
    with tempfile.TemporaryDirectory() as home:
        environ = {"APPLIANCE_MAX_PARALLEL_JOBS": str(case.slots)}
        bench = Bench(load_settings(environ, home=Path(home)), Clock())
        play = Play(case, bench)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plan, "HOSTED", frozenset({"container@v1"}))
            patch.setattr(hosted, "act", play.act)
            await play.play()
        try:
            _compare(expected, play, bench)
        finally:
            bench.close()


def _above(case: Case, name: str) -> set[str]:
    """The jobs that have to succeed before this one, however far off."""
    needs = {node.name: node.needs for node in case.nodes}
    found, left = set[str](), list(needs[name])
    while left:
        need = left.pop()
        if need not in found:
            found.add(need)
            left += needs[need]
    return found


def _compare(expected: Expected, play: Play, bench: Bench) -> None:
    jobs = bench.jobs(play.run)
    attempts = [(name, attempt) for _, name, attempt in play.launched]
    assert len(set(attempts)) == len(attempts), "an attempt ran twice"
    seconds = {(name, attempt): pytest.approx(at, abs=1e-3) for at, name, attempt in expected.started}
    assert {(name, attempt): at for at, name, attempt in play.launched} == seconds
    assert {name: job.phase for name, job in jobs.items()} == expected.phases
    for name, reason in expected.reasons.items():
        if reason.endswith(" failed"):  # of several that fail in one instant any may be named
            named = jobs[name].message.removesuffix(" failed")
            assert named in _above(play.case, name), name
            assert expected.phases[named] in ("Failed", "Error"), name
        else:
            assert reason in jobs[name].message, name
    assert {name: job.attempt for name, job in jobs.items()} == expected.attempts
    assert set(expected.phases.values()) <= FINAL_PHASES
    assert bench.run(play.run).phase == expected.run_phase
    assert bench.engine.most_running <= play.case.slots
    assert bench.leftovers() == []
    told = events.newest(bench.db.read, kind="run", limit=100_000)
    for reason, phase in (("JobOmitted", "Omitted"), ("JobSucceeded", "Succeeded")):
        assert sum(event.reason == reason for event in told) == list(expected.phases.values()).count(phase)
    assert sum(event.reason == "JobRetried" for event in told) == sum(expected.attempts.values()) - len(jobs)


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_a_run_of_any_graph_ends_as_the_model_says(case: Case) -> None:
    anyio.run(check, case)
