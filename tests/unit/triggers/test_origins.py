"""Which servers a signed message may name where a checkout sends a password."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.spec.load import parse
from appliance.spec.models import Workflow
from appliance.triggers import origins

EVENT = "context.event.github.url"
HERE = "https://git.example.com/team/app.git"


def workflow(url: str = EVENT, *, event: str = "", env: dict[str, str] | None = None, **credentials: str) -> Workflow:
    job = {
        "uses": "git-checkout@v1",
        "with": {"url": url, **credentials},
        "outputs": {"tree": {"type": "volume"}},
        **({"env": env} if env else {}),
    }
    document: dict[str, Any] = {"jobs": {"clone": job}}
    if event:
        document["context"] = {"event": {"github": {"url": event, "ref": "main"}}}
    spec = parse("workflow", "wf", document)
    assert isinstance(spec, Workflow)
    return spec


@pytest.mark.parametrize(
    ("given", "declared"),
    [
        (HERE, HERE),
        ("https://git.example.com/other/one.git", HERE),
        ("https://GIT.example.com:443/a.git", HERE),
        (HERE, "https://git.example.com:443/a.git"),
        ("http://git.example.com:80/a.git", "http://git.example.com/b"),
        ("https://[::1]:8443/a.git", "https://[::1]:8443/b.git"),
    ],
)
def test_a_server_that_was_declared_is_trusted(given: str, declared: str) -> None:
    """In the file, or as a repository."""
    assert origins.refused(workflow(password="secret:TOKEN", event=declared), given, []) == ""
    assert origins.refused(workflow(password="secret:TOKEN"), given, ["/srv/local", declared]) == ""


@pytest.mark.parametrize(
    "given",
    [
        "https://evil.example.com/a.git",
        "http://git.example.com/a.git",
        "https://git.example.com:8443/a.git",
        "https://git.example.com.evil.net/a.git",
        "https://git.example.com./a.git",
        "https://git.example.com\\.evil.net/a.git",
        "https://git.example.com:0x1bb/a.git",
        "https://git.example.com:99999/a.git",
        "https://ｇit.example.com/a.git",
        "https://[git.example.com/a.git",
        "https:///a.git",
    ],
)
def test_any_other_is_refused_in_words(given: str) -> None:
    for spec, declared in (
        (workflow(password="secret:TOKEN", event=HERE), []),
        (workflow(password="secret:TOKEN"), [HERE, "git@evil.example.com:a/b.git", "/git.example.com"]),
        (workflow(password="secret:TOKEN", event="https://["), [HERE]),
    ):
        said = origins.refused(spec, given, declared)
        assert said.startswith("job clone would send its credentials to ")
        assert "a server that nobody has declared" in said
        assert "context.event.github.url" in said
    assert origins.refused(workflow(password="secret:TOKEN"), given, []) != ""


@pytest.mark.parametrize(
    "spec",
    [
        workflow(username="me"),
        workflow(env={"GIT_PASSWORD": "secret:TOKEN"}),
        workflow(env={"GIT_USERNAME": "me"}),
    ],
)
def test_every_credential_counts(spec: Workflow) -> None:
    assert origins.refused(spec, "https://evil.example.com/a.git", [HERE]) != ""
    assert origins.refused(spec, HERE, [HERE]) == ""


@pytest.mark.parametrize("spec", [workflow(), workflow(HERE, password="secret:TOKEN", ref="context.event.github.ref")])
def test_nothing_is_asked_where_no_credential_goes_there(spec: Workflow) -> None:
    assert origins.refused(spec, "https://evil.example.com/a.git", []) == ""
