"""Why a moment was taken. One word each; it is stored with the moment and shown in the timeline."""

from __future__ import annotations

from typing import Final, Literal

Cause = Literal[
    "start", "stop", "manual", "rollback", "undo", "restore", "fork", "interval", "idle", "backup", "save", "run"
]
"""start, stop, idle: around a session. manual: asked for by hand. rollback, undo, restore: the moment before it.
fork: what another workspace began from. interval: some time has passed and something has changed. backup: a backup
holds it. save: the user saved in Jupyter. run: around a file that was executed with nobody watching."""

MANUAL: Final = "manual"
ROLLBACK: Final = "rollback"
UNDO: Final = "undo"
RESTORE: Final = "restore"
FORK: Final = "fork"
INTERVAL: Final = "interval"
AUTOMATIC: Final = frozenset({INTERVAL, "save"})
"""Of a session that goes on, taken by the appliance itself."""
