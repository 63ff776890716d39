"""Where this host's own distribution gets its packages from: the apt configuration, filtered and passed on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

DEBIAN_ALIASES = ("stable", "oldstable", "testing", "unstable", "sid")
_OPTION = re.compile(r'^(Acquire::(?:https?(?:::[^ ]+)?|Check-Valid-Until|Check-Date|Retries|ForceIPv4)) "(.+)";$')


@dataclass(frozen=True, slots=True)
class Sources:
    one_line: str
    """`deb ...` lines; may be empty."""
    deb822: str
    """Stanzas; may be empty."""


def codename(os_release: str) -> str:
    """The suite of a Debian or of what it is derived from; empty for another family."""
    values: dict[str, str] = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    family = {values.get("ID", ""), *values.get("ID_LIKE", "").split()}
    if not family & {"debian", "ubuntu"}:
        return ""
    # A derivative names its own release first, and the one whose archive it uses in a field of its own.
    return values.get("UBUNTU_CODENAME") or values.get("DEBIAN_CODENAME") or values.get("VERSION_CODENAME", "")


def distribution_sources(files: Mapping[str, str], suite: str) -> Sources:
    """Of all apt source files (name -> text), the entries of the distribution itself."""
    lines: list[str] = []
    stanzas: list[str] = []
    for name in sorted(files):
        if name.endswith(".sources"):
            stanzas += [stanza for stanza in _stanzas(files[name]) if _wanted_stanza(stanza, suite)]
        else:
            lines += [line.strip() for line in files[name].splitlines() if _wanted_line(line, suite)]
    return Sources("".join(f"{line}\n" for line in lines), "\n\n".join(stanzas) + "\n" if stanzas else "")


def apt_options(dump: str) -> list[str]:
    """From `apt-config dump`: how this host reaches its mirrors (proxies, certificates, validity checks)."""
    found = (_OPTION.match(line) for line in dump.splitlines())
    return [f'{match.group(1)} "{match.group(2)}";' for match in found if match]


def _wanted_line(line: str, suite: str) -> bool:
    match = re.match(r"^\s*deb\s+(?:\[[^\]]*\]\s+)?\S+\s+(\S+)", line)
    return match is not None and _of_suite([match.group(1)], suite)


def _stanzas(text: str) -> Iterable[str]:
    without_comments = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return (stanza.strip("\n") for stanza in re.split(r"\n\s*\n", without_comments) if stanza.strip())


def _wanted_stanza(stanza: str, suite: str) -> bool:
    fields = {key.lower(): value for key, value in re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE)}
    if fields.get("enabled", "yes").strip().lower() in ("no", "false", "0"):
        return False
    return "deb" in fields.get("types", "").split() and _of_suite(fields.get("suites", "").split(), suite)


def _of_suite(suites: Iterable[str], suite: str) -> bool:
    known = (suite, *DEBIAN_ALIASES)
    return any(name == base or name.startswith((f"{base}-", f"{base}/")) for name in suites for base in known)
