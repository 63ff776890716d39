from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.spec.models import Patterns, Schedule, Triggers, Workflow
from appliance.spec.triggers import cron_problem
from tests.unit.spec.conftest import Load, Wrong

JOBS = "jobs: {a: {uses: script@v1, with: {image: x, script: y}, outputs: {o: {type: dataset, with: {ref: made}}}}}\n"


def workflow(load: Load, on: str) -> Workflow:
    spec = load(f"on: {on}\n{JOBS}").spec
    assert isinstance(spec, Workflow)
    return spec


@pytest.mark.parametrize(
    ("on", "branches", "tags"),
    [
        ("{github: {branches: {only: main}}}", Patterns(only="main"), None),
        ("{github: {tags: {include: [v1, 'v[0-9]*']}}}", None, Patterns(include=("v1", "v[0-9]*"))),
        ("{github: {branches: {include: ['release/**', dev], ignore: ['*-x']}, tags: {only: v1}}}",
         Patterns(include=("release/**", "dev"), ignore=("*-x",)), Patterns(only="v1")),
        ("{github: {}}", Patterns(), None),
        ("{github: {branches: {}}}", Patterns(), None),
    ],
)  # fmt: skip
def test_a_push(load: Load, on: str, branches: Patterns | None, tags: Patterns | None) -> None:
    spec = workflow(load, on)
    assert (spec.triggers, spec.extensions) == (Triggers(branches=branches, tags=tags), ())
    assert spec.triggers.github


def test_nothing_starts_it_by_itself(load: Load) -> None:
    spec = load(JOBS).spec
    assert isinstance(spec, Workflow)
    assert (spec.triggers, spec.on, spec.concurrency) == (Triggers(), {}, "")
    assert not spec.triggers.github


def test_everything_of_our_own(load: Load) -> None:
    spec = workflow(
        load,
        """
          {github: {branches: {only: main}},
           schedule: [{cron: "0 3 * * 1-5", timezone: Europe/Berlin}, {cron: "*/5 * * * *", timezone: UTC}],
           dataset: mnist, folder: [/data/in/, /data/b], spec: true, webhook: {secret: "secret:HOOK"}}
        """.strip(),
    )
    assert spec.triggers == Triggers(
        branches=Patterns(only="main"),
        schedule=(
            Schedule(cron="0 3 * * 1-5", timezone="Europe/Berlin"),
            Schedule(cron="*/5 * * * *", timezone="UTC"),
        ),
        datasets=("mnist",),
        folders=("/data/in", "/data/b"),
        spec=True,
        webhook="secret:HOOK",
    )
    assert spec.extensions == ("on.dataset", "on.folder", "on.schedule", "on.spec", "on.webhook")
    assert workflow(load, "{dataset: [a, team/b]}").triggers.datasets == ("a", "team/b")
    assert workflow(load, "{spec: false}").triggers == Triggers()


@pytest.mark.parametrize("policy", ["queue", "skip", "cancel"])
def test_concurrency(load: Load, policy: str) -> None:
    spec = load(f"concurrency: {policy}\n{JOBS}").spec
    assert isinstance(spec, Workflow)
    assert (spec.concurrency, spec.extensions) == (policy, ("concurrency",))


def test_a_list_of_nothing_is_odd(load: Load) -> None:
    found = load(f"on: {{github: {{branches: {{include: []}}}}}}\n{JOBS}")
    assert [one.path for one in found.warnings] == ["on.github.branches.include"]


def github(branches: str) -> str:
    return f"{{github: {{branches: {branches}}}}}"


def schedule(one: str) -> str:
    return f"{{schedule: [{one}]}}"


MISTAKES = [
    ("push", "", "must be a map, not the text `push`", "github"),
    ("[push]", "", "must be a map, not a list", "github"),
    ("", "", "not empty (null)", ""),
    ("{}", "", "says nothing that could start", "remove it"),
    ("{push: {branches: [main]}}", ".push", "unknown key", "github: {branches"),
    ("{gihub: {}}", ".gihub", "unknown key", "did you mean `github`?"),
    ("{github: [push]}", ".github", "must be a map", ""),
    ("{github: {branch: main}}", ".github.branch", "unknown key", "branches"),
    (github("main"), ".github.branches", "must be a map", "only: main"),
    (github("[main, x]"), ".github.branches", "must be a map, not a list", "only: main"),
    (github("{only: [main]}"), ".github.branches.only", "must be a string", ""),
    (github("{include: main}"), ".github.branches.include", "must be a list of names", ""),
    (github("{exclude: [a]}"), ".github.branches.exclude", "unknown key", "ignore"),
    (github("{only: refs/heads/main}"), ".github.branches.only", "full reference", "write main"),
    (github("{only: '!main'}"), ".github.branches.only", "excludes", "ignore: [main]"),
    (github("{only: 'a b'}"), ".github.branches.only", "not a name or pattern", ""),
    (github("{include: ['v[0-9']}"), ".github.branches.include[0]", "`[` without its `]`", ""),
    (github("{include: [-x]}"), ".github.branches.include[0]", "not a name or pattern", ""),
    (github("{include: ['${{ x }}']}"), ".github.branches.include[0]", "not a name or pattern", ""),
    (github("{include: [1.0]}"), ".github.branches.include[0]", "must be a string", '"1.0"'),
    ("{schedule: '0 3 * * *'}", ".schedule", "must be a list of cron and timezone", "Berlin"),
    ("{schedule: []}", ".schedule", "at least one item", ""),
    (schedule("'0 3 * * *'"), ".schedule[0]", "must be a map of cron and timezone", ""),
    (schedule("{cron: '0 3 * * *'}"), ".schedule[0].timezone", "is required", "Europe/Berlin"),
    (schedule("{timezone: UTC}"), ".schedule[0].cron", "is required", ""),
    (schedule("{cron: '0 3 * * *', timezone: UTC, tz: UTC}"), ".schedule[0].tz", "unknown key", "timezone"),
    (schedule("{cron: '60 3 * * *', timezone: UTC}"), ".schedule[0].cron", "wrong minute", ""),
    (schedule("{cron: '0 3 * * MUN', timezone: UTC}"), ".schedule[0].cron", "wrong day-of-week", ""),
    (schedule("{cron: '0 3 * *', timezone: UTC}"), ".schedule[0].cron", "must have 5 fields, not 4", ""),
    (schedule("{cron: '0 0 3 * * *', timezone: UTC}"), ".schedule[0].cron", "must have 5 fields, not 6", ""),
    (schedule("{cron: '0 0 30 2 *', timezone: UTC}"), ".schedule[0].cron", "wrong day-of-month", ""),
    (schedule("{cron: '@daily', timezone: UTC}"), ".schedule[0].cron", "not every cron knows", "0 0 * * *"),
    (schedule("{cron: '0 3 * * *', timezone: Europe/Belin}"), ".schedule[0].timezone", "zone", "`Europe/Berlin`"),
    (schedule("{cron: '0 3 * * *', timezone: Berlin}"), ".schedule[0].timezone", "zone", "`Europe/Berlin`"),
    (schedule("{cron: '0 3 * * *', timezone: europe/berlin}"), ".schedule[0].timezone", "zone", "`Europe/Berlin`"),
    (schedule("{cron: '0 3 * * *', timezone: ../etc/passwd}"), ".schedule[0].timezone", "not a time zone", "IANA"),
    (schedule("{cron: '0 3 * * *', timezone: Europe}"), ".schedule[0].timezone", "not a time zone", ""),
    ("{dataset: 'a:v1'}", ".dataset", "any new version is meant", "`:v1`"),
    ("{dataset: [a, ../x]}", ".dataset[1]", "not a dataset's name", ""),
    ("{dataset: []}", ".dataset", "at least one item", ""),
    ("{dataset: {ref: a}}", ".dataset", "must be a dataset's name, or a list", ""),
    ("{datasets: a}", ".datasets", "unknown key", "`dataset`"),
    ("{folder: data}", ".folder", "not the absolute path", "without `~`"),
    ("{folder: ~/data}", ".folder", "not the absolute path", ""),
    ("{folder: /a/../b}", ".folder", "not the absolute path", ""),
    ("{folder: /}", ".folder", "not the absolute path", ""),
    ("{folder: [/a, /proc/1]}", ".folder[1]", "belongs to the system", ""),
    ("{spec: 1}", ".spec", "must be true or false", ""),
    ("{webhook: secret:A}", ".webhook", "must be a map", "secret: secret:NAME"),
    ("{webhook: {}}", ".webhook.secret", "is required", "secret set"),
    ("{webhook: {secret: hunter2}}", ".webhook.secret", "must be a secret, not the value", ""),
    ("{webhook: {secret: 'secret:A', path: /x}}", ".webhook.path", "unknown key", ""),
]


@pytest.mark.parametrize(("on", "path", "words", "hint"), MISTAKES)
def test_mistakes(wrong: Wrong, on: str, path: str, words: str, hint: str) -> None:
    (found,) = wrong(f"on: {on}\n{JOBS}")
    assert (found.path, words in found.message, hint in found.hint) == (f"on{path}", True, True), found
    assert found.line == 1


@pytest.mark.parametrize("policy", ["parallel", "[queue]", "{group: a, cancel-in-progress: true}"])
def test_no_such_policy(wrong: Wrong, policy: str) -> None:
    (found,) = wrong(f"concurrency: {policy}\n{JOBS}")
    assert (found.path, "`queue`" in found.message) == ("concurrency", True)


def test_a_run_must_not_start_the_next_one(wrong: Wrong) -> None:
    (found,) = wrong(f"on: {{dataset: [other, made]}}\n{JOBS}")
    assert (found.path, "starts this workflow again" in found.message) == ("jobs.a.outputs.o.with", True)


def test_very_many_wrong_schedules_take_no_long_time(wrong: Wrong) -> None:
    started = time.monotonic()
    many = ", ".join("{cron: '0 0 29 2 MON#5', timezone: Nowhere/At_All}" for _ in range(2000))
    assert len(wrong(f"on: {{schedule: [{many}]}}\n{JOBS}")) == 101
    assert time.monotonic() - started < 60


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789*/,-#LWMONSUJA ", max_size=30) | st.text(max_size=20))
@example("9" * 5000 + " * * * *")
@example("* * * * 1#2/2")
@example("*/" + "9" * 100 + " * * * *")
@example("0 0 31 2,4,6,9,11 *")
@example("0 0 * * ²L")
@example("0 0 L/2 * *")
@example("0 0 * * 1#1/1")
def test_any_cron_expression_has_an_answer(text: str) -> None:
    found = cron_problem(text)
    assert found is None or all(found)
