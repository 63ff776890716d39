"""How a program of ours gets into a container, and what it leaves there for the daemon.

The container gets the text of the program and its request as files of a private mount: nothing of a request is in
arguments, environment or labels, where every user of the engine could read it. The last line that a program writes is
`appliance: ` and how it ended, in words.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.engine.types import Mount

FILES = "/run/appliance"
"""Where the private files are mounted."""
TOLD = "/run/appliance-told"
"""Where a program of ours leaves words for the daemon, which nobody else can read."""
REQUEST = "request.json"
LAST_LINE = "appliance: "
"""How its last line begins."""
LARGEST_WORD = 128
"""Bytes of what a program of ours tells the daemon."""
FETCHING = Path(__file__).with_name("inside")
"""Folder of the programs that fetch."""


def files_of(program: str, request: Mapping[str, Any], *, folder: Path = FETCHING) -> dict[str, str]:
    """File name -> content for the private mount. `program` is the name of a module in `folder`."""
    name = f"{program}.py"
    return {name: (folder / name).read_text(encoding="utf-8"), REQUEST: json.dumps(request)}


def command_of(program: str, python: Sequence[str] = ("python3",)) -> tuple[str, ...]:
    return (*python, f"{FILES}/{program}.py")


def lay_out(root: Path, files: Mapping[str, str], *, secret: bool, tells: bool) -> list[Mount]:
    """Write the private files below `root`, a folder of ours, and the mounts for them. May be repeated.

    With `secret` only root can read them, in the container too. With `tells` there is a folder in which root there
    leaves words for the daemon. Raises OSError, and ValueError for a name that is none.
    """
    mounts = []
    if files:
        (root / "files").mkdir(mode=0o700, exist_ok=True)
        if not secret:
            (root / "files").chmod(0o755)  # whatever the umask, for whoever the image runs as
        for name, value in files.items():
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise ValueError(name)
            write(root / "files" / name, value, 0o600 if secret else 0o644)
        mounts.append(Mount(root / "files", FILES, read_only=True))
    if tells:
        (root / "told").mkdir(mode=0o700, exist_ok=True)
        mounts.append(Mount(root / "told", TOLD))
    return mounts


def read_told(root: Path, name: str) -> str:
    """What a program of ours left as the file `name` for the daemon; empty where it is not one short line of ASCII.

    Something that a repository made run may have written it in its place, so it is no more than a claim.
    """
    try:
        file = opened(root / "told", name)
    except OSError:
        return ""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        return ""
    with os.fdopen(file, "rb") as stream:
        data = stream.read(LARGEST_WORD + 1)
    text = data.decode("ascii", errors="replace")
    return text if len(data) <= LARGEST_WORD and text.isascii() and text.isprintable() else ""


def forget(root: Path) -> None:
    """Remove the private files of what is over: what is kept of it must hold no credentials."""
    for name in ("files", "told"):
        if (root / name).is_dir():  # nothing in the container can put something else in the place of these folders
            shutil.rmtree(root / name)


def opened(folder: Path, name: str) -> int:
    """A file for reading, or whatever else lies there but a link. Raises OSError."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # O_NONBLOCK: a FIFO in its place must not make anyone wait
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)


def write(path: Path, text: str, mode: int) -> None:
    """Never through a link. Raises OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(text.encode("utf-8"))
        os.fchmod(file.fileno(), mode)
