"""What has moved in a repository, and which of a commit's files start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.spec.names import NAME
from appliance.triggers.git import Commit, SpecText, _entries, _refs
from appliance.triggers.pushes import load, moved, read
from tests.unit.triggers.conftest import JOBS

MAIN = "refs/heads/main"
COMMIT = "a" * 40
TEXT = ("on: {github: {branches: {only: main}}}\n" + JOBS).encode()
REFS = st.dictionaries(st.sampled_from([f"refs/heads/{c}" for c in "abcdef"]), st.sampled_from(["1", "2"]))


def commit(*paths: str, text: bytes = TEXT) -> Commit:
    return Commit(COMMIT, tuple(SpecText(path, text) for path in paths))


@given(seen=REFS, now=REFS)
def test_what_has_moved_brings_the_old_to_the_new(seen: dict[str, str], now: dict[str, str]) -> None:
    found = moved(seen, now)
    assert {**{k: v for k, v in seen.items() if k not in found.gone}, **{k: now[k] for k in found.changed}} == now
    assert all(seen.get(name) != now[name] for name in found.changed)
    assert not moved(now, now).changed


def test_the_event_of_the_push_takes_the_place_of_the_files_own() -> None:
    text = TEXT + b"context: {event: {github: {url: 'https://example.com/old', ref: old}}}\n"
    (found,) = read("site", "https://example.com/a", MAIN, commit("x/a.yaml", text=text)).starts
    assert found.document["context"] == {"event": {"github": {"url": "https://example.com/a", "ref": COMMIT}}}


def test_two_files_of_one_name_are_told_and_the_first_starts() -> None:
    found = read("site", "u", MAIN, commit("x/a.yaml", "x/a.yml"))
    assert [(one.path, one.name) for one in found.starts] == [("x/a.yaml", "site.a")]
    assert "in x/a.yaml already" in found.problems["x/a.yml"]


@pytest.mark.parametrize("name", ["a b", "ä", "..", "-", "x" * 200, "a\n", "%2e%2e", "$(id)", ".hidden", "a;b"])
def test_a_files_name_becomes_a_name_or_a_problem(name: str) -> None:
    found = read("site", "u", MAIN, commit(f"x/{name}.yaml"))
    assert len(found.starts) + len(found.problems) == 1
    assert all(NAME.fullmatch(one.name) for one in found.starts)


def test_a_file_without_the_trigger_is_neither_started_nor_a_problem() -> None:
    found = read("site", "u", MAIN, commit("x/a.yaml", text=JOBS.encode()))
    assert (found.starts, found.problems) == ((), {})


@pytest.mark.parametrize(
    ("triggers", "named"),
    [
        ("schedule: [{cron: '0 3 * * *', timezone: UTC}]", "`on.schedule` is for"),
        ("dataset: digits", "`on.dataset` is for"),
        ("folder: /srv/data, spec: true", "`on.folder` and `on.spec` are for"),
        ("webhook: {secret: secret:HOOK}", "`on.webhook` is for"),
    ],
)
def test_a_trigger_that_counts_elsewhere_is_told(triggers: str, named: str) -> None:
    for github, told in (("github: {branches: {}}, ", "on.github` counts"), ("", "so nothing starts this one")):
        files = load("site", commit("x/a.yaml", text=f"on: {{{github}{triggers}}}\n{JOBS}".encode()))
        assert files.problems == {}
        assert files.notes["x/a.yaml"].startswith(named)
        assert files.notes["x/a.yaml"].endswith(told)


def test_nothing_is_told_of_a_file_that_is_heeded_or_starts_by_hand() -> None:
    assert load("site", commit("x/a.yaml")).notes == {}
    assert load("site", commit("x/a.yaml", text=JOBS.encode())).notes == {}


def test_an_annotated_tag_is_the_commit_it_points_to() -> None:
    one, two = "1" * 40, "2" * 40
    out = f"{one}\trefs/tags/v1\n{two}\trefs/tags/v1^{{}}\n{one}\trefs/heads/main\n"
    assert _refs(out.encode()) == {"refs/tags/v1": two, "refs/heads/main": one}


@pytest.mark.parametrize(
    "name",
    [
        "HEAD",
        "refs/pull/1/head",
        "refs/heads/-x",
        "refs/heads/a..b",
        "refs/heads/a b",
        "refs/heads/\xff",
        "refs/heads/",
    ],
)
def test_what_is_no_branch_or_tag_is_left_out(name: str) -> None:
    assert _refs(b"%b\t%b\n" % (b"1" * 40, name.encode("latin-1"))) == {}


@given(st.binary(max_size=400))
def test_no_answer_of_a_server_is_too_odd(answer: bytes) -> None:
    assert all(name.startswith("refs/") for name in _refs(answer))
    assert all(path.isprintable() for _, path, _ in _entries(answer))


def spec(body: str) -> bytes:
    return f"on: {{github: {{branches: {{}}}}}}\n{body}\n".encode()


def refused(text: bytes, **allowed: tuple[str, ...]) -> str:
    """Why the file does not start; empty: it does."""
    found = read("site", "u", MAIN, commit("x/a.yaml", text=text), **allowed)
    assert len(found.starts) + len(found.problems) == 1
    return found.problems.get("x/a.yaml", "")


SECRET = [
    "defaults: {env: {A: secret:KEY}}\n" + JOBS,
    "defaults: {env: {A: SeCrEt:KEY}}\n" + JOBS,
    "defaults: {resources: {container-registries: [KEY]}}\n" + JOBS,
    "jobs: {a: {uses: script@v1, with: {image: i, script: 'true'}, env: {A: secret:KEY}}}",
    "jobs: {a: {uses: script@v1, with: {image: i, script: 'true'}, strategy: {matrix: {A: [x, secret:KEY]}}}}",
    "jobs: {a: {uses: git-checkout@v1, with: {url: https://h/a, password: secret:KEY}, outputs: {o: {type: volume}}}}",
    "inputs: {a: {type: string, with: {value: secret:KEY}}}\n" + JOBS,
    "jobs: {a: {uses: deploy@v1, with: {name: d, spec: {image: i, port: 80, env: [{name: A, value: secret:KEY}],"
    " resources: {replicas: 1, instanceType: C4}}}}}",
    "jobs: {a: {uses: deploy@v1, with: {name: d, spec: {image: i, port: 80, containerRegistry: KEY,"
    " resources: {replicas: 1, instanceType: C4}}}}}",
]


@pytest.mark.parametrize("body", SECRET)
def test_a_secret_is_used_only_where_the_repository_is_given_it(body: str) -> None:
    for secrets in ((), ("OTHER", "KE", "key")):
        told = refused(spec(body), secrets=secrets, deployments=("d",))
        assert "KEY" in told
        assert "secrets: [KEY]" in told
    assert not refused(spec(body), secrets=("OTHER", "KEY"), deployments=("d",))


def test_a_script_may_say_secret() -> None:
    body = "jobs: {a: {uses: script@v1, with: {image: i, script: 'echo secret:KEY'}}}"
    assert not refused(spec(body))


def test_a_deployment_is_changed_only_where_the_repository_is_given_it() -> None:
    body = "jobs: {a: {uses: deploy@v1, with: {name: digits, spec: {image: i, port: 80, resources: {replicas: 1,"
    body += " instanceType: C4}}}}}"
    told = refused(spec(body), deployments=("digits2",))
    assert "deploys digits" in told
    assert "deployments: [digits]" in told
    assert not refused(spec(body), deployments=("digits",))


def test_one_file_that_is_refused_keeps_no_other_from_starting() -> None:
    files = (SpecText("x/a.yaml", spec(SECRET[0])), SpecText("x/b.yaml", TEXT))
    found = read("site", "u", MAIN, Commit(COMMIT, files))
    assert [one.path for one in found.starts] == ["x/b.yaml"]
    assert list(found.problems) == ["x/a.yaml"]
