"""pip's and uv's settings of this host, in the words of a uv.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.recipes import index
from appliance.engine.recipes.index import IndexSettings


def settings(
    environ: Mapping[str, str] | None = None,
    pip_conf: Mapping[str, str] | None = None,
    uv_toml: Mapping[str, Any] | None = None,
    *,
    present: tuple[str, ...] = (),
) -> IndexSettings:
    return index.host_settings(environ or {}, pip_conf or {}, uv_toml or {}, exists=lambda path: path in present)


def toml(found: IndexSettings) -> dict[str, Any]:
    return tomllib.loads(found.to_toml())


def test_a_host_without_settings_uses_the_public_index() -> None:
    assert toml(settings()) == {"index-strategy": "unsafe-best-match"}


def test_pip_conf_is_translated() -> None:
    conf = {
        "index-url": "https://user:secret@mirror.example/simple",
        "extra-index-url": "https://a.example/simple\nhttps://b.example/simple",
        "trusted-host": "mirror.example a.example",
        "find-links": "https://c.example/wheels",
        "timeout": "180",
        "proxy": "http://proxy.example:3128",
        "no-index": "false",
    }
    found = settings(pip_conf=conf)
    assert toml(found) == {
        "index-strategy": "unsafe-best-match",
        "find-links": ["https://c.example/wheels"],
        "allow-insecure-host": ["mirror.example", "a.example"],
        "index": [
            {"url": "https://a.example/simple"},
            {"url": "https://b.example/simple"},
            {"url": "https://user:secret@mirror.example/simple", "default": True},
        ],
    }
    assert (found.timeout_s, found.proxy) == (180, "http://proxy.example:3128")


def test_variables_win_over_files_and_uv_over_pip() -> None:
    conf = {"index-url": "https://1.example", "extra-index-url": "https://e1.example"}
    environ = {"PIP_INDEX_URL": "https://2.example", "PIP_NO_INDEX": "1"}
    assert settings(pip_conf=conf).default == "https://1.example"
    assert settings(environ, conf).default == "https://2.example"
    assert settings(environ, conf).no_index
    uv = {"index": [{"url": "https://3.example", "default": True}], "pip": {"extra-index-url": ["https://e3.example"]}}
    assert settings(environ, conf, uv).default == "https://3.example"
    assert settings(environ, conf, uv).extra == ("https://e3.example",)
    environ["UV_DEFAULT_INDEX"] = "mirror=https://4.example"
    environ["UV_INDEX"] = "x=https://e4.example https://e5.example"
    assert settings(environ, conf, uv).default == "https://4.example"
    assert settings(environ, conf, uv).extra == ("https://e4.example", "https://e5.example")


def test_local_folders_are_mounted_and_missing_ones_left_out() -> None:
    conf = {
        "extra-index-url": "file:///srv/pypi/simple file:///gone/simple file:///srv/more/simple",
        "find-links": "/srv/wheels /gone/wheels",
    }
    found = settings(pip_conf=conf, present=("/srv/pypi/simple", "/srv/more/simple", "/srv/wheels"))
    assert found.extra == ("file:///mnt/local/0/simple", "file:///mnt/local/1/simple")
    assert found.find_links == ("/mnt/local/2",)
    # The parent of an index, because its pages point at the files beside it.
    assert found.mounts == {"/srv/pypi": "/mnt/local/0", "/srv/more": "/mnt/local/1", "/srv/wheels": "/mnt/local/2"}


def test_an_index_at_the_root_does_not_mount_the_whole_machine() -> None:
    found = settings(pip_conf={"index-url": "file:///simple"}, present=("/simple",))
    assert found.mounts == {"/simple": "/mnt/local/0"}
    assert found.default == "file:///mnt/local/0"


@pytest.mark.parametrize(
    ("environ", "conf", "expected"),
    [
        ({}, {}, "/etc/ssl/certs/ca-certificates.crt"),
        ({}, {"cert": "/pip.crt"}, "/pip.crt"),
        ({"PIP_CERT": "/env.crt"}, {"cert": "/pip.crt"}, "/env.crt"),
        ({"SSL_CERT_FILE": "/ssl.crt", "PIP_CERT": "/env.crt"}, {}, "/ssl.crt"),
        ({"SSL_CERT_FILE": "/gone.crt"}, {}, "/etc/ssl/certs/ca-certificates.crt"),
    ],
)
def test_which_ca_bundle(environ: Mapping[str, str], conf: Mapping[str, str], expected: str) -> None:
    present = ("/etc/ssl/certs/ca-certificates.crt", "/pip.crt", "/env.crt", "/ssl.crt")
    assert settings(environ, conf, present=present).ca_bundle == expected


def test_pip_conf_is_read_as_pip_reads_it(tmp_path: Path) -> None:
    user = tmp_path / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nindex_url = https://1.example/%20\n[install]\nno-index = true\n[freeze]\ntimeout=1\n")
    named = tmp_path / "named.conf"
    named.write_text("[global]\nindex-url = https://2.example\n")
    environ = {"XDG_CONFIG_DIRS": str(tmp_path / "none")}
    found = index.read_pip_conf(environ, tmp_path)
    assert found["index-url"] == "https://1.example/%20"
    assert found["no-index"] == "true"
    assert found.get("timeout") != "1"
    assert index.read_pip_conf(environ | {"PIP_CONFIG_FILE": str(named)}, tmp_path)["index-url"] == "https://2.example"
    assert index.read_pip_conf(environ | {"PIP_CONFIG_FILE": "/dev/null"}, tmp_path) == {}


def test_a_broken_pip_conf_is_an_error_that_names_it(tmp_path: Path) -> None:
    conf = tmp_path / "pip.conf"
    conf.write_text("index-url = x\n")
    with pytest.raises(index.ConfigError, match=str(conf)):
        index.read_pip_conf({"PIP_CONFIG_FILE": str(conf)}, tmp_path)


def test_proxies_in_both_spellings() -> None:
    found = index.proxy_env({"HTTPS_PROXY": "http://p:1", "no_proxy": "localhost"})
    assert found == {
        "https_proxy": "http://p:1",
        "HTTPS_PROXY": "http://p:1",
        "no_proxy": "localhost",
        "NO_PROXY": "localhost",
    }
    assert index.proxy_env({}, "http://pip:1")["HTTP_PROXY"] == "http://pip:1"
    assert index.proxy_env({}) == {}


def test_passwords_are_not_shown() -> None:
    line = "error: https://user:secret@mirror.example/simple/numpy/ answered 401, http://plain.example/a@b did not"
    assert index.redact(line) == line.replace("user:secret", "***")


@given(
    st.lists(
        st.text(
            st.characters(min_codepoint=33, max_codepoint=0x1F600, exclude_categories=["Cs"]), min_size=1, max_size=30
        ),
        max_size=4,
    )
)
def test_any_url_makes_valid_toml(urls: list[str]) -> None:
    found = IndexSettings(extra=urls, find_links=urls)
    assert [entry["url"] for entry in toml(found).get("index", [])] == urls
