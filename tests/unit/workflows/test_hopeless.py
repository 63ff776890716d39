"""What no later attempt could cure is not tried again, and says so; all else is."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.engine.pull import unavailable
from appliance.errors import Conflict, EngineError, ImageNotFound, NoSpace, NoSuchImage
from appliance.workflows import preparing
from tests.unit.workflows.bodies import events_of, remove_dataset
from tests.unit.workflows.fakes import Bench, Inside, flow, script

pytestmark = pytest.mark.anyio

RETRY = {"limit": 2, "delay": 10}


def job(**more: Any) -> dict[str, Any]:
    return script(retry=RETRY, **more)


def reads(ref: str) -> dict[str, Any]:
    return {"d": {"type": "dataset", "with": {"ref": ref}}}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (job(env={"TOKEN": "secret:MISSING"}), "no secret named 'MISSING'"),
        (job(inputs=reads("nowhere")), "no dataset 'nowhere'"),
        (job(inputs=reads("digits:v9")), "no version or tag"),
        ({**job(), "with": {"image": "nothing", "script": "true"}}, "no image nothing"),
        (
            {
                "uses": "deploy@v1",
                "with": {"name": "web"},
                "inputs": {"model": {"type": "string", "with": {"value": "mo1"}}},
                "retry": RETRY,
            },
            "no model 'mo1'",
        ),
    ],
)
async def test_what_is_missing_ends_the_job_at_its_first_attempt(
    bench: Bench, asked: dict[str, Any], words: str
) -> None:
    bench.datasets.create("digits")
    run = bench.submit(flow(job=asked))
    await bench.settle()
    found = bench.jobs(run)["job"]
    assert (found.phase, found.attempt) == ("Error", 1)
    assert found.message.startswith("not tried again: ")
    assert words in found.message
    assert bench.run(run).phase == "Failed"
    assert bench.run(run).message.startswith("job: not tried again: ")
    assert [event.reason for event in events_of(bench, "JobRetried")] == []
    assert bench.leftovers() == []


async def test_a_job_without_further_attempts_says_nothing_of_them(bench: Bench) -> None:
    run = bench.submit(flow(job=script(env={"TOKEN": "secret:MISSING"})))
    await bench.settle()
    assert bench.jobs(run)["job"].message.startswith("no secret named 'MISSING'")


async def test_nor_does_the_last_one(bench: Bench) -> None:
    """The secret was there at the first attempt."""
    bench.vault.set("TOKEN", "hunter2hunter2")
    run = bench.submit(flow(job=script(retry=1, env={"TOKEN": "secret:TOKEN"})), body={"job": lambda inside: 1})
    await bench.settle()
    bench.vault.delete("TOKEN")
    bench.wait(3600)
    await bench.settle()
    found = bench.jobs(run)["job"]
    assert (found.phase, found.attempt) == ("Error", 2)
    assert found.message.startswith("no secret named 'TOKEN'")


@pytest.mark.parametrize(
    "error",
    [
        ImageNotFound("dial tcp: i/o timeout", where="far/away:1"),
        EngineError("something broke"),
        NoSpace("the disk is full"),
        Conflict("is being deleted"),
    ],
)
async def test_what_may_pass_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    prepare, failures = preparing.prepare, [error]

    async def fails_once(*given: Any, **more: Any) -> Any:
        if failures:
            raise failures.pop()
        return await prepare(*given, **more)

    monkeypatch.setattr(preparing, "prepare", fails_once)
    run = bench.submit(flow(job=job()))
    await bench.settle()
    found = bench.jobs(run)["job"]
    assert (found.phase, found.attempt) == ("Pending", 2)
    assert "the next begins 10 s later" in found.message
    bench.wait(10)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}


async def test_a_command_that_the_image_lacks_is_not_looked_for_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {
        "job": "[FATAL tini (7)] exec trian failed: No such file or directory",
        "other": "trian: command not found",
    }

    async def logs_tail(container_id: str, count: int) -> str:
        return next(line for name, line in lines.items() if f"-{name}-" in f"{bench.engine.specs[container_id].name}-")

    def lacks(inside: Inside) -> int:
        return 127

    monkeypatch.setattr(bench.engine, "logs_tail", logs_tail)
    run = bench.submit(flow(job=job(), other=job()), body={"job": lacks, "other": lacks})
    await bench.settle()
    rows = bench.jobs(run)
    assert (rows["job"].phase, rows["job"].attempt) == ("Error", 1)
    assert rows["job"].message.startswith("not tried again: the image cannot run trian")
    assert (rows["other"].phase, rows["other"].attempt) == ("Pending", 2), "a script may have been to install it"


async def test_an_engine_that_lacks_the_command_says_the_same(bench: Bench) -> None:
    bench.engine.start_error = 'exec: "trian": executable file not found in $PATH: unknown'
    run = bench.submit(flow(job=job()))
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert bench.jobs(run)["job"].message.startswith("not tried again: ")


async def test_a_dataset_that_goes_while_a_job_writes_to_it(bench: Bench) -> None:
    made = bench.datasets.create("digits")
    outputs = {"d": {"type": "dataset", "with": {"ref": "digits"}}}
    run = bench.submit(flow(job=job(outputs=outputs)))
    remove_dataset(bench, made.uid)
    await bench.settle()
    found = bench.jobs(run)["job"]
    assert (found.phase, found.attempt) == ("Error", 1)
    assert "no dataset 'digits'" in found.message


@pytest.mark.parametrize(
    ("said", "lasting"),
    [
        ("pull access denied for x, repository does not exist or may require 'docker login'", True),
        ("manifest for x:nope not found: manifest unknown", True),
        ("invalid reference format", True),
        ("Get https://r/v2/: dial tcp: lookup r: no such host", False),
        ("Get https://r/v2/x/manifests/1: net/http: TLS handshake timeout", False),
        ("toomanyrequests: You have reached your pull rate limit", False),
        ("received unexpected HTTP status: 503 Service Unavailable", False),
    ],
)
def test_a_registry_that_answered_no_is_told_from_one_that_did_not(said: str, lasting: bool) -> None:
    found = unavailable("x:1", said)
    assert isinstance(found, ImageNotFound)
    assert isinstance(found, NoSuchImage) is lasting
