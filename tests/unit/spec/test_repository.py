from __future__ import annotations

import pytest

from appliance.spec.models import Repository
from tests.unit.spec.conftest import Load, Wrong


def test_a_whole_repository(load: Load) -> None:
    found = load(
        """
        kind: repository
        name: project
        url: https://github.com/you/project.git
        username: you
        password: secret:GIT
        interval: 5m
        webhook: secret:HOOK
        secrets: [TOKEN, KEY]
        deployments: [digits]
        """
    )
    assert (found.kind, found.name) == ("repository", "project")
    assert found.spec == Repository(
        name="project",
        url="https://github.com/you/project.git",
        username="you",
        password="secret:GIT",
        interval_s=300,
        webhook="secret:HOOK",
        secrets=("TOKEN", "KEY"),
        deployments=("digits",),
    )


@pytest.mark.parametrize(
    "url",
    [
        "/srv/git/project.git",
        "file:///srv/git/project",
        "http://127.0.0.1:3000/a/b",
        "git@github.com:a/b",
        "ssh://g@h:22/a",
    ],
)
def test_where_a_repository_may_be(load: Load, url: str) -> None:
    assert load(f"kind: repository\nname: a\nurl: {url}\n").spec == Repository(name="a", url=url)


def test_the_file_gives_the_name(load: Load) -> None:
    assert load("kind: repository\nurl: /srv/a\n", file="project.yaml").name == "project"


@pytest.mark.parametrize(
    ("text", "path", "words", "hint"),
    [
        ("interval: 10", "url", "is required", "https"),
        ("url: git://github.com/a/b", "url", "is not polled", "https"),
        ("url: ssh://-oProxyCommand=x/b", "url", "not a git address", "https"),
        ("url: 'ext::sh -c id'", "url", "not a git address", ""),
        ("url: --upload-pack=x", "url", "not a git address", ""),
        ("url: context.event.github.url", "url", "is no address", ""),
        ("url: https://$HOST/x", "url", "is no address", ""),
        ("url: /a/../b", "url", "not the path of a repository", ""),
        ("url: /", "url", "not the path of a repository", ""),
        ("url: /a, interval: 1", "interval", "must be from 5s to 7d, not 1s", ""),
        ("url: /a, interval: soon", "interval", "must be a time", "10m"),
        ("url: /a, interval: true", "interval", "must be a time", ""),
        ("url: /a, password: hunter2", "password", "must be a secret", "secret:NAME"),
        ("url: /a, webhook: hunter2", "webhook", "must be a secret", ""),
        ("url: /a, secrets: [a b]", "secrets[0]", "names no secret", "letters"),
        ("url: /a, secrets: ['secret:TOKEN']", "secrets[0]", "names no secret", "write TOKEN"),
        ("url: /a, secrets: TOKEN", "secrets", "must be a list of secrets", "[TOKEN]"),
        ("url: /a, secrets: [A, A]", "secrets[1]", "is named already", ""),
        ("url: /a, deployments: [../x]", "deployments[0]", "cannot be the name of a deployment", ""),
        ("url: /a, deployments: '*'", "deployments", "must be a list of deployments", ""),
        ("url: /a, branch: main", "branch", "unknown key", "on: {github"),
        ("url: /a, pasword: 'secret:A'", "pasword", "unknown key", "did you mean `password`?"),
    ],
)
def test_mistakes(wrong: Wrong, text: str, path: str, words: str, hint: str) -> None:
    (found,) = wrong(f"{{kind: repository, name: a, {text}}}")
    assert (found.path, words in found.message, hint in found.hint) == (path, True, True), found
