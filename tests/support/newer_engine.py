"""An engine that knows CDI: the installed one, or Debian's of a newer suite, unpacked beside it and not installed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

NEWER = "sid"
"""The suite whose engine tells what CDI names (28.2 and newer). It needs no newer C library than Debian 12 has."""
_FETCH_S = 300.0


def engine_with_cdi() -> tuple[Path, ...]:
    """Folders of programs of an engine that knows CDI by itself; none: the installed one does."""
    installed = subprocess.run(["dockerd", "--version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"version (\d+)\.(\d+)", installed.stdout)
    if found and (int(found[1]), int(found[2])) >= (28, 2):
        return ()
    folder = _cache() / f"engine-{NEWER}"
    if not folder.exists():
        _fetch(folder)
    return folder / "usr/sbin", folder / "usr/bin"


def _cache() -> Path:
    found = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appliance-tests"
    found.mkdir(parents=True, exist_ok=True)
    return found


def _fetch(folder: Path) -> None:
    """Debian's package of a newer suite, unpacked and not installed, from the place that this machine's apt uses."""
    mirror = _mirror()
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        for part in ("state/lists/partial", "cache/archives/partial", "deb", "made"):
            (work / part).mkdir(parents=True)
        (work / "sources.list").write_text(f"deb {mirror} {NEWER} main\n")
        apt = ["apt-get", "-q", "-o", f"Dir::State={work}/state", "-o", f"Dir::Cache={work}/cache"]
        apt += ["-o", f"Dir::Etc::SourceList={work}/sources.list", "-o", "Dir::Etc::SourceParts=/dev/null"]
        apt += ["-o", "APT::Sandbox::User=root"]
        for argv in ([*apt, "update"], [*apt, "download", "docker.io"]):
            _run(argv, work / "deb")
        (package,) = (work / "deb").glob("docker.io_*.deb")
        _run(["dpkg", "-x", str(package), str(work / "made")], work)
        with contextlib.suppress(OSError):  # another session was faster
            (work / "made").rename(folder)


def _mirror() -> str:
    wanted = "$(ORIGIN)|$(COMPONENT)|$(CREATED_BY)|$(CODENAME)|$(REPO_URI)"
    try:
        argv = ["apt-get", "indextargets", "--format", wanted]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout
    except OSError:
        said = ""
    for line in said.splitlines():
        origin, component, created, codename, address = line.split("|", 4)
        if (origin, component, created) == ("Debian", "main", "Packages") and "-" not in codename:
            return address
    pytest.skip("an engine with CDI is fetched with apt from Debian's suites, and this machine has none")


def _run(argv: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=_FETCH_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"an engine with CDI could not be fetched: {error}")
    if done.returncode:
        pytest.skip(f"an engine with CDI could not be fetched: {done.stderr.strip()[-300:]}")
