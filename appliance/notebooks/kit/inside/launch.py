"""Starts ipykernel in the image's own Python, be it 3.8; what that lacks comes from a folder beside, after its own.

The folder stays out of PYTHONPATH: what a cell starts knows nothing of it.
"""

import ctypes
import glob
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PACKAGES = "/opt/appliance/packages"
LIBRARIES = "/opt/appliance/jupyter/usr/lib/*/"


def load() -> Any:
    """ipykernel's entry. Libraries and packages of the image go before ours, unless it cannot do with them."""
    own = list(sys.path)
    sys.path.append(PACKAGES)
    entry = attempt() or attempt(lend_libraries)
    if entry is None:
        sys.path[:] = [PACKAGES, *own]
        entry = attempt()
    if entry is None:
        sys.exit("ipykernel does not go with this image; install ipykernel in it")
    return entry


def attempt(before: Callable[[], None] | None = None) -> Any:
    """None: it cannot be imported, and nothing of the attempt stays."""
    known = set(sys.modules)
    try:
        if before:
            before()
        from ipykernel.kernelapp import launch_new_instance  # type: ignore[import-not-found,unused-ignore]
    except Exception as error:
        sys.stderr.write(f"no ipykernel yet: {error!r}\n")
        for name in set(sys.modules) - known:
            del sys.modules[name]
        return None
    return launch_new_instance


def lend_libraries() -> None:
    """The libraries of C++, where the image has none: ZeroMQ needs them."""
    for name in ("libgcc_s.so.1", "libstdc++.so.6"):
        try:
            ctypes.CDLL(name)
        except OSError:
            for path in glob.glob(LIBRARIES + name):
                with suppress(OSError):
                    ctypes.CDLL(path, ctypes.RTLD_GLOBAL)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    load()()
