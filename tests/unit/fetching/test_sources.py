"""What is fetched from where, as the request of the program that does it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import NotFound, UsageError
from appliance.fetching.s3 import spaces_of
from appliance.fetching.sources import TARGET, fetch_of, key_of, link_of, shown
from appliance.spec.models import Clone, Integration

VALUES = {"secret:A": "the key", "secret:B": "the other"}


def reveal(text: str) -> str:
    if text.startswith("secret:") and text not in VALUES:
        raise NotFound(f"no secret {text}")
    return VALUES.get(text, text)


def request(source: Integration | Clone) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fetch_of(source, reveal).files["request.json"])
    return found


def test_a_bucket() -> None:
    one = Integration(
        type="s3",
        name="w",
        path="/opt/w",
        url="s3://weights/a/b",
        region="eu-1",
        access_key="secret:A",
        secret_key="secret:B",
    )
    assert request(one) == {
        "bucket": "weights",
        "prefix": "a/b",
        "region": "eu-1",
        "endpoint": "",
        "target": TARGET,
        "access_key": "the key",
        "secret_access_key": "the other",
    }
    assert fetch_of(one, reveal).image == "appliance/s3"


def test_a_repository_with_large_files_keeps_them_once() -> None:
    found = request(Integration(type="git-lfs", name="m", path="/m", url="https://me:token@example.com/m"))
    assert (found["url"], found["origin"]) == ("https://example.com/m", "https://example.com")
    assert (found["username"], found["password"], found["lean"]) == ("me", "token", True)
    assert found["target"] == TARGET


def test_a_clone_uses_its_own_login() -> None:
    clone = Clone(url="https://example.com/r", name="r", ref="v1", username="me", password="secret:A")
    found = request(clone)
    assert (found["ref"], found["username"], found["password"]) == ("v1", "me", "the key")


@pytest.mark.parametrize(
    "url", ["/etc", "file:///etc", "git@example.com:a/b", "ssh://x/y", "ext::id", "--upload-pack=x"]
)
def test_nothing_of_this_machine_and_nothing_that_runs_is_fetched(url: str) -> None:
    with pytest.raises(UsageError, match="no address of a server"):
        fetch_of(Clone(url=url, name="r"), reveal)


def test_an_unknown_secret_is_told() -> None:
    with pytest.raises(NotFound, match="NONE"):
        fetch_of(Clone(url="https://example.com/r", name="r", password="secret:NONE"), reveal)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://pics.fra1.digitaloceanspaces.com", ("https://fra1.digitaloceanspaces.com", "pics", "")),
        ("pics.fra1.digitaloceanspaces.com/a/b/", ("https://fra1.digitaloceanspaces.com", "pics", "a/b")),
        ("https://fra1.digitaloceanspaces.com/pics/a", ("https://fra1.digitaloceanspaces.com", "pics", "a")),
        ("http://127.0.0.1:5000/pics", ("http://127.0.0.1:5000", "pics", "")),
        ("https://pics.s3.example.com:8443", ("https://s3.example.com:8443", "pics", "")),
    ],
)
def test_the_bucket_of_an_endpoint(endpoint: str, expected: tuple[str, str, str]) -> None:
    assert spaces_of(endpoint) == expected


@pytest.mark.parametrize(
    "endpoint", ["https://fra1.digitaloceanspaces.com", "https://localhost", "ftp://a.b.c", "http://"]
)
def test_an_endpoint_without_a_bucket_is_refused(endpoint: str) -> None:
    with pytest.raises(UsageError):
        spaces_of(endpoint)


def test_the_content_is_found_in_both_places_that_are_in_use() -> None:
    def link(path: str) -> str:
        return link_of(Integration(type="git-lfs", name="opus", path=path, url="https://example.com/r"))

    assert (link("/opt/integrations/opus"), link("/opt/integrations/opus/"), link("/opt/models")) == ("", "", "opus")


def test_credentials_are_not_shown() -> None:
    assert "token" not in shown(Clone(url="https://me:token@example.com/r", name="r"))


words = st.sampled_from(["a", "b", "c"])
integrations = st.builds(
    Integration, type=st.just("s3"), name=words, path=words.map(lambda word: f"/{word}"), url=words, region=words
)


@given(integrations, integrations, words, words, st.integers(0, 2), st.integers(0, 2))
def test_another_key_exactly_where_something_else_would_be_in_the_volume(
    one: Integration, other: Integration, owner: str, another: str, epoch: int, later: int
) -> None:
    def what(source: Integration, of: str, at: int) -> tuple[object, ...]:
        return (source.name, source.url, source.region, link_of(source), of, at)

    same = what(one, owner, epoch) == what(other, another, later)
    assert (key_of(one, owner, epoch) == key_of(other, another, later)) == same
