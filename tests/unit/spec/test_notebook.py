from __future__ import annotations

import pytest

from appliance.spec.fields import read_size, show_size
from appliance.spec.models import Dataset, DatasetMount, History, Idle, Notebook, Workspace
from appliance.spec.problems import Mark, Problems
from appliance.spec.tree import Node
from tests.unit.spec.conftest import Load, Wrong


def test_a_notebook(load: Load) -> None:
    found = load(
        """
        kind: notebook
        name: lab
        image: jupyter/base
        env: {A: b}
        machine: A4000
        gpus: 1
        datasets:
          mnist: gradient/mnist:latest
          long: {type: dataset, ref: team/ds1:v2}
          docs: {type: dataset, id: ds2, version: latest}
        """
    )
    assert found.spec == Notebook(
        name="lab",
        image="jupyter/base",
        env={"A": "b"},
        machine="A4000",
        gpus=1,
        datasets={
            "mnist": DatasetMount(ref="gradient/mnist:latest"),
            "long": DatasetMount(ref="team/ds1:v2"),
            "docs": DatasetMount(ref="ds2:latest"),
        },
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [("[jupyter, lab]", ("jupyter", "lab")), ("jupyter lab --x", ("/bin/sh", "-c", "jupyter lab --x")), ("[]", None)],
)
def test_a_command_is_a_list_or_a_line_for_the_shell(load: Load, command: str, words: tuple[str, ...] | None) -> None:
    spec = load(f"kind: notebook\nname: a\ncommand: {command}\n").spec
    assert isinstance(spec, Notebook)
    assert spec.command == words


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 << 20), ("20G", 20 << 30), ("1.5T", 3 << 39), ("2048K", 2 << 20), ('"1G"', 1 << 30)],
)
def test_a_quota_counts_in_powers_of_1024(load: Load, text: str, size: int) -> None:
    spec = load(f"kind: notebook\nname: a\nquota: {text}\n").spec
    assert isinstance(spec, Notebook)
    assert spec.quota == size


@pytest.mark.parametrize("text", ["1M", "20G", "1.5T", "1023K", "100M"])
def test_a_size_is_shown_as_it_is_written(text: str) -> None:
    node = Node(text, Mark(1, 1))
    size = read_size(node, "quota", Problems("f.yaml"), least=0, most=1 << 60)
    assert size is not None
    assert show_size(size) == text


def test_env_may_be_a_list(load: Load) -> None:
    spec = load("kind: notebook\nname: a\nenv: [{name: A, value: b}]\n").spec
    assert isinstance(spec, Notebook)
    assert spec.env == {"A": "b"}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ("{}", History()),
        ("{interval: 90}", History(interval_s=90)),
        ("{interval: 10m}", History(interval_s=600)),
        ("{interval: 1d, daily: 0}", History(interval_s=86_400, daily=0)),
        ("{interval: 0, hourly: 1, weekly: 3, monthly: 4}", History(interval_s=0, hourly=1, weekly=3, monthly=4)),
    ],
)
def test_a_history_of_its_own(load: Load, history: str, expected: History) -> None:
    spec = load(f"kind: notebook\nname: a\nhistory: {history}\n").spec
    assert isinstance(spec, Notebook)
    assert spec.history == expected


def test_what_a_session_gets_and_when_it_ends(load: Load) -> None:
    found = load(
        """
        kind: notebook
        name: lab
        user: "1000:100"
        containerRegistry: hub
        workspace: {url: https://example.com/team/repo.git, ref: main, username: u, password: secret:pw}
        models: {bert: mo1abc, latest: bert}
        secrets: [hf-token, hf-token, other]
        shm: 8G
        idle: {after: 30m, warn: 2m, gpu: false}
        shutdown: 6h
        """
    )
    assert found.spec == Notebook(
        name="lab",
        user="1000:100",
        registry="hub",
        workspace=Workspace(url="https://example.com/team/repo.git", ref="main", username="u", password="secret:pw"),
        models={"bert": "mo1abc", "latest": "bert"},
        secrets=("hf-token", "other"),
        shm=8 << 30,
        idle=Idle(after_s=1800, warn_s=120, gpu=False),
        shutdown_s=21_600,
    )


@pytest.mark.parametrize(("idle", "after_s"), [("never", 0), ("0", 0), ("90", 90), ("2h", 7200), ("{}", None)])
def test_idle_may_be_a_time_alone(load: Load, idle: str, after_s: float | None) -> None:
    spec = load(f"kind: notebook\nname: a\nidle: {idle}\n").spec
    assert isinstance(spec, Notebook)
    assert spec.idle == Idle(after_s=after_s)


@pytest.mark.parametrize(("user", "stored"), [("1000", "1000:1000"), ("0", "0:0"), ('"5:6"', "5:6")])
def test_a_user_without_a_group_has_the_group_of_its_number(load: Load, user: str, stored: str) -> None:
    spec = load(f"kind: notebook\nname: a\nuser: {user}\n").spec
    assert isinstance(spec, Notebook)
    assert spec.user == stored


def test_a_workspace_may_be_an_address_alone_or_none(load: Load) -> None:
    spec = load("kind: notebook\nname: a\nworkspace: https://example.com/a/b\n").spec
    assert isinstance(spec, Notebook)
    assert spec.workspace == Workspace(url="https://example.com/a/b")
    none = load("kind: notebook\nname: a\nworkspace: none\n").spec
    assert isinstance(none, Notebook)
    assert none.workspace is None


def test_a_dataset(load: Load) -> None:
    assert load("kind: dataset\nname: mnist\ndescription: Digits\n").spec == Dataset(name="mnist", description="Digits")


@pytest.mark.parametrize(
    ("text", "path", "words", "hint"),
    [
        ("kind: notebook\nname: a\ngpus: -1\n", "gpus", "from 0 to 64", ""),
        ("kind: notebook\nname: a\nquota: 20\n", "quota", "must be a size, not the number `20`", "20G"),
        ("kind: notebook\nname: a\nquota: 20GB\n", "quota", "must be a size", "powers of 1024"),
        ("kind: notebook\nname: a\nquota: -1G\n", "quota", "must be a size", ""),
        ("kind: notebook\nname: a\nquota: 1K\n", "quota", "must be from 1M to 1024T, not `1K`", ""),
        ("kind: notebook\nname: a\nquota:\n", "quota", "must be a size, not empty", ""),
        ("kind: notebook\nname: a\nstorage: 5G\n", "storage", "unknown key", "quota"),
        ("kind: notebook\nname: a\ncontainer: x\n", "container", "unknown key", "image"),
        ("kind: notebook\nname: a\nintegrations: {}\n", "integrations", "unknown key", "datasets"),
        ("kind: notebook\nname: a\ndatasets: {../x: a}\n", "datasets[`../x`]", "folder's name", ""),
        ("kind: notebook\nname: a\ndatasets: {x: ../a}\n", "datasets.x", "not a dataset reference", ""),
        ("kind: notebook\nname: a\ndatasets: {x: 5}\n", "datasets.x", "must be a dataset's name", ""),
        ("kind: notebook\nname: a\ndatasets: {x: {type: s3, ref: a}}\n", "datasets.x.type", "must be `dataset`", ""),
        ("kind: notebook\nname: a\nhistory: 5\n", "history", "must be a map", "interval"),
        ("kind: notebook\nname: a\nhistory: {interval: 5s}\n", "history.interval", "from 1m to 7d", ""),
        ("kind: notebook\nname: a\nhistory: {interval: often}\n", "history.interval", "must be a time", "10m"),
        ("kind: notebook\nname: a\nhistory: {daily: -1}\n", "history.daily", "from 0", ""),
        ("kind: notebook\nname: a\nhistory: {yearly: 1}\n", "history.yearly", "unknown key", "monthly"),
        ("kind: notebook\nname: a\nuser: root\n", "user", "must be a user's number", "1000"),
        ("kind: notebook\nname: a\nuser: 99999999999\n", "user", "must be a user's number", ""),
        ("kind: notebook\nname: a\nuser: 4294967295\n", "user", "must be numbers up to", ""),
        ("kind: notebook\nname: a\nworkspace: ../a\n", "workspace", "not a git address", ""),
        ("kind: notebook\nname: a\nworkspace: {ref: main}\n", "workspace.url", "is required", "https://"),
        ("kind: notebook\nname: a\nmodels: {x: ../a}\n", "models.x", "neither the id nor the name", ""),
        ("kind: notebook\nname: a\nsecrets: [..]\n", "secrets", "no secret's name", ""),
        ("kind: notebook\nname: a\nshm: 1K\n", "shm", "must be from 1M", ""),
        ("kind: notebook\nname: a\nidle: 5s\n", "idle", "from 1m", ""),
        ("kind: notebook\nname: a\nidle: {timeout: 1h}\n", "idle.timeout", "unknown key", "after"),
        ("kind: notebook\nname: a\nshutdownTimeout: 6\n", "shutdownTimeout", "unknown key", "shutdown"),
        ("kind: notebook\nname: ../a\n", "name", "reads like a path", ""),
        ("kind: dataset\nname: a\nref: b\n", "ref", "unknown key", ""),
        ("kind: notebok\nname: a\n", "kind", "must be `dataset`", "did you mean `notebook`?"),
        ("kind: [notebook]\nname: a\n", "kind", "must be a string", ""),
        ("name: a\n", "", "cannot be told", "jobs"),
    ],
)
def test_mistakes(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    (found,) = wrong(text)
    assert (found.path, words in found.message, hint in found.hint) == (path, True, True), found
