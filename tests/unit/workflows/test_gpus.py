"""Jobs that need a GPU: who waits and says for what, whose slot is lent, and that a GPU is given back at every end."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.errors import GpuRefused
from appliance.scheduler.leasing import LEASE, NoGpus
from appliance.scheduler.types import Answer, Who
from appliance.settings import load as load_settings
from appliance.state import runs
from appliance.workflows.submit import cancel_run
from tests.unit.scheduler.fakes import FakeLeases
from tests.unit.workflows.bodies import events_of, forever, write
from tests.unit.workflows.fakes import Bench, flow, script

pytestmark = pytest.mark.anyio

GPU = {"resources": {"instance-type": "P4000"}}
STRING = {"word": {"type": "string"}}


@pytest.fixture
def gpus(bench: Bench) -> FakeLeases:
    return one_card(bench)


def one_card(bench: Bench, cards: int = 1) -> FakeLeases:
    found = FakeLeases(cards)
    bench.leases = found
    bench.kill()
    return found


async def test_it_runs_with_the_card_that_it_was_given_and_gives_it_back(bench: Bench, gpus: FakeLeases) -> None:
    run = bench.submit(flow(job=script(**GPU, timeout=60)), body={"job": forever})
    await bench.settle()
    asked = gpus.of(run.id, "job")
    assert asked
    (container,) = bench.engine.containers.values()
    assert list(bench.engine.specs[container.id].gpus) == ["GPU-0"]
    assert container.labels[LEASE] == asked.lease
    assert asked.container == container.id
    assert asked.who == Who("run", "flow.1", run.id, "job")
    assert asked.bound_s == 60 + bench.settings.stop_grace_s
    bench.engine.exit("job", 0)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}
    assert gpus.left == ("GPU-0",)
    assert not gpus.asked


async def test_who_waits_says_for_what_and_begins_when_it_is_free(bench: Bench, gpus: FakeLeases) -> None:
    stranger = gpus.take()
    run = bench.submit(flow(job=script(**GPU)))
    await bench.settle()
    assert bench.phases(run) == {"job": "Starting"}
    assert bench.jobs(run)["job"].message == "it waits for 1 GPU, behind run stranger"
    assert bench.run(run).message == "job job: it waits for 1 GPU, behind run stranger"
    assert bench.engine.specs == {}, "nothing is made before there is a GPU"
    assert bench.store.volumes("runs") == []
    gpus.release(stranger)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}
    assert bench.run(run).message == ""
    assert gpus.left == gpus.total


async def test_the_place_in_the_queue_is_taken_before_the_image_comes_and_no_gpu_with_it(
    bench: Bench, gpus: FakeLeases
) -> None:
    seen: list[tuple[bool, tuple[str, ...]]] = []

    def before(call: str) -> None:
        if call == "ensure" and (asked := gpus.of(run.id, "job")):
            seen.append((asked.ready, gpus.left))

    bench.watch(before)
    run = bench.submit(flow(job=script(**GPU)))
    await bench.settle()
    assert seen == [(False, ("GPU-0",))]
    assert bench.phases(run) == {"job": "Succeeded"}


async def test_one_that_waits_lends_its_slot(bench: Bench, gpus: FakeLeases) -> None:
    bench.settings = load_settings({"APPLIANCE_MAX_PARALLEL_JOBS": "1"}, home=bench.settings.home)
    bench.kill()
    stranger = gpus.take()
    body = {"one": forever, "cpu": forever, "other": forever}
    first = bench.submit(flow(one=script(**GPU), two=script(**GPU)), body=body, name="first")
    second = bench.submit(flow(cpu=script(), other=script()), name="second")
    await bench.settle()
    assert bench.engine.running() == ["cpu"]
    assert bench.phases(first) == {"one": "Starting", "two": "Starting"}, "both have taken their place in the queue"
    assert bench.run(second).phase == "Running"
    assert bench.run(first).message.endswith("; 1 more waits")
    gpus.release(stranger)
    await bench.settle()
    assert bench.engine.running() == ["cpu", "one"], "a GPU waits for no slot"
    bench.engine.exit("cpu", 0)
    await bench.settle()
    assert bench.engine.running() == ["one"], "and counts as one from then on"
    bench.engine.exit("one", 0)
    await bench.settle()
    bench.engine.exit("other", 0)
    await bench.settle()
    assert bench.run(first).phase == bench.run(second).phase == "Succeeded"
    assert gpus.left == gpus.total


@pytest.mark.parametrize("granted", [False, True])
async def test_canceled_it_is_given_back(bench: Bench, gpus: FakeLeases, granted: bool) -> None:
    if not granted:
        gpus.take()
    run = bench.submit(flow(job=script(**GPU)), body={"job": forever})
    await bench.settle()
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    assert bench.phases(run) == {"job": "Canceled"}
    assert gpus.of(run.id, "job") is None
    assert bench.leftovers() == []


async def test_the_timeout_of_the_run_ends_the_wait(bench: Bench, gpus: FakeLeases) -> None:
    gpus.take()
    run = bench.submit({"timeout": 3600, **flow(job=script(**GPU))})
    await bench.settle()
    bench.wait(3600)
    await bench.settle()
    assert bench.run(run).phase == "Failed"
    assert "the run's timeout of 3600 s has passed" in bench.jobs(run)["job"].message
    assert gpus.of(run.id, "job") is None


async def test_between_two_attempts_the_card_is_anybodys(bench: Bench, gpus: FakeLeases) -> None:
    run = bench.submit(flow(job=script(**GPU, retry=1)), body={"job": lambda inside: 1})
    await bench.settle()
    assert (bench.phases(run), gpus.left) == ({"job": "Pending"}, ("GPU-0",))
    bench.wait(10)
    await bench.settle()
    assert bench.phases(run) == {"job": "Failed"}
    assert len(bench.engine.starts) == 2
    assert not gpus.asked


async def test_what_is_reused_takes_no_gpu(bench: Bench, gpus: FakeLeases) -> None:
    document = flow(job=script(**GPU, outputs=STRING))
    bench.submit(document, body={"job": write("/outputs/word", "x")})
    await bench.settle()
    gpus.take()
    again = bench.submit(document)
    await bench.settle()
    assert bench.phases(again) == {"job": "Succeeded"}
    assert bench.jobs(again)["job"].reused
    assert gpus.of(again.id, "job") is None


async def test_an_image_that_is_not_there_gives_up_the_place(bench: Bench, gpus: FakeLeases) -> None:
    run = bench.submit(flow(job={**script(**GPU), "with": {"image": "nowhere", "script": "true"}}))
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert not gpus.asked


async def test_what_can_never_be_given_waits_and_says_so(bench: Bench) -> None:
    bench.leases = FakeLeases(1, machines={"A4000x8": 8})
    bench.kill()
    run = bench.submit(flow(job=script(resources={"instance-type": "A4000x8"})))
    await bench.settle()
    assert bench.phases(run) == {"job": "Starting"}
    assert bench.jobs(run)["job"].message == "it asks for 8 GPUs, this machine has 1"


async def test_a_word_that_was_missed_is_made_up_for(bench: Bench, gpus: FakeLeases) -> None:
    stranger = gpus.take()
    run = bench.submit(flow(job=script(**GPU)))
    await bench.settle()
    gpus.on_change = lambda who: None
    gpus.release(stranger)
    await bench.settle()
    assert bench.phases(run) == {"job": "Starting"}
    bench.wait(60)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}


async def test_a_checkout_takes_no_gpu_whatever_it_runs_on(bench: Bench, gpus: FakeLeases) -> None:
    gpus.take()
    checkout = {
        "uses": "git-checkout@v1",
        "with": {"url": "https://example.org/a.git"},
        "outputs": {"repo": {"type": "volume"}},
    }
    run = bench.submit({"defaults": {"resources": {"instance-type": "P4000"}}, **flow(get=checkout)})
    await bench.settle()
    assert bench.jobs(run)["get"].phase != "Starting"
    assert gpus.of(run.id, "get") is None


class NoDriver(NoGpus):
    def ask(self, who: Who, *, machine: str, **terms: Any) -> Answer:
        return Answer("unneeded", words=f"{machine} has a GPU, and this machine none" if machine == "P4000" else "")


async def test_without_a_driver_it_runs_without_a_gpu_and_the_run_says_so_once(bench: Bench) -> None:
    bench.leases = NoDriver()
    bench.kill()
    run = bench.submit({"defaults": GPU, **flow(a=script(), b=script(), cpu=script(resources={"instance-type": "C5"}))})
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"
    assert [event.message for event in events_of(bench, "Ignored")] == ["P4000 has a GPU, and this machine none"]
    assert not any(spec.gpus for spec in bench.engine.specs.values())


async def test_what_it_was_given_in_place_of_what_it_asked_is_said(bench: Bench, gpus: FakeLeases) -> None:
    gpus.words = "it asks for 80 GB, the largest here has 24"
    bench.submit({"defaults": GPU, **flow(a=script(), b=script("a"))})
    await bench.settle()
    assert [event.message for event in events_of(bench, "Machine")] == [gpus.words]


# a kill, and what is left of a lease


async def test_after_a_kill_it_waits_on_in_its_place(bench: Bench, gpus: FakeLeases) -> None:
    stranger = gpus.take()
    run = bench.submit(flow(job=script(**GPU)))
    await bench.settle()
    before = gpus.of(run.id, "job")
    bench.kill()
    await bench.settle()
    assert gpus.of(run.id, "job") == before
    gpus.release(stranger)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}


async def test_a_container_whose_lease_is_anothers_now_does_not_start(bench: Bench, gpus: FakeLeases) -> None:
    def killed(call: str) -> None:
        if call == "start":
            raise KeyboardInterrupt

    run = bench.submit(flow(job=script(**GPU)), body={"job": forever})
    bench.watch(killed)
    with pytest.raises(KeyboardInterrupt):
        await bench.settle()
    bench.watch(lambda call: None)
    with bench.db.write() as db:  # killed before that it begins was written
        db.execute("UPDATE jobs SET started = NULL")
    gpus.release(Who("run", "flow.1", run.id, "job"))
    stranger = gpus.take()
    bench.kill()
    await bench.settle()
    assert bench.engine.starts == []
    assert bench.phases(run) == {"job": "Starting"}
    assert bench.engine.containers == {}
    gpus.release(stranger)
    await bench.settle()
    assert bench.engine.running() == ["job"]


# what befalls the GPU

RETRIED = {"limit": 1, "delay": 10}


def news(bench: Bench, run: runs.Run, kind: str, words: str) -> None:
    getattr(bench.controller.gpu_news, kind)(run.id, words, "job")


async def test_it_makes_way_without_an_attempt_lost(bench: Bench, gpus: FakeLeases) -> None:
    run = bench.submit(flow(job=script(**GPU, retry=RETRIED, preemptible=True)), body={"job": forever})
    await bench.settle()
    assert gpus.of(run.id, "job").preemptible  # type: ignore[union-attr]
    gpus.take()
    news(bench, run, "preempt", "notebook anna is more urgent")
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert (job.phase, job.attempt, job.tries, job.preempted) == ("Starting", 2, 1, "")
    assert bench.engine.running() == []
    assert "behind run stranger" in job.message
    assert [event.message for event in events_of(bench, "JobPreempted")] == ["job: notebook anna is more urgent"]
    assert "attempt 1 of 2 begins again" in events_of(bench, "JobRetried")[0].message


@pytest.mark.parametrize("kill", [False, True])
async def test_a_kill_between_does_not_forget_that_it_makes_way(bench: Bench, gpus: FakeLeases, kill: bool) -> None:
    run = bench.submit(flow(job=script(**GPU, retry=RETRIED)), body={"job": forever})
    await bench.settle()
    news(bench, run, "preempt", "x")
    if kill:
        bench.kill()
    news(bench, run, "preempt", "x again")
    await bench.settle()
    assert len(events_of(bench, "JobPreempted")) == 1
    assert (bench.jobs(run)["job"].attempt, bench.jobs(run)["job"].phase) == (2, "Running")


async def test_one_that_may_not_run_twice_goes_on(bench: Bench, gpus: FakeLeases) -> None:
    run = bench.submit(flow(job=script(**GPU, preemptible=True)), body={"job": forever})
    await bench.settle()
    assert gpus.of(run.id, "job").preemptible is False  # type: ignore[union-attr]
    news(bench, run, "preempt", "x")
    await bench.settle()
    assert bench.engine.running() == ["job"]


async def test_one_that_ended_before_ended_by_itself(bench: Bench, gpus: FakeLeases) -> None:
    run = bench.submit(flow(job=script(**GPU, retry=RETRIED)), body={"job": forever})
    await bench.settle()
    bench.engine.notice = lambda owner, action: None
    bench.engine.exit("job", 0)
    bench.clock.now += 1
    news(bench, run, "preempt", "x")
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (1, "Failed")])
async def test_a_fault_that_the_program_made_is_told_at_its_end(
    bench: Bench, gpus: FakeLeases, code: int, phase: str
) -> None:
    run = bench.submit(flow(job=script(**GPU)), body={"job": forever})
    await bench.settle()
    for _ in range(2):
        news(bench, run, "gpu_fault", "Xid 31: it wrote where it may not")
    assert bench.engine.running() == ["job"]
    bench.kill()
    bench.engine.exit("job", code)
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert job.phase == phase
    assert job.message.endswith("its GPU: Xid 31: it wrote where it may not")
    assert len(events_of(bench, "GpuFault")) == 1


async def test_a_lost_gpu_ends_nothing_and_costs_no_attempt(bench: Bench, gpus: FakeLeases) -> None:
    run = bench.submit(flow(job=script(**GPU, retry=RETRIED)), body={"job": forever})
    await bench.settle()
    for attempt in range(1, 4):
        news(bench, run, "gpu_lost", "it fell off the bus")
        await bench.settle()
        assert bench.engine.running() == ["job"], "what has it open may go on"
        bench.engine.exit("job", 1)
        await bench.settle()
        assert (bench.jobs(run)["job"].attempt, bench.jobs(run)["job"].tries) == (attempt + 1, 1)
    news(bench, run, "gpu_lost", "it fell off the bus")
    bench.engine.exit("job", 1)
    await bench.settle()
    assert bench.jobs(run)["job"].tries == 2, "one that loses each card must come to an end"


async def test_a_machine_that_cannot_give_it_now_is_asked_again(bench: Bench, gpus: FakeLeases) -> None:
    bench.engine.start_error, bench.engine.refusal = "no such CDI device", GpuRefused
    run = bench.submit(flow(job=script(**GPU)))
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert (job.phase, job.message) == ("Pending", "waits: it cannot be given its GPU: no such CDI device")
    assert gpus.left == gpus.total, "others may have it meanwhile"
    assert bench.leftovers() == []
    bench.engine.start_error = ""
    bench.wait(30)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}


async def test_news_of_a_run_that_is_over_change_nothing(bench: Bench, gpus: FakeLeases) -> None:
    run = bench.submit(flow(job=script(**GPU)))
    await bench.settle()
    for kind in ("preempt", "gpu_fault", "gpu_lost"):
        news(bench, run, kind, "x")
        getattr(bench.controller.gpu_news, kind)("nobody", "x")
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"
    assert bench.jobs(run)["job"].message == ""
