"""What of a GPU's container is true on this machine: whether it still reaches its cards, and whose a process is.

A container can lose its GPUs while it runs: `systemctl daemon-reload` makes systemd write its own device rules over
those that NVIDIA's hook has added. What holds a card open goes on, what opens it from then on fails ("Failed to
initialize NVML: Unknown Error"). And a driver that was updated under it refuses the libraries that it was started with.
Both are seen from outside: the container is asked nothing, and nothing of it is believed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread

from appliance.engine import cgroups

log = logging.getLogger(__name__)

HOOK = "nvidia-container-runtime-hook"
PROGRAM = Path(__file__).with_name("opening.py")
DEADLINE_S = 5.0
STUCK = 2
"""Programs that a dead driver may hold for ever; with so many of them nothing more is asked."""
CONTROL = Path("/dev/nvidiactl")
_GROUP = re.compile(r"(?:^|/)(?:docker[-/]|cri-containerd-|libpod-)?([0-9a-f]{64})(?:\.scope)?(?=/|$| \(deleted\))")
_LIBRARY = re.compile(r"/lib(?:cuda|nvidia-ml)\.so\.([0-9]+(?:\.[0-9]+)+)$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reach:
    state: Literal["ok", "lost", "unknown"]
    """unknown: the engine runs elsewhere, the container has ended, or this user may not look."""
    words: str = ""


def nodes_of(minors: Iterable[int]) -> tuple[Path, ...]:
    """Of cards with these minor numbers, instances of them included."""
    return (CONTROL, *(Path(f"/dev/nvidia{minor}") for minor in sorted(set(minors))))


class Devices:
    """Looks at containers from outside. One of it for a daemon: it counts the programs that never end."""

    def __init__(self, *, proc: Path = Path("/proc"), deadline_s: float = DEADLINE_S) -> None:
        self._proc = proc
        self._deadline_s = deadline_s
        self._limiter: anyio.CapacityLimiter | None = None

    async def look(self, pid: int, container: str, nodes: Sequence[Path], *, driver: str | None = None) -> Reach:
        """Of the running container with this id whose first process is `pid`. It takes some 30 ms and never raises.

        `nodes` of the cards of its lease, see `nodes_of`; `driver`: the version that NVML tells.
        """
        if words := mismatch(self._mounted(pid, container), driver):
            return Reach("lost", words)
        try:
            group = cgroups.device_folder(pid, container, self._proc)
        except (OSError, ValueError, KeyError) as error:
            return Reach("unknown", f"its control group cannot be found: {error}")
        return judge(await self._open(group / "cgroup.procs", nodes))

    async def _open(self, procs: Path, nodes: Sequence[Path]) -> Mapping[Path, tuple[int, int]]:
        """Node -> error numbers outside and inside the group; empty where it could not be asked in time."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(STUCK)
        with anyio.move_on_after(self._deadline_s):
            return await anyio.to_thread.run_sync(
                _ask, procs, nodes, self._deadline_s, abandon_on_cancel=True, limiter=self._limiter
            )
        log.warning("whether %s reaches its GPUs could not be asked within %g s", procs.parent.name, self._deadline_s)
        return {}

    def _mounted(self, pid: int, container: str) -> str | None:
        folder = self._proc / str(pid)
        try:
            text = (folder / "mountinfo").read_text(errors="replace")
            known = container_of((folder / "cgroup").read_text(errors="replace"), (container,))
        except OSError:
            return None
        return mounted_driver(text) if known else None


def judge(opened: Mapping[Path, tuple[int, int]]) -> Reach:
    """Pure. `opened`: node -> error numbers outside the container's group and inside."""
    if not opened:
        return Reach("unknown", "it could not be asked")
    lost = [node for node, (outside, inside) in opened.items() if outside == 0 and inside == errno.EPERM]
    if lost:
        names = ", ".join(map(str, lost))
        words = (
            f"{names} can no longer be opened in it: its device rules were taken away, as `systemctl daemon-reload` "
            "does to containers whose GPUs came by NVIDIA's hook; a new container has them again"
        )
        return Reach("lost", words)
    unknown = [node for node, numbers in opened.items() if any(numbers)]
    if unknown:
        # what fails outside too is no matter of this container: a node that is missing, a driver that does not answer
        number = next(number for number in opened[unknown[0]] if number)
        return Reach("unknown", f"{unknown[0]}: {os.strerror(number)}" if number > 0 else f"{unknown[0]}: it fails")
    return Reach("ok")


def mounted_driver(mountinfo: str) -> str | None:
    """The version of the driver whose libraries were put into a container, from its `/proc/PID/mountinfo`. Pure."""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and (found := _LIBRARY.search(fields[4])):
            return found[1]
    return None


def mismatch(mounted: str | None, driver: str | None) -> str:
    """Empty where both are the same, or one is not known. Pure."""
    if not mounted or not driver or mounted == driver:
        return ""
    return (
        f"it was started with the libraries of driver {mounted}, and the driver is {driver} now: CUDA fails in it; "
        "a new container has those of now"
    )


def container_of(cgroup: str, known: Collection[str]) -> str | None:
    """Which of the containers with these ids a process belongs to, from its `/proc/PID/cgroup`; None: to none. Pure.

    Of containers in containers the first that is known counts.
    """
    for line in cgroup.splitlines():
        for found in _GROUP.finditer(line.split(":", 2)[-1]):
            if found[1] in known:
                return found[1]
    return None


def hook_found(address: str, proc: Path = Path("/proc")) -> bool:
    """Whether NVIDIA's hook is on the path of the engine at this address, as far as can be seen; else on ours."""
    path = _engine_path(address, proc) or os.environ.get("PATH", os.defpath)
    return any(os.access(Path(folder, HOOK), os.X_OK) for folder in path.split(os.pathsep) if folder)


def _engine_path(address: str, proc: Path) -> str:
    """PATH of the program that listens there. systemd may have opened the socket for it: then nothing is known."""
    if not address.startswith("unix://"):
        return ""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(DEADLINE_S)
            line.connect(address.removeprefix("unix://"))
            pid, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if pid <= 1:
            return ""
        variables = (proc / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((os.fsdecode(one[5:]) for one in variables if one.startswith(b"PATH=")), "")


def _ask(procs: Path, nodes: Sequence[Path], deadline_s: float) -> Mapping[Path, tuple[int, int]]:
    """Blocking. A program that a dead driver holds cannot be killed: this thread is left behind with it."""
    argv = [sys.executable, "-I", "-S", str(PROGRAM), str(procs), *map(str, nodes)]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=deadline_s, check=False
        )
        pairs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
        if done.returncode == 0 and len(pairs) == len(nodes):
            return {node: (pair[0], pair[1]) for node, pair in zip(nodes, pairs, strict=True)}
        log.debug("whether %s reaches its GPUs is not known: %s", procs, done.stderr.strip()[-300:])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        log.debug("whether %s reaches its GPUs is not known: %s", procs, error)
    return {}
