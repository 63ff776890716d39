"""Programs of our own that run as child processes: long work on trees, out of the daemon's interpreter.

Such a program is a module with `main(argv)`; it and all that it imports keep to the standard library, for it starts
without any other. Being a process it can be ended at any moment, and it ends when the daemon does.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

import appliance

PR_SET_PDEATHSIG = 1
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(appliance.__file__)))
_START = (
    "import sys; from importlib import import_module;"
    " sys.path.append(sys.argv[1]); import_module(sys.argv[2]).main(sys.argv[3:])"
)
"""Our own place comes last, so that nothing beside us stands in for a part of the standard library."""


def argv(module: str) -> list[str]:
    """How to start it; the program's own arguments follow."""
    return [sys.executable, "-I", "-S", "-c", _START, _HOME, module, str(os.getpid())]


def begin(arguments: list[str]) -> list[str]:
    """In the child, first of all: its arguments without the parent's process id. Ends it where the parent is gone."""
    parent, *rest = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        raise SystemExit("the daemon that asked for this is gone")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return rest
