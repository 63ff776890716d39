"""Programs that work on volumes: argv lists, a deadline, and the exact text they answer with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.errors import StorageError

_PATHS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_REAP_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    out: bytes
    err: str
    """Stripped; never empty where `code` is not 0."""


def program_path() -> str:
    """PATH with the system directories, which a daemon's or a user's PATH may lack."""
    path = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([part for part in path if part] + list(_PATHS)))


def run(argv: Sequence[str], *, timeout_s: float, descriptors: Sequence[int] = ()) -> Answer:
    """Run to the end; the program gets these descriptors under the same numbers.

    Raises StorageError where the program is missing or has not ended after `timeout_s`.
    """
    environment = {**os.environ, "LC_ALL": "C", "PATH": program_path()}
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd="/",
            pass_fds=descriptors,
        )
    except FileNotFoundError:
        raise StorageError(f"the program {argv[0]!r} is not installed", hint="`appliance doctor` says how") from None
    except OSError as error:
        raise StorageError(f"cannot start {argv[0]!r}: {error}", hint="free some memory or processes") from error
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise StorageError(
            f"`{' '.join(argv)}` has not answered within {timeout_s:g} s",
            hint="look for a failing disk: `dmesg`, and `zpool status` where there is a pool",
        ) from None
    except BaseException:
        _kill(process)
        raise
    text = err.decode("utf-8", "replace").strip()
    if process.returncode and not text:
        text = f"exit code {process.returncode}"
    return Answer(process.returncode, out, text)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    try:
        process.communicate(timeout=_REAP_S)
    except subprocess.TimeoutExpired:
        return  # it hangs inside the kernel; waiting longer would only hang this thread as well
