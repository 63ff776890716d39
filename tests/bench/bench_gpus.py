"""A simulated day of GPUs: the appliance's own `place` beside other schedulers, with the same cards and requests.

    python -m tests.bench.bench_gpus [SEEDS]

Eight whole GPUs, and three more that are split by MIG (7 x 1g; 2 x 3g + 1g; 3 x 2g + 1g): eight stay whole so that
there is a class that needs all of them. About 1,000 requests of 12 owners come in 24 hours, more in working hours: jobs
on 1, 2, 4 and 8 GPUs and on instances, notebooks, replicas. 70 % of the jobs have a limit, 1.2 to 5 times as long as
they take; the others, notebooks and replicas have none. How long things take is scaled for each kind of card until what
is brought in the day is 0.75, 0.95 or 1.15 of what it could do; the day then goes on until all of it is done.

A wait is the time from being asked for to the end, less what the work takes: what is preempted begins anew, and waits
for that too. "lost" are GPU-hours of such work. Slowdown is (wait + work) / work, the work taken for a minute at least;
Jain's index of the owners' mean slowdown is 1 where all are served alike. Utilisation is of the eight whole GPUs in the
24 hours. FIFO and EASY go by age alone, EASY-w and conservative by the same priority and fair share as `place`; the
peers believe limits and plan a day for who gives none. `place` alone writes words and forecasts, keeps nothing on the
word of a limit that it does not enforce, and preempts; `place 1h` is the same with a patience of an hour. Simulated
waits are the same on every machine; the cost of a decision, in processor time, is not.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from math import log

from appliance.scheduler.fitting import needs
from appliance.scheduler.placement import place
from appliance.scheduler.types import Card, Held, Placement, Policy, Request
from appliance.spec.machines import Shape
from tests.support.cluster import Day, Machine, Placer, Work, ask, instance, whole
from tests.support.queues import Conservative, Easy, Fifo, by_age, by_weight

LOADS = (0.75, 0.95, 1.15)
REQUESTS = 1_000
DAY_S = 86_400.0
NIGHT, PEAK = 0.3, 1.6
EVERY_S = 180.0
OWNERS = 12
WHOLE = 8


def patient(
    cards: Sequence[Card],
    held: Sequence[Held],
    requests: Sequence[Request],
    used: Mapping[str, float],
    policy: Policy,
    *,
    now: float,
    expected: Mapping[str, float],
) -> Placement:
    return place(cards, held, requests, used, replace(policy, patience_s=3_600.0), now=now, expected=expected)


SCHEDULERS: Mapping[str, Placer] = {
    "place": place,
    "place 1h": patient,
    "FIFO": Fifo(by_age),
    "EASY": Easy(by_age),
    "EASY-w": Easy(by_weight),
    "conserv.": Conservative(by_weight),
}
# part of the requests, what, median minutes, sigma
MIX = (
    (0.35, "job", Shape(gpus=1), 12.0, 1.2),
    (0.10, "job", Shape(gpus=2), 12.0, 1.2),
    (0.05, "job", Shape(gpus=4), 12.0, 1.2),
    (0.02, "job", Shape(gpus=8), 40.0, 1.2),
    (0.20, "job", Shape(mig="1g.10gb"), 12.0, 1.2),
    (0.04, "job", Shape(mig="2g.20gb"), 12.0, 1.2),
    (0.04, "job", Shape(mig="3g.40gb"), 12.0, 1.2),
    (0.15, "notebook", Shape(gpus=1), 90.0, 0.8),
    (0.05, "replica", Shape(gpus=1), 120.0, 0.8),
)
PRIORITIES = {"job": 0, "notebook": 10, "replica": 50}
FREE = -50
"""What costs nothing has this priority and makes way: one job in ten."""


def machine() -> tuple[Card, ...]:
    return (
        *(whole(f"g{number}", 80, "A100") for number in range(WHOLE)),
        *(instance(f"s{number}", "1g.10gb", "split0") for number in range(7)),
        *(instance(f"t{number}", "3g.40gb", "split1", 40) for number in range(2)),
        instance("t2", "1g.10gb", "split1"),
        *(instance(f"u{number}", "2g.20gb", "split2", 20) for number in range(3)),
        instance("u3", "1g.10gb", "split2"),
    )


def _arrivals(rng: random.Random, count: int) -> list[float]:
    """Of a day, by thinning: few at night, most between 9 and 18 h."""
    found: list[float] = []
    while len(found) < count:
        at = rng.uniform(0, DAY_S)
        hour = at / 3_600
        rate = PEAK if 9 <= hour < 18 else 1.0 if 7 <= hour < 22 else NIGHT
        if rng.random() * PEAK < rate:
            found.append(at)
    return sorted(found)


@dataclass(frozen=True)
class Brought:
    work: list[Work]
    expected: dict[str, float]
    """What things usually take, where they were done before: two of three jobs, by a factor of about 1.5 wrong."""
    scales: dict[str, float]
    """By how much the durations of a kind of card were stretched."""
    length_s: float = DAY_S


def bring(seed: int, load: float, *, count: int = REQUESTS) -> Brought:
    """Fewer come in a shorter day, as close behind each other."""
    rng = random.Random(seed)
    length = DAY_S * count / REQUESTS
    owners = [1 / (number + 1) ** 1.2 for number in range(OWNERS)]
    drawn = []
    for at in _arrivals(rng, count):
        _, what, shape, minutes, sigma = rng.choices(MIX, [one[0] for one in MIX])[0]
        takes = rng.lognormvariate(log(minutes * 60), sigma)
        owner = f"owner{rng.choices(range(OWNERS), owners)[0]}"
        drawn.append(
            (
                at * length / DAY_S,
                what,
                shape,
                takes,
                owner,
                rng.uniform(1.2, 5),
                rng.random(),
                rng.random(),
                rng.gauss(0, 0.4),
            )
        )
    capacity: dict[str, float] = defaultdict(float)
    for card in machine():
        capacity[card.profile] += length
    asked: dict[str, float] = defaultdict(float)
    for _, _, shape, takes, *_ in drawn:
        asked[shape.mig] += takes * needs(shape)
    scales = {profile: load * capacity[profile] / total for profile, total in asked.items()}
    work, expected = [], {}
    for number, (at, what, shape, takes, owner, slack, limited, opted, error) in enumerate(drawn):
        takes *= scales[shape.mig]
        spare = opted < (0.5 if what == "notebook" else 0.1 if what == "job" else 0)
        request = ask(
            f"{what}{number}",
            shape,
            asked=at,
            priority=FREE if what == "job" and spare else PRIORITIES[what],
            owner=owner,
            bound_s=takes * slack if what == "job" and limited < 0.7 else None,
            preemptible=spare,
        )
        work.append(Work(request, takes))
        if what == "job" and number % 3:
            expected[request.id] = takes * 2.718281828**error
    return Brought(work, expected, scales, length)


def simulate(brought: Brought, scheduler: Placer, *, every_s: float = EVERY_S) -> Day:
    """Decisions are made when something begins to wait or ends, and every so many seconds while somebody waits."""
    expected = brought.expected
    day = Machine(
        machine(),
        brought.work,
        scheduler,
        expected=lambda one: expected.get(one.request.id),
        every_s=every_s,
        timer=time.process_time,
    ).run()
    missing = {one.request.id for one in brought.work} - set(day.ended)
    assert not missing, f"never had a turn: {sorted(missing)}"
    return day


def part(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0.0


@dataclass(frozen=True)
class Figures:
    """Of one scheduler, over the days of all seeds. Waits in minutes."""

    waits: list[float]
    eights: list[float]
    slowdowns: list[float]
    utilisation: float
    jain: float
    preempted: float
    lost_hours: float
    errors: list[float]
    within: list[bool]
    """Whether a forecast wait was at least half and at most twice the true one."""
    untold: float
    """Part of those who waited to whom no moment could be told at first."""
    decisions_ms: list[float]
    deepest: int


def measure(days: Sequence[tuple[Brought, Day]]) -> Figures:
    waits, eights, slowdowns, errors, decisions = [], [], [], [], []
    within: list[bool] = []
    jains, used, told = [], [], []
    for brought, day in days:
        by_owner: dict[str, list[float]] = defaultdict(list)
        for one in brought.work:
            name = one.request.id
            wait = max(day.ended[name] - one.request.asked - one.takes, 0.0)
            waits.append(wait / 60)
            slow = (wait + one.takes) / max(one.takes, 60)
            slowdowns.append(max(slow, 1.0))
            by_owner[one.request.who.owner].append(max(slow, 1.0))
            if one.request.shape.gpus == WHOLE:
                eights.append(wait / 60)
            if name in day.said:
                at, forecast = day.said[name]
                told.append(forecast is not None)
                if forecast is not None:
                    true, guess = day.began[name] - at, forecast - at
                    errors.append(abs(true - guess) / 60)
                    within.append(guess <= 2 * true + 60 and true <= 2 * guess + 60)
        means = [statistics.fmean(one) for one in by_owner.values()]
        jains.append(sum(means) ** 2 / (len(means) * sum(mean**2 for mean in means)))
        held = sum(
            max(min(until, brought.length_s) - since, 0.0) * sum(card.startswith("g") for card in cards)
            for since, until, cards in day.spans
        )
        used.append(held / (WHOLE * brought.length_s))
        decisions += [1_000 * took for took in day.told_s]
    count = len(days)
    return Figures(
        *(waits, eights, slowdowns, statistics.fmean(used), statistics.fmean(jains)),
        sum(day.preempted for _, day in days) / count,
        sum(day.lost_s for _, day in days) / count / 3_600,
        *(errors, within, 1 - statistics.fmean(told) if told else 0.0),
        *(decisions, max(day.deepest for _, day in days)),
    )


HEAD = (
    f"{'':9} {'wait, minutes':>39}  {'8 GPUs':>13}  {'slowdown':>8}  {'used':>5}  {'Jain':>5}"
    f"  {'preempted':>9}  {'lost':>6}  {'a decision, ms':>15}  {'queue':>5}\n"
    f"{'':9} {'mean':>7} {'median':>7} {'p95':>7} {'p99':>7} {'max':>7}  {'mean':>6} {'max':>6}  {'p95':>8}  {'':5}"
    f"  {'':5}  {'a day':>9}  {'GPU-h':>6}  {'median':>7} {'p99':>7}  {'most':>5}"
)


def row(name: str, of: Figures) -> str:
    waits = " ".join(
        f"{value:7.1f}"
        for value in (
            *(statistics.fmean(of.waits), statistics.median(of.waits)),
            *(part(of.waits, 95), part(of.waits, 99), max(of.waits)),
        )
    )
    eights = f"{statistics.fmean(of.eights or [0]):6.0f} {max(of.eights, default=0):6.0f}"
    cost = f"{statistics.median(of.decisions_ms):7.2f} {part(of.decisions_ms, 99):7.2f}"
    return (
        f"{name:9} {waits}  {eights}  {part(of.slowdowns, 95):8.1f}  {of.utilisation:5.1%}  {of.jain:5.2f}"
        f"  {of.preempted:9.1f}  {of.lost_hours:6.1f}  {cost}  {of.deepest:5}"
    )


def crowded(waiting: int = 200, rounds: int = 40) -> list[float]:
    """Milliseconds of a decision with so many waiting, all whole cards held."""
    brought = bring(1, 1.0)
    cards = machine()[:WHOLE]
    requests = [one.request for one in brought.work if not one.request.shape.mig][:waiting]
    held = [
        Held(replace(ask(f"holder{number}"), bound_s=None if number % 2 else 9e5), (card.id,), DAY_S - 600)
        for number, card in enumerate(cards)
    ]
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        found = place(cards, held, requests, {}, Policy(), now=DAY_S, expected=brought.expected)
        took.append(1_000 * (time.perf_counter() - begun))
        assert len(found.waits) == waiting
    return took


def days(name: str, load: float, seeds: int) -> Figures:
    brought = [bring(seed, load) for seed in range(1, seeds + 1)]
    return measure([(one, simulate(one, SCHEDULERS[name])) for one in brought])


def main(seeds: int = 1) -> None:
    begun = time.perf_counter()
    with ProcessPoolExecutor() as pool:
        found = {(name, load): pool.submit(days, name, load, seeds) for load in LOADS for name in SCHEDULERS}
        for load in LOADS:
            scales = ", ".join(
                f"{profile or 'whole'} {by:.2f}" for profile, by in sorted(bring(1, load).scales.items())
            )
            print(f"load {load}: {seeds} x {REQUESTS} requests; durations times {scales} (first day)\n{HEAD}")
            for name in SCHEDULERS:
                print(row(name, found[name, load].result()), flush=True)
            told = found["place", load].result()
            print(
                f"forecasts of place: median error {statistics.median(told.errors or [0]):.1f} minutes, "
                f"{statistics.fmean(told.within or [0]):.0%} within a factor of 2 (and a minute); "
                f"to {told.untold:.0%} of those who waited no moment was told at first\n"
            )
    took = crowded()
    print(f"a decision with 200 waiting on 8 held GPUs: {statistics.median(took):.2f} ms, most {max(took):.2f} ms")
    print(f"the whole took {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
