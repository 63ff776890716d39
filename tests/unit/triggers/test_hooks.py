"""Signed messages: who may, what they start, what a repetition does, and that nothing else is open."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2
import pytest

from appliance.settings import Settings
from appliance.spec.load import parse
from appliance.spec.models import Patterns, Triggers
from appliance.state import events, resources, runs
from appliance.state import triggers as marks
from appliance.triggers import hooks
from appliance.triggers.hooks import Push, push_of, signature, unwanted
from appliance.triggers.triggers import Triggers as Room
from appliance.workflows import concurrency
from tests.conftest import Clock
from tests.unit.api.test_api import House

pytestmark = pytest.mark.anyio

JOBS = "jobs: {a: {uses: script@v1, with: {image: i, script: 'true'}}}\n"
SECRET = "It's a Secret to Everybody"
COMMIT = "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d"


@pytest.fixture
def house(tmp_path: Path, settings: Settings, clock: Clock) -> Iterator[House]:
    made = House(tmp_path, settings, clock)
    made.parts.secrets.set("HOOK", SECRET)
    yield made
    made.db.close()


async def post(
    house: House,
    path: str,
    body: bytes = b"{}",
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    secret: str = SECRET,
) -> tuple[int, dict[str, Any]]:
    """Without a token, at the front door."""
    sent = {"X-Hub-Signature-256": signature(secret, body), "X-GitHub-Event": "push", **headers}
    answer = await house.front.post(f"/v1/hooks/{path}", content=body, headers=sent)
    return answer.status_code, answer.json()


def push(ref: str = "refs/heads/main", **more: Any) -> bytes:
    body = {"ref": ref, "after": COMMIT, "repository": {"clone_url": "https://example.com/a.git"}, **more}
    return json.dumps(body).encode()


async def workflow(house: House, text: str = "", name: str = "wf") -> None:
    webhook = "webhook: {secret: secret:HOOK}"
    assert (await house.apply(f"on: {{{text}{webhook}}}\n{JOBS}", f"{name}.yaml")).status_code == 200


def test_the_signature_is_githubs() -> None:
    """The example of GitHub's manual."""
    expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert signature(SECRET, b"Hello, World!") == expected
    assert hooks.signed(SECRET, b"Hello, World!", expected)


async def test_a_signed_push_starts_the_workflow_without_a_token(house: House) -> None:
    await workflow(house)
    status, answer = await post(house, "wf", push())
    assert (status, answer["run"]) == (202, "wf.1")
    (run,) = runs.newest(house.db.read)
    assert (run.cause, run.source) == ("webhook", f"a push of branch main at {COMMIT[:12]}")
    assert run.spec["context"]["event"]["github"] == {"url": "https://example.com/a.git", "ref": COMMIT}
    assert house.hints[-1] == "run"


async def test_a_message_of_ones_own_is_enough(house: House) -> None:
    await workflow(house)
    body = b"deploy now"
    answer = await house.front.post(
        "/v1/hooks/wf", content=body, headers={"X-Hub-Signature-256": signature(SECRET, body)}
    )
    assert answer.status_code == 202
    assert "context" not in runs.newest(house.db.read)[0].spec


CHECKOUT = """
jobs:
  a:
    uses: git-checkout@v1
    with: {url: context.event.github.url, ref: context.event.github.ref, password: secret:TOKEN}
    outputs: {tree: {type: volume}}
"""


async def test_a_push_chooses_no_server_that_gets_a_password(house: House) -> None:
    house.parts.secrets.set("TOKEN", "git-token")
    text = "on: {webhook: {secret: secret:HOOK}}\n" + CHECKOUT
    assert (await house.apply(text, "wf.yaml")).status_code == 200
    delivery = {"X-GitHub-Delivery": "one"}
    status, answer = await post(house, "wf", push(), delivery)
    assert (status, answer["run"]) == (200, "")
    assert answer["message"].startswith("job a would send its credentials to https://example.com, a server that nobody")
    (told,) = [event for event in events.newest(house.db.read, kind="workflow") if event.reason == "NotStarted"]
    assert (told.level, told.message) == ("warning", f"a push of branch main at {COMMIT[:12]}: {answer['message']}")
    repository = "kind: repository\nname: site\nurl: https://example.com/other.git\n"
    assert (await house.apply(repository, "site.yaml")).status_code == 200
    status, answer = await post(house, "wf", push(), delivery)
    assert (status, answer["run"]) == (202, "wf.1"), "it can be delivered again once the server is declared"
    (run,) = runs.newest(house.db.read)
    assert run.spec["context"]["event"]["github"]["url"] == "https://example.com/a.git"


WRITES = """
jobs: {a: {uses: script@v1, with: {image: i, script: 'true'}, outputs: {d: {type: dataset, with: {ref: late}}}}}
"""


async def test_what_started_no_run_may_come_again_once_it_is_put_right(house: House) -> None:
    assert (await house.apply(f"on: {{webhook: {{secret: secret:HOOK}}}}\n{WRITES}", "wf.yaml")).status_code == 200
    delivery = {"X-GitHub-Delivery": "one"}
    for _ in range(2):
        status, answer = await post(house, "wf", push(), delivery)
        assert (status, answer["run"]) == (200, "")
        assert answer["message"].startswith("no run was made: no dataset 'late'")
    uid = resources.get(house.db.read, "workflow", "wf").uid
    assert marks.of(house.db.read, uid) == {}
    assert (await house.apply("kind: dataset\nname: late\n", "late.yaml")).status_code == 200
    assert (await post(house, "wf", push(), delivery))[1]["run"] == "wf.1"
    assert (await post(house, "wf", push(), delivery))[1]["message"] == "this delivery was taken already"
    assert (await post(house, "wf", push()))[1]["run"] == ""


async def test_a_full_queue_may_be_asked_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "MOST_WAITING", 1)
    text = f"concurrency: queue\non: {{webhook: {{secret: secret:HOOK}}}}\n{JOBS}"
    assert (await house.apply(text, "wf.yaml")).status_code == 200
    assert (await post(house, "wf", b"1"))[1]["run"] == "wf.1"
    for _ in range(2):  # the second time no event is written
        assert (await post(house, "wf", b"2"))[1]["message"].startswith("no run was made: 1 runs of workflow 'wf' wait")
    monkeypatch.setattr(concurrency, "MOST_WAITING", 2)
    assert (await post(house, "wf", b"2"))[1]["run"] == "wf.2"


async def test_what_the_workflow_skips_has_its_answer(house: House) -> None:
    """Whoever has seen it cannot start it later, when nobody expects it."""
    text = f"concurrency: skip\non: {{webhook: {{secret: secret:HOOK}}}}\n{JOBS}"
    assert (await house.apply(text, "wf.yaml")).status_code == 200
    assert (await post(house, "wf", b"1"))[1]["run"] == "wf.1"
    assert "(concurrency: skip)" in (await post(house, "wf", b"2"))[1]["message"]
    assert "was taken already" in (await post(house, "wf", b"2"))[1]["message"]


async def test_the_same_delivery_is_taken_once_also_after_a_restart(house: House) -> None:
    await workflow(house)
    delivery = {"X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}
    assert (await post(house, "wf", headers=delivery))[0] == 202
    status, answer = await post(house, "wf", headers=delivery)
    assert (status, answer) == (200, {"message": "this delivery was taken already", "run": ""})
    assert (await post(house, "wf", b"{ }", {"X-GitHub-Delivery": "another"}))[0] == 202
    assert len(runs.newest(house.db.read)) == 2


@pytest.mark.parametrize("delivery", [{}, {"X-GitHub-Delivery": "another"}, {"X-GitHub-Delivery": "one"}])
@pytest.mark.parametrize("body", [push(), b"deploy now"])
async def test_who_has_seen_a_message_starts_nothing_with_it(
    house: House, body: bytes, delivery: Mapping[str, str]
) -> None:
    """The id of a delivery is not signed: it may be left out, or another."""
    await workflow(house)
    assert (await post(house, "wf", body, {"X-GitHub-Delivery": "one"}))[0] == 202
    for _ in range(2):
        status, answer = await post(house, "wf", body, delivery)
        assert (status, answer["run"]) == (200, "")
        assert "was taken already" in answer["message"]
    assert len(runs.newest(house.db.read)) == 1
    assert (await post(house, "wf", body + b" "))[0] == 202


@pytest.mark.parametrize("event", ["ping", "issues"])
async def test_a_message_that_is_no_push_does_not_become_one(house: House, event: str) -> None:
    """Neither is the event's name signed."""
    await workflow(house)
    for _ in range(2):
        answer = await post(house, "wf", b'{"zen": "Design for failure."}', {"X-GitHub-Event": event})
        assert answer[0] == 200
    status, answered = await post(house, "wf", b'{"zen": "Design for failure."}')
    assert (status, answered["message"]) == (200, "a message with this body was taken already, and not as a push")
    assert runs.newest(house.db.read) == []


async def test_what_a_push_may_not_yet_start_may_come_again(house: House) -> None:
    await workflow(house, "github: {branches: {only: main}}, ")
    assert (await post(house, "wf", push("refs/heads/dev")))[1]["run"] == ""
    await workflow(house, "github: {branches: {only: dev}}, ")
    assert (await post(house, "wf", push("refs/heads/dev")))[1]["run"] == "wf.1"


async def test_bodies_are_remembered_as_long_as_the_workflow_takes_any(house: House, tmp_path: Path) -> None:
    triggers = Room(
        db=house.db,
        vault=house.parts.secrets,
        instance="0" * 8,
        home=tmp_path,
        clock=house.parts.clock,
        hint=lambda *_: None,
    )
    await workflow(house)
    assert (await post(house, "wf", push(), {"X-GitHub-Delivery": "one"}))[0] == 202
    uid = resources.get(house.db.read, "workflow", "wf").uid
    triggers.look()
    await workflow(house, "github: {branches: {}}, ")
    await workflow(house, name="other")
    triggers.look()
    assert sorted(mark.partition(":")[0] for mark in marks.of(house.db.read, uid)) == ["body", "delivery"]
    assert (await post(house, "wf", push()))[1]["run"] == ""
    assert (await house.apply(JOBS, "wf.yaml")).status_code == 200
    triggers.look()
    assert marks.of(house.db.read, uid) == {}


async def test_a_repository_takes_an_equal_message_again_and_each_delivery_once(house: House) -> None:
    text = "kind: repository\nname: site\nurl: https://example.com/a.git\nwebhook: secret:HOOK\n"
    assert (await house.apply(text, "site.yaml")).status_code == 200
    assert [(await post(house, "repository/site"))[0] for _ in range(2)] == [202, 202]
    once = {"X-GitHub-Delivery": "one"}
    assert [(await post(house, "repository/site", headers=once))[0] for _ in range(2)] == [202, 200]


async def test_deliveries_are_remembered_within_bounds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "KEPT", 5)
    monkeypatch.setattr(hooks, "KEPT_BODIES", 3)
    await workflow(house)
    bodies = [b"%d" % number for number in range(9)]
    for number, body in enumerate(bodies):
        await post(house, "wf", body, {"X-GitHub-Delivery": f"d{number}"})
    uid = resources.get(house.db.read, "workflow", "wf").uid
    assert list(marks.of(house.db.read, uid, "delivery:")) == [f"delivery:d{number}" for number in range(4, 9)]
    kept = {f"body:{hashlib.sha256(body).hexdigest()}" for body in bodies[6:]}
    assert marks.of(house.db.read, uid, "body:").keys() == kept


async def test_ping_and_other_events_start_nothing(house: House) -> None:
    await workflow(house)
    assert (await post(house, "wf", headers={"X-GitHub-Event": "ping"}))[1]["message"] == "pong"
    assert (await post(house, "wf", headers={"X-GitHub-Event": "issues"}))[0] == 200
    assert runs.newest(house.db.read) == []


async def test_on_github_beside_a_webhook_chooses_the_pushes(house: House) -> None:
    await workflow(house, "github: {branches: {only: main}}, ")
    assert (await post(house, "wf", push("refs/heads/dev")))[1]["run"] == ""
    assert (await post(house, "wf", push("refs/tags/main")))[1]["run"] == ""
    assert (await post(house, "wf", push(deleted=True, after="0" * 40)))[1]["run"] == ""
    assert (await post(house, "wf", push()))[1]["run"] == "wf.1"


@pytest.mark.parametrize("how", ["wrong", "none", "sha1", "other body", "other workflow", "absent", "empty secret"])
async def test_who_cannot_sign_learns_nothing(house: House, how: str) -> None:
    await workflow(house)
    await house.apply(JOBS, "plain.yaml")
    right = signature(SECRET, b"{}")
    path, header = "wf", right
    match how:
        case "wrong":
            header = signature("guess", b"{}")
        case "none":
            header = ""
        case "sha1":
            header = "sha1=" + "0" * 40
        case "other body":
            header = signature(SECRET, b"{} ")
        case "other workflow":
            path = "plain"
        case "absent":
            path = "nothing"
        case _:
            path, header = "plain", signature("", b"{}")
    answer = await house.front.post(f"/v1/hooks/{path}", content=b"{}", headers={"X-Hub-Signature-256": header})
    assert answer.status_code == 401
    assert "wf" not in answer.text
    if how not in ("none", "sha1"):
        assert answer.json()["detail"] == "no webhook of that name takes this signature"
    assert runs.newest(house.db.read) == []


@pytest.mark.parametrize("path", ["wf", "plain", "nothing", "repository/site", "repository/nothing"])
async def test_who_cannot_sign_makes_the_daemon_read_no_spec(
    house: House, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """But once for each spec that is declared."""
    await workflow(house)
    await house.apply(JOBS, "plain.yaml")
    await house.apply("kind: repository\nname: site\nurl: https://h/a.git\nwebhook: secret:HOOK\n", "site.yaml")
    read: list[str] = []

    def counted(kind: Any, name: str, document: Any) -> Any:
        read.append(name)
        return parse(kind, name, document)

    monkeypatch.setattr(hooks, "parse", counted)
    for _ in range(4):
        assert (await post(house, path, secret="guess"))[0] == 401
    assert len(read) <= 1


async def test_another_secret_counts_from_the_spec_that_names_it(house: House) -> None:
    house.parts.secrets.set("NEXT", "another")
    await workflow(house)
    assert (await post(house, "wf", secret="another"))[0] == 401
    assert (await house.apply(f"on: {{webhook: {{secret: secret:NEXT}}}}\n{JOBS}", "wf.yaml")).status_code == 200
    assert (await post(house, "wf"))[0] == 401
    assert (await post(house, "wf", secret="another"))[0] == 202
    assert (await house.apply(JOBS, "wf.yaml")).status_code == 200
    assert (await post(house, "wf", secret="another"))[0] == 401


async def test_a_secret_that_is_gone_opens_nothing(house: House) -> None:
    await workflow(house)
    house.parts.secrets.delete("HOOK")
    assert (await post(house, "wf"))[0] == 401
    assert (await post(house, "wf", secret=""))[0] == 401


async def test_a_repository_is_looked_at_and_its_message_not_trusted(house: House) -> None:
    text = "kind: repository\nname: site\nurl: https://example.com/a.git\nwebhook: secret:HOOK\n"
    assert (await house.apply(text, "site.yaml")).status_code == 200
    house.hints.clear()
    status, answer = await post(house, "repository/site", push("refs/heads/evil"))
    assert (status, answer["message"]) == (202, "looking now")
    assert house.hints == ["repository"]
    assert runs.newest(house.db.read) == []
    assert (await post(house, "repository/other"))[0] == 401
    assert (await post(house, "site"))[0] == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/hooks/wf"),
        ("PUT", "/v1/hooks/wf"),
        ("POST", "/v1/hooks/"),
        ("POST", "/v1/hooks/wf/runs"),
        ("POST", "/v1/hooks/repository/a/b"),
        ("POST", "/v1/hooks/../workflows/wf/runs"),
        ("POST", "/v1/hooks/%2e%2e/workflows/wf/runs"),
        ("POST", "/v1/hooks/wf%2f..%2f..%2fapply"),
        ("POST", "/v1/hooks/wf%0a"),
        ("POST", "/v1//hooks/wf"),
        ("POST", "/v1/apply"),
        ("POST", "/v1/workflows/wf/runs"),
    ],
)
async def test_nothing_else_is_open(house: House, method: str, path: str) -> None:
    await workflow(house)
    answer = await house.front.request(
        method,
        httpx2.URL("http://x").copy_with(raw_path=path.encode()),
        headers={"X-Hub-Signature-256": "sha256=" + "0" * 64},
    )
    assert answer.status_code == 401
    assert "carries no valid token" in answer.json()["detail"]


async def test_a_large_message_is_refused_before_it_is_whole(house: House) -> None:
    await workflow(house)
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    headers = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    answer = await house.front.post("/v1/hooks/wf", content=endless(), headers=headers)
    assert answer.status_code == 413
    assert sent < 4 << 20


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000, b'{"ref": 1, "after": {}, "repository": []}',
     push("refs/pull/1"), push(after="zz"), push(repository={"clone_url": "file:///etc"}),
     push(repository={"clone_url": "https://a:b@example.com"}), push(ref="refs/heads/" + "x" * 5000)],
)  # fmt: skip
def test_a_message_may_hold_anything(body: bytes) -> None:
    found = push_of(body)
    assert found.url in ("", "https://example.com/a.git")
    assert found.commit in ("", COMMIT)
    assert found.ref in ("", "refs/heads/main")


def test_a_deleted_branch_is_no_push() -> None:
    assert unwanted(Triggers(branches=Patterns()), push_of(push(after="0" * 40))) != ""
    assert unwanted(Triggers(branches=Patterns()), Push()) == ""
