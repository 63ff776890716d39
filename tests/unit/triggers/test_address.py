"""Addresses of repositories: what git may be told."""

from __future__ import annotations

import pytest

from appliance.errors import UsageError
from appliance.triggers.address import read


@pytest.mark.parametrize(
    ("url", "way", "origin"),
    [
        ("https://example.com/a/b.git", "http", "https://example.com"),
        ("http://127.0.0.1:8080/a", "http", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/a", "http", "http://[::1]:8080"),
        ("ssh://git@example.com:2222/a/b", "ssh", ""),
        ("git@example.com:a/b.git", "ssh", ""),
        ("/srv/git/a b.git".replace(" ", "_"), "local", ""),
        ("file:///srv/git/a.git", "local", ""),
    ],
)
def test_what_is_polled(url: str, way: str, origin: str) -> None:
    found = read(url)
    assert (found.way, found.origin) == (way, origin)


def test_a_file_address_becomes_a_path() -> None:
    assert read("file:///srv/a%20b.git").url == "/srv/a b.git"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x@host:path",
        "ext::sh -c x",
        "ext::sh%20-c%20touch",
        "fd::17/x",
        "git://example.com/a",
        "ftp://example.com/a",
        "relative/path",
        "https://",
        "https:///path",
        "http://exa mple.com/a",
        "https://example.com/a\nb",
        "ssh://-oProxyCommand=x/path",
        "ssh://-x@example.com/path",
        "-x@example.com:path",
        "git@example.com:-path",
        "file://host/path",
        "https://[::1/a",
        "transport::https://example.com/a",
    ],
)
def test_what_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        read(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:pw@example.com/a",
        "https://me:pw@exa mple.com/a",
        "x://me:pw@example.com/a",
        "https://token@example.com/a",
        "ssh://a:b@x/y",
    ],
)
def test_a_credential_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(url)
    assert "pw" not in str(caught.value)
    assert "token@" not in str(caught.value)
