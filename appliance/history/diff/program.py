"""How a child program begins: it ends with the daemon, may open many files, and says its failure in one line.

`python -I -S -c BOOT ROOT PROGRAM PARENT_PID ARGUMENT...`: neither the site's packages nor the environment has a say
in what a program run by root imports.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys

from appliance import paths

BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from appliance.history.diff.program import main; main()"
_PR_SET_PDEATHSIG = 1
_MEMORY = 4 << 30
"""Bytes of address space: a document that is made to be huge ends this program and nothing else."""


def main() -> None:
    _, name, parent, *arguments = sys.argv
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        raise SystemExit("the daemon that asked for this comparison is gone")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        importlib.import_module(f"appliance.history.diff.{name}").main(arguments)
    except OSError as error:
        raise SystemExit(f"{os.strerror(error.errno or 0)}: {paths.encode(str(error.filename or ''))}") from None
    except MemoryError:
        raise SystemExit(f"it takes more than {_MEMORY >> 30} GiB of memory") from None
