"""What `appliance doctor` looks at where there is an NVIDIA driver; without one it says nothing of GPUs."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = tuple[str, bool, str]

HOOK = "nvidia-container-runtime-hook"
CDI_FOLDERS = ("etc/cdi", "var/run/cdi")
TOOLKIT = "etc/nvidia-container-runtime/config.toml"
REFUSES = "accept-nvidia-visible-devices-envvar-when-unprivileged"


def local(root: Path = Path("/")) -> list[Row]:
    """Driver and container toolkit, as the files of this machine tell; needs no daemon."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        return []
    version = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", text)
    rows = [("gpu driver", True, f"kernel module {version[1]}" if version else "loaded, of unknown version")]
    specs = [str(path) for folder in CDI_FOLDERS for path in sorted((root / folder).glob("nvidia*"))]
    hook = shutil.which(HOOK)
    found = ", ".join(filter(None, (hook, *specs)))
    cure = (
        f"containers cannot be given a GPU: neither {HOOK} nor a CDI specification is here; "
        "install nvidia-container-toolkit, then restart the Docker engine, which looks for it when it starts"
    )
    rows.append(("gpu toolkit", bool(found), found or cure))
    if not specs and _refuses(root / TOOLKIT):
        # the engine passes the devices to the hook in that very variable
        cure = f"/{TOOLKIT}: {REFUSES} = false refuses containers their GPUs: set it to true, or use CDI"
        rows.append(("gpu toolkit", False, cure))
    return rows


def told(gpus: Mapping[str, Any]) -> list[Row]:
    """What the daemon's answer tells of each card."""
    rows = []
    for gpu in gpus["items"]:
        name = f"gpu {gpu['index']}"
        drained = [f"{card['uuid']} {card['state']}: {card['why']}" for card in gpu["cards"] if card["state"] != "ok"]
        words = [gpu["name"] or gpu["uuid"], gpu["lost"], *drained, *gpu["throttled"]]
        rows.append((name, not gpu["lost"] and not drained, "; ".join(filter(None, words))))
        if gpu["persistence"] is False:
            advice = "persistence mode is off, so the first use after a pause takes seconds: `nvidia-smi -pm 1`"
            rows.append((name, True, advice))
    return rows


def _refuses(config: Path) -> bool:
    try:
        found = tomllib.loads(config.read_text(errors="replace"))
    except (OSError, tomllib.TOMLDecodeError):
        return False
    return found.get(REFUSES) is False
