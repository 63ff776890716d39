"""The other side of `child`: reads questions, works, answers. Standard library only, without a package of others."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from appliance.errors import ApplianceError

TELL_S = 0.3
"""Between two answers on the way."""
PR_SET_PDEATHSIG = 1

Answer = dict[str, Any]
Work = Callable[[Answer], Iterator[Answer]]


def main(argv: list[str]) -> None:
    """`argv` is the work and the process that must live as long as this one."""
    name, parent = argv
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        raise SystemExit("the daemon that asked for this is gone")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.umask(0o077)
    work = _WORKS[name]()
    try:
        while asked := sys.stdin.readline():
            _answer(work(json.loads(asked)))
    except OSError as error:
        text = os.strerror(error.errno) if error.errno else str(error)
        _fail(error.errno, text, _shown(error.filename), "")
    except ApplianceError as error:
        _fail(None, error.message, error.where, error.hint)


def _answer(answers: Iterator[Answer]) -> None:
    told, last = time.monotonic(), Answer()
    for last in answers:
        if (now := time.monotonic()) - told >= TELL_S:
            print(json.dumps(last), flush=True)
            told = now
    print(json.dumps({**last, "end": True}), flush=True)


def _fail(number: int | None, message: str, path: str, hint: str) -> None:
    print(json.dumps({"errno": number, "message": message, "path": path, "hint": hint}), file=sys.stderr)
    raise SystemExit(1)


def _shown(path: object) -> str:
    if isinstance(path, (str, bytes, os.PathLike)):
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    return ""


def _pack() -> Work:
    from appliance.backup.pack import work  # deferred: each program loads what it needs

    return work


def _check() -> Work:
    from appliance.backup.check import work  # deferred with the others

    return work


def _prune() -> Work:
    from appliance.backup.prune import work  # deferred with the others

    return work


_WORKS: dict[str, Callable[[], Work]] = {"pack": _pack, "check": _check, "prune": _prune}
