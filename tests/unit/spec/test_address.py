"""Addresses of repositories: what git may be told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import UsageError
from appliance.spec.address import parse, read, shown


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


@pytest.mark.parametrize(
    ("url", "bare", "user", "password", "origin"),
    [
        ("https://me:p%40ss@example.com/r", "https://example.com/r", "me", "p@ss", "https://example.com"),
        ("https://token@example.com:8443/r", "https://example.com:8443/r", "token", "", "https://example.com:8443"),
        ("git://example.com/r", "git://example.com/r", "", "", "git://example.com"),
        ("http://[::1]:8080/r", "http://[::1]:8080/r", "", "", "http://[::1]:8080"),
    ],
)
def test_credentials_are_taken_out_of_an_address(url: str, bare: str, user: str, password: str, origin: str) -> None:
    found = parse(url)
    assert found is not None
    assert (found.url, found.username, found.password, found.origin) == (bare, user, password, origin)


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [("git@example.com:a/b.git", "example.com", "a/b.git"), ("ssh://me@example.com:22/a/b", "example.com", "/a/b")],
)
def test_both_forms_of_ssh_are_one_way(url: str, host: str, path: str) -> None:
    found = parse(url)
    assert found is not None
    assert (found.way, found.host, found.path, found.url) == ("ssh", host, path, url)


def test_servers_are_compared_by_scheme_host_and_port() -> None:
    def server(url: str) -> object:
        found = parse(url)
        return found and found.server

    assert server("https://GIT.example.com:443/a") == server("https://me@git.example.com/b")
    assert server("http://git.example.com/a") != server("https://git.example.com/a")
    assert server("https://git.example.com:8443/a") != server("https://git.example.com/a")
    assert [server(url) for url in ("git@h:a", "/srv/a", "git://h/a", "nothing")] == [None] * 4


PIECES = (
    *("https", "http", "ssh", "git", "file", "ext", "://", ":", "::", "/", "//", "@", "-", "..", "[", "]", "h"),
    *("example.com", "me", "PASSWORD", "%40", "%0a", "%00", " ", "\n", "\\", "?", "#", "0"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_no_address_reads_like_an_option_or_hides_what_git_would_do(url: str) -> None:
    found = parse(url)
    if found is None:
        return
    assert not found.url.startswith("-")
    assert not found.host.startswith("-")
    assert "\n" not in found.url
    assert "::" not in found.url.partition("://")[0] or found.way == "local"
    assert found.protocols in ("https:http", "git", "ssh", "file")
    if found.way in ("http", "git"):
        assert "@" not in found.origin
        again = parse(found.url)
        assert again is not None
        assert (again.url, again.username, again.password) == (found.url, "", "")
    if found.password:
        assert found.password not in shown(url)
        assert found.password not in repr(found).replace(repr(found.username), "").replace(repr(found.url), "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u:PASS/WORD@h/x", "https://…@h/x"),
        ("ssh://git:PASS/W@RD@h/x", "ssh://…@h/x"),
        ("https://u:PASS WORD@h/x", "https://…@h/x"),
        ("https://u:PASS\nWORD@h/x", "https://…@h/x"),
        ("https:/u:PASS@h/x", "…@h/x"),
        ("https:/u:PASS//WORD@h/x", "…@h/x"),
        (" https://u:PASS@h/x", "…@h/x"),
        ("git:PASS WORD@h:x", "…@h:x"),
        ("https://h/x@v1", "https://h/x@v1"),
        ("https://h/a b", "https://h/a b"),
        ("git@h:/x", "git@h:/x"),
    ],
)
def test_what_is_refused_shows_no_password_either(url: str, expected: str) -> None:
    assert shown(url) == expected
    if "PASS" in url:
        with pytest.raises(UsageError) as told:
            read(url)
        assert "PASS" not in f"{told.value.message} {told.value.hint}"
        assert "W" not in told.value.message
