"""Where this host gets its Python packages from, in uv's words.

uv does not read pip's configuration, so pip.conf and PIP_* are translated. Local folders that do not exist here are
left out; those that do are mounted below /mnt for the build. Nothing of this is kept in an image.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ConfigError = configparser.Error
"""A pip.conf that is none; uv.toml's errors are ValueErrors."""
LOCAL = "/mnt/local"
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    default: str = ""
    """The main index; empty: the public one."""
    extra: Sequence[str] = ()
    find_links: Sequence[str] = ()
    insecure_hosts: Sequence[str] = ()
    no_index: bool = False
    proxy: str = ""
    timeout_s: int = 0
    ca_bundle: str = ""
    """Path on this host; empty: none was found."""
    mounts: Mapping[str, str] = field(default_factory=dict)
    """Folder on this host -> folder in the build container."""

    def to_toml(self) -> str:
        """The same as a uv.toml. Every index is asked and the best version taken, as pip does."""
        lines = ['index-strategy = "unsafe-best-match"']
        if self.no_index:
            lines.append("no-index = true")
        if self.find_links:
            lines.append(f"find-links = [{_quoted(*self.find_links)}]")
        if self.insecure_hosts:
            lines.append(f"allow-insecure-host = [{_quoted(*self.insecure_hosts)}]")
        for url in self.extra:
            lines += ["[[index]]", f"url = {_quoted(url)}"]
        if self.default:
            lines += ["[[index]]", f"url = {_quoted(self.default)}", "default = true"]
        return "\n".join(lines) + "\n"


def host_settings(
    environ: Mapping[str, str],
    pip_conf: Mapping[str, str],
    uv_toml: Mapping[str, Any],
    *,
    exists: Callable[[str], bool],
) -> IndexSettings:
    """UV_* variables win over uv.toml, that over PIP_* variables, those over pip.conf; field by field."""

    def setting(name: str, *uv_names: str) -> str:
        for uv_name in uv_names:
            if value := environ.get(uv_name):
                return value
        return environ.get("PIP_" + name.upper().replace("-", "_")) or pip_conf.get(name, "")

    table = _uv_table(uv_toml)
    default = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or table.default or setting("index-url")
    extra = _words(environ.get("UV_INDEX", "")) + _words(environ.get("UV_EXTRA_INDEX_URL", "")) or list(table.extra)
    links = _words(environ.get("UV_FIND_LINKS", "").replace(",", " ")) or list(table.find_links)
    hosts = _words(environ.get("UV_INSECURE_HOST", "")) or list(table.insecure_hosts)
    timeout = setting("timeout", "UV_HTTP_TIMEOUT") or setting("default-timeout")
    bundle = [environ.get(name, "") for name in _BUNDLE_VARIABLES]
    bundle[2:2] = [pip_conf.get("cert", "")]
    local = _LocalFolders(exists)
    return IndexSettings(
        default=local.index(_without_name(default)),
        extra=_present(local.index(_without_name(url)) for url in extra or _words(setting("extra-index-url"))),
        find_links=_present(local.folder(place) for place in links or _words(setting("find-links"))),
        insecure_hosts=tuple(hosts or _words(setting("trusted-host"))),
        no_index=table.no_index or setting("no-index", "UV_NO_INDEX").lower() in ("1", "true", "yes", "on"),
        proxy=setting("proxy"),
        timeout_s=int(float(timeout)) if re.fullmatch(r"\d+(\.\d+)?", timeout) else 0,
        ca_bundle=next((path for path in (*bundle, *BUNDLES) if path and exists(path)), ""),
        mounts=local.mounts,
    )


def proxy_env(environ: Mapping[str, str], proxy: str = "") -> dict[str, str]:
    """Proxy variables in both spellings; `proxy` is pip's, for hosts that have none in the environment."""
    found = {name: environ.get(name) or environ.get(name.upper(), "") for name in PROXIES}
    if proxy:
        found["http_proxy"] = found["http_proxy"] or proxy
        found["https_proxy"] = found["https_proxy"] or proxy
    present = {name: value for name, value in found.items() if value}
    return present | {name.upper(): value for name, value in present.items()}


def read_pip_conf(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """pip's files in its own order, later ones win; the sections [global] and [install]."""
    named = environ.get("PIP_CONFIG_FILE")
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    shared = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    paths = [Path(folder) / "pip" / "pip.conf" for folder in shared]
    paths += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config_home / "pip" / "pip.conf"]
    if named == os.devnull:
        return {}
    merged: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in [*paths, *([Path(named)] if named else [])]:
        parser = configparser.RawConfigParser()
        if path.is_file():
            parser.read_string(path.read_text(encoding="utf-8", errors="replace"), str(path))
        for section in merged:
            if parser.has_section(section):
                merged[section].update({key.replace("_", "-"): value for key, value in parser.items(section)})
    return merged["global"] | merged["install"]


def read_uv_toml(environ: Mapping[str, str], home: Path) -> dict[str, Any]:
    """uv's user file, else its system file; the named one alone where there is one."""
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    paths = [config_home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]
    if named := environ.get("UV_CONFIG_FILE"):
        paths = [Path(named)]
    for path in paths:
        if path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))
    return {}


def redact(text: str) -> str:
    """Without the user name and password of any URL in it."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


class _LocalFolders:
    """Gives each local folder its place in the build container; what does not exist becomes empty."""

    def __init__(self, exists: Callable[[str], bool]) -> None:
        self._exists = exists
        self.mounts: dict[str, str] = {}

    def index(self, url: str) -> str:
        path = _local_path(url)
        if path is None:
            return url
        if not self._exists(path):
            return ""
        # The pages of an index point at files beside it (`../../files/`), so its parent is mounted.
        parent, _, name = path.rpartition("/")
        return f"file://{self._mount(parent)}/{name}" if parent else f"file://{self._mount(path)}"

    def folder(self, place: str) -> str:
        path = _local_path(place)
        if path is None:
            return place
        return self._mount(path) if self._exists(path) else ""

    def _mount(self, path: str) -> str:
        return self.mounts.setdefault(path, f"{LOCAL}/{len(self.mounts)}")


def _local_path(place: str) -> str | None:
    """The folder a path or file:// URL means; None for any other URL."""
    if place.startswith("file:"):
        return unquote(urlsplit(place).path).rstrip("/")
    return None if "://" in place or not place else os.path.abspath(os.path.expanduser(place))


def _uv_table(uv_toml: Mapping[str, Any]) -> IndexSettings:
    table = {**uv_toml, **uv_toml.get("pip", {})}
    indexes = [entry for entry in table.get("index", ()) if isinstance(entry, Mapping) and entry.get("url")]
    default = next((entry["url"] for entry in indexes if entry.get("default")), "") or table.get("index-url", "")
    extra = [entry["url"] for entry in indexes if not entry.get("default")] + list(table.get("extra-index-url", ()))
    return IndexSettings(
        default=default,
        extra=extra,
        find_links=tuple(table.get("find-links", ())),
        insecure_hosts=tuple(table.get("allow-insecure-host", ())),
        no_index=bool(table.get("no-index", False)),
    )


def _without_name(index: str) -> str:
    """`NAME=URL`, as uv takes it -> URL."""
    name, separator, url = index.partition("=")
    return url if separator and re.fullmatch(r"[\w.-]+", name) else index


def _quoted(*values: str) -> str:
    """TOML strings, separated by commas. JSON's escapes are TOML's, but for one character that JSON leaves as it is."""
    return ", ".join(json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") for value in values)


def _words(text: str) -> list[str]:
    return text.split()


def _present(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(value for value in values if value)
