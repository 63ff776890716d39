"""HAProxy as a program: found, checked, started in its own session, replaced without a gap, ended.

A process belongs to a directory when its command line names that directory's configuration, so one is found again
after the daemon has died, even without its pid file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from appliance.errors import RouterError

log = logging.getLogger(__name__)

LEAST_VERSION = (2, 6)
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
_TIMEOUT_S = 60.0
KILLED_S = 30.0
"""A killed process is gone at once, unless the machine has no time for it."""
_INSTALL = "install HAProxy 2.6 or newer (`apt-get install haproxy`), or set APPLIANCE_HAPROXY to the program"


def find(program: str) -> str:
    """The program's path; `sbin` directories are searched too. Raises RouterError."""
    if found := shutil.which(program, path=_PATH):
        return found
    raise RouterError("HAProxy, which serves the front door, is not installed", where=program, hint=_INSTALL)


async def version(program: str) -> str:
    """Such as `2.6.12`. Raises RouterError where it is not HAProxy or too old."""
    _, output = await _run(program, "-v")
    match = re.search(r"HA-?Proxy version (\d+)\.(\d+)(\.\d+)?", output)
    if match is None:
        raise RouterError("this program does not say that it is HAProxy", where=program, hint=_INSTALL)
    if (int(match[1]), int(match[2])) < LEAST_VERSION:
        raise RouterError(f"HAProxy {match[1]}.{match[2]} is too old", where=program, hint=_INSTALL)
    return f"{match[1]}.{match[2]}{match[3] or ''}"


async def has_lua(program: str) -> bool:
    """Whether it was built with Lua, as every distribution's is. Raises RouterError where it cannot be run."""
    _, output = await _run(program, "-vv")
    return re.search(r"^Feature list\b.*\+LUA\b", output, re.MULTILINE) is not None


async def check(program: str, config: Path) -> None:
    """Raises RouterError with HAProxy's own words if it refuses the configuration."""
    status, output = await _run(program, "-c", "-f", str(config))
    if status != 0:
        raise _refused(output, config)


async def launch(program: str, config: Path, pid_file: Path, *, old_pid: int | None = None, socket: Path) -> None:
    """Returns when it listens. It takes the listening sockets over from `old_pid`, which then finishes and ends.

    Raises RouterError with HAProxy's own words; the old process then goes on as before.
    """
    takeover = ["-x", str(socket), "-sf", str(old_pid)] if old_pid is not None else []
    status, output = await _run(program, "-D", "-f", str(config), "-p", str(pid_file), *takeover)
    if status != 0:
        raise _refused(output, config)


async def _run(*argv: str) -> tuple[int, str]:
    """Exit status and output. The environment is empty but for PATH: HAProxy expands variables in what it reads."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": _PATH},
            start_new_session=True,
        )
    except OSError as error:
        raise RouterError(f"cannot run HAProxy: {error.strerror}", where=argv[0], hint=_INSTALL) from error
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise RouterError(
            f"HAProxy did not come back within {_TIMEOUT_S:.0f} s", where=" ".join(argv), hint="repeat the command"
        ) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")


def _refused(output: str, config: Path) -> RouterError:
    return RouterError(
        f"HAProxy refused to start: {words(output)}",
        where=str(config),
        hint="the words above are HAProxy's; the port settings are APPLIANCE_HOST and APPLIANCE_PORT",
    )


def words(output: str) -> str:
    """The alerts without their prefix; everything where there are none."""
    alerts = re.findall(r"^\[ALERT\]\s*(?:\S+\s*)?\(\d+\)\s*:\s*(.*)$", output, re.MULTILINE)
    return "; ".join(alerts) or output.strip() or "it said nothing"


def running(config: Path) -> list[int]:
    """Processes of this configuration, in no order: at most one serves, others finish what they had begun."""
    own_mounts = _mounts(Path("/proc/self"))
    return [
        int(process.name)
        for process in Path("/proc").iterdir()
        # A container's process may carry any command line; it has mounts of its own.
        if process.name.isdigit() and _serves(process, config) and _mounts(process) == own_mounts
    ]


def alive(pid: int) -> bool:
    """A zombie is not alive."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _serves(process: Path, config: Path) -> bool:
    try:
        argv = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    named = any(flag == b"-f" and value == os.fsencode(config) for flag, value in pairwise(argv))
    return named and b"-D" in argv and alive(int(process.name))


def _mounts(process: Path) -> str:
    try:
        return os.readlink(process / "ns" / "mnt")
    except OSError:
        return ""


async def ended(pid: int, *, timeout_s: float) -> bool:
    """Whether the process ends within this time. It need not be a child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:  # a kernel or a sandbox without pidfd
        return await _ended_by_looking(pid, timeout_s)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        async with asyncio.timeout(timeout_s):
            await over.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return True


async def _ended_by_looking(pid: int, timeout_s: float) -> bool:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while alive(pid):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(min(0.5, timeout_s))
    return True


async def end(pids: Sequence[int], *, grace_s: float) -> None:
    """SIGTERM, and SIGKILL for those that are still there after `grace_s`."""
    for sent, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, max(grace_s, KILLED_S))):
        _signal(pids, sent)
        left = await asyncio.gather(*(ended(pid, timeout_s=patience_s) for pid in pids))
        pids = [pid for pid, over in zip(pids, left, strict=True) if not over]
    if pids:
        raise RouterError(f"HAProxy (pid {pids[0]}) cannot be ended", hint=f"look at it: ps -fp {pids[0]}")


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
