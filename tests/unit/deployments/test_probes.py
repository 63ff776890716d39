"""Health from probe results: Kubernetes' thresholds, with eager first probes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.deployments.probes import EAGER_S, Health, Probes, adopted, fresh, next_probe, observe, probes_of
from appliance.spec.models import Deployment, Probe

HTTP = Probe(path="/health", period_s=10, failure_threshold=3)


def run(health: Health, probes: Probes, *answers: str, until: float = 1e9) -> Health:
    """Answers in the order in which probes come due."""
    for problem in answers:
        due = next_probe(health, probes)
        assert due is not None
        at, kind = due
        assert at <= until
        health = observe(health, probes, kind, problem, at)
    return health


def test_one_success_makes_ready_and_a_row_of_failures_unready() -> None:
    probes = Probes(readiness=HTTP)
    health = run(fresh(probes, began=0), probes, "refused", "refused")
    assert not health.ready
    assert health.last["readiness"] == EAGER_S
    health = run(health, probes, "")
    assert health.ready
    health = run(health, probes, "slow", "slow")
    assert health.ready
    assert run(health, probes, "").failures["readiness"] == 0
    assert not run(health, probes, "slow").ready


def test_a_ready_replica_is_asked_once_a_period() -> None:
    probes = Probes(readiness=HTTP)
    health = run(fresh(probes, began=100), probes, "")
    assert next_probe(health, probes) == (110, "readiness")


def test_an_initial_delay_counts_from_the_start_of_the_container() -> None:
    probes = Probes(readiness=Probe(path="/", initial_delay_s=30))
    assert next_probe(fresh(probes, began=100), probes) == (130, "readiness")


def test_startup_comes_first_and_its_patience_is_period_times_threshold() -> None:
    probes = Probes(readiness=HTTP, startup=HTTP, liveness=HTTP)
    health = fresh(probes, began=0)
    assert next_probe(health, probes) == (0, "startup")
    health = run(health, probes, *["refused"] * 30)
    assert (health.started, health.sick) == (False, "")
    sick = run(health, probes, "refused")
    assert "startup probe did not succeed within 30 s" in sick.sick
    assert next_probe(sick, probes) is None
    started = run(health, probes, "")
    assert started.started
    assert next_probe(started, probes) is not None


def test_liveness_restarts_after_its_threshold() -> None:
    probes = Probes(readiness=Probe(path="/", period_s=1000), liveness=HTTP)
    health = observe(fresh(probes, began=0), probes, "readiness", "", 0)
    for number in range(3):
        assert not health.sick
        health = observe(health, probes, "liveness", "refused", number * 10.0)
    assert health.sick == "its liveness probe failed 3 times: refused"
    assert not health.ready


def test_without_a_readiness_probe_the_port_is_asked_until_it_answers_once() -> None:
    probes = probes_of(Deployment(name="d", image="i"))
    health = run(fresh(probes, began=0), probes, "nothing listens", "")
    assert health.ready
    assert next_probe(health, probes) is None


def test_an_adopted_replica_is_ready_until_a_probe_says_otherwise() -> None:
    probes = Probes(readiness=HTTP, startup=HTTP)
    health = run(adopted(began=0), probes, "slow", "slow")
    assert health.ready
    assert not run(health, probes, "slow").ready


@given(st.lists(st.sampled_from(["", "bad"]), max_size=40), st.booleans(), st.booleans())
def test_laws_of_health(answers: list[str], startup: bool, liveness: bool) -> None:
    probes = Probes(readiness=HTTP, startup=HTTP if startup else None, liveness=HTTP if liveness else None)
    health = fresh(probes, began=0)
    now = 0.0
    for problem in answers:
        due = next_probe(health, probes)
        if due is None:
            assert health.sick
            return
        at, kind = due
        was, now = health, max(at, now)
        health = observe(health, probes, kind, problem, now)
        assert health.started or not health.ready
        assert not (health.sick and health.ready)
        if health.ready and not was.ready:
            assert (kind, problem) == ("readiness", "")
