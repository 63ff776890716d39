"""An extension of Jupyter Server that tells the appliance of each save, by touching one file outside the workspace.

A hook beside the user's own ones, whatever they have configured. It runs in any Jupyter Server since 2.0 and in any
Python since 3.7, and never makes a save fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

SIGNAL = "/run/appliance/saved"
QUIETLY: ContextVar[Callable[[], bool]] = ContextVar("QUIETLY")
"""Of a save that nobody has asked for: it is no moment of the history where this says so, once all is written."""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "appliance_saved"}]


def _load_jupyter_server_extension(app: Any) -> None:
    register = getattr(app.contents_manager, "register_post_save_hook", None)
    if register is not None:
        register(saved)


def saved(**_: Any) -> None:
    with suppress(Exception):  # in doubt it is one
        if QUIETLY.get(bool)():
            return
    touch()


def touch() -> None:
    try:
        os.close(os.open(SIGNAL, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        os.utime(SIGNAL)
    except OSError:
        pass
