"""Where an appliance lives. Apart from the settings: a command that only asks the daemon starts without them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """`APPLIANCE_HOME`, else `/var/lib/appliance` as root, else the XDG data directory."""
    if home := environ.get("APPLIANCE_HOME"):
        return Path(home).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/appliance")
    data = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "appliance"
