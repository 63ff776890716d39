"""What is mounted where, and who holds it: /proc, read as the kernel writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MOST_HOLDERS = 5


@dataclass(frozen=True, slots=True)
class Mount:
    path: str
    type: str
    source: str
    """For ZFS the dataset's name."""
    writable: bool
    private: bool
    """It stays when the host unmounts its own: true of what is bound into a container, not of what a service of
    the machine sees, whose namespace follows the host's."""


def mounts(pid: str = "self") -> list[Mount]:
    """In the order they were mounted, of the mount namespace that `pid` lives in."""
    text = Path("/proc", pid, "mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return parse_mountinfo(text)


def parse_mountinfo(text: str) -> list[Mount]:
    """Fields as in proc(5): the optional ones end with a single dash."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if len(fields) < 6 or len(tail) < 2:
            continue
        options = fields[5].split(",")
        private = not any(field.startswith(("shared:", "master:")) for field in fields[6:])
        found.append(Mount(_unescape(fields[4]), tail[0], _unescape(tail[1]), "rw" in options, private))
    return found


def mounted_at(path: Path, source: str) -> bool:
    """`source` is what one sees at `path`: its mount there is the topmost one."""
    at = [mount for mount in mounts() if mount.path == str(path)]
    return bool(at) and at[-1].source == source


def holders(source: str) -> list[str]:
    """`PID NAME` of processes in other mount namespaces, such as containers, that hold on to `source`."""
    own = _namespace("self")
    seen = {own}
    found = []
    for process in sorted(Path("/proc").iterdir()):
        if not process.name.isdecimal():
            continue
        try:
            namespace = _namespace(process.name)
            if namespace in seen:
                continue
            seen.add(namespace)
            if any(mount.source == source and mount.private for mount in mounts(process.name)):
                found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
        except OSError:
            continue  # it has ended, or is not ours to look at
    return found[:MOST_HOLDERS]


def _namespace(pid: str) -> str:
    return str(Path("/proc", pid, "ns", "mnt").readlink())


def _unescape(field: str) -> str:
    """Space, tab, newline and backslash are written as a backslash and three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
