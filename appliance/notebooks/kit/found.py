"""What an image has of what a session needs: the question as a program in the image, and its answer. Pure.

The image is anybody's: an answer is a claim, bounded and checked, and only the image's own sessions rest on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

OLDEST = (3, 8)
"""Python that ipykernel can be had for."""
LONGEST = 500
"""Characters of a path."""
MARK = "appliance-found "
NO_COMMAND = (126, 127)
"""Exit codes of a command that is not there or cannot be run."""
_GLIBC = re.compile(r"glibc (\d{1,3})\.(\d{1,3})")

_PROGRAM = """
import json, os, sys
found = {"version": list(sys.version_info[:2]), "executable": sys.executable, "prefix": sys.prefix}
found["machine"] = os.uname()[4]
try:
    found["libc"] = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (AttributeError, ValueError, OSError):
    found["libc"] = ""
if not found["libc"] and [name for name in os.listdir("/lib") if name.startswith("ld-musl")]:
    found["libc"] = "musl"
def which(name):
    for folder in os.environ.get("PATH", "").split(":"):
        if os.access(folder + "/" + name, os.X_OK):
            return True
    return False
found["jupyter"] = which("jupyter") and which("jupyter-lab")
found["shell"] = [path for path in ("/bin/bash", "/usr/bin/bash", "/bin/sh") if os.access(path, os.X_OK)][:1]
try:
    from importlib.util import find_spec
    found["keeps"] = None not in (find_spec("jupyter_server_nbmodel"), find_spec("jupyter_server_ydoc"))
except ImportError:
    found["keeps"] = False
try:
    import ipykernel.kernelapp
    found["ipykernel"] = True
except Exception:
    found["ipykernel"] = False
print("MARK" + json.dumps(found))
""".replace("MARK", MARK)

_SHELL = f"""command -v jupyter >/dev/null && command -v jupyter-lab >/dev/null && jupyter=true || jupyter=false
test -x /bin/bash && shell=/bin/bash || shell=/bin/sh
echo '{MARK}{{"jupyter": '$jupyter', "shell": ["'$shell'"]}}'
"""

QUESTIONS: Sequence[Sequence[str]] = (
    ("python3", "-c", _PROGRAM),
    ("python", "-c", _PROGRAM),
    ("/bin/sh", "-c", _SHELL),
)
"""Asked in turn until one is answered."""


@dataclass(frozen=True, slots=True)
class Found:
    jupyter: bool = False
    """It has a JupyterLab of its own."""
    keeps: bool = False
    """That Jupyter runs cells on the server, so what they print while no tab is open is in the file."""
    python: str = ""
    """Path of its Python; empty: it has none."""
    version: tuple[int, int] = (0, 0)
    libc: Literal["glibc", "musl", ""] = ""
    glibc: tuple[int, int] = (0, 0)
    machine: str = ""
    prefix: str = ""
    """Where that Python's own data are."""
    ipykernel: bool = False
    """That Python has one that can be imported."""
    shell: str = ""
    """Empty: it has none."""

    @property
    def shown_version(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def platform(self) -> str:
        """What wheels for its Python are called, in uv's words; empty: there are none."""
        if self.machine not in ("x86_64", "aarch64") or not self.libc:
            return ""
        if self.libc == "musl":
            return f"{self.machine}-unknown-linux-musl"
        return f"{self.machine}-manylinux_2_28" if self.glibc >= (2, 28) else f"{self.machine}-manylinux2014"

    @property
    def lacks(self) -> str:
        """Why no cells can run in its own Python, in words; empty: they can."""
        if not self.python:
            return "the image has no Python (no `python3` on its PATH)"
        if self.version < OLDEST:
            return f"the image's Python {self.shown_version} is older than {'.'.join(map(str, OLDEST))}"
        if not self.ipykernel and not self.platform:
            return f"for the image's Python {self.shown_version} on {self.machine} there is no ipykernel to bring in"
        return ""


def parse(said: str) -> Found | None:
    """The answer in what a question has printed; None: there is none."""
    lines = [line for line in said.splitlines() if line.startswith(MARK)]
    try:
        answer = json.loads(lines[-1].removeprefix(MARK)) if lines else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    shells = answer.get("shell")
    libc = answer.get("libc")
    glibc = _GLIBC.match(libc) if isinstance(libc, str) else None
    return Found(
        jupyter=answer.get("jupyter") is True,
        keeps=answer.get("keeps") is True,
        python=_path(answer.get("executable")),
        version=_version(answer.get("version")),
        libc="glibc" if glibc else "musl" if libc == "musl" else "",
        glibc=(int(glibc[1]), int(glibc[2])) if glibc else (0, 0),
        machine=machine if (machine := answer.get("machine")) in ("x86_64", "aarch64") else "",
        prefix=_path(answer.get("prefix")),
        ipykernel=answer.get("ipykernel") is True,
        shell=_path(shells[0]) if isinstance(shells, list) and shells else "",
    )


def _path(value: Any) -> str:
    """An absolute path that can stand in a list of paths; else empty."""
    good = isinstance(value, str) and value.startswith("/") and value.isprintable() and len(value) <= LONGEST
    return value if good and ":" not in value and "{" not in value else ""


def _version(value: Any) -> tuple[int, int]:
    match value:
        case [int(major), int(minor)] if 0 <= major < 100 and 0 <= minor < 100:
            return major, minor
        case _:
            return 0, 0
