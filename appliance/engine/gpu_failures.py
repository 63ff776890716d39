"""What NVIDIA's toolkit and the engine say when a container cannot be given its GPUs, and the next step. Pure.

Most of it is the machine's trouble and passes when somebody cures that: who asked for the GPU waits. Some of it is the
image's, and stays however long one waits.
"""

from __future__ import annotations

from dataclasses import dataclass

GENERATE = "`nvidia-ctk cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml`"
"""Toolkits of some ages name cards by number only if they are not told."""
INSTALL = "install the NVIDIA container toolkit (./install.sh does), then restart the engine"
_HELPERS = ("nvidia-container-cli", "nvidia-container-runtime", "nvidia-ctk", "nvidia-cdi-hook")


@dataclass(frozen=True, slots=True)
class Trouble:
    next_step: str
    passes: bool = True
    """False: it is the image's, and comes again at each attempt."""


_KNOWN: tuple[tuple[tuple[str, ...], Trouble], ...] = (
    (
        ("requirement error",),
        Trouble("take an image for an older CUDA, or update the driver; `nvidia-smi` shows what it runs", passes=False),
    ),
    (
        ("unsatisfied condition",),
        Trouble("take an image for an older CUDA, or update the driver; `nvidia-smi` shows what it runs", passes=False),
    ),
    (
        ("nvidia-container-cli: mount error", "file exists"),
        Trouble("the image holds the driver's own libraries; remove libcuda.so* and libnvidia-* from it", passes=False),
    ),
    (
        ("nvidia-container-cli: ldcache error",),
        Trouble("ldconfig fails in this image; `docker run --rm IMAGE ldconfig` shows why", passes=False),
    ),
    (
        ("unresolvable cdi devices",),
        Trouble(f"the engine's list of GPUs is out of date; write it anew: {GENERATE}"),
    ),
    (
        ('could not select device driver "cdi"',),
        Trouble('put `"features": {"cdi": true}` into /etc/docker/daemon.json, then restart the engine'),
    ),
    (("could not select device driver",), Trouble(INSTALL)),
    (
        ("invoking the nvidia container runtime hook directly",),
        Trouble(
            'put `mode = "auto"` under [nvidia-container-runtime] in /etc/nvidia-container-runtime/config.toml, '
            f"or let CDI name the GPUs: {GENERATE}"
        ),
    ),
    (
        ("nvidia", "driver/library version mismatch"),
        Trouble("the driver was updated while it was in use; reboot, or unload its modules and load them again"),
    ),
    (("nvidia", "driver not loaded"), Trouble("load the driver; `nvidia-smi` says what is wrong with it")),
    (("nvidia", "libnvidia-ml.so"), Trouble("install or repair the driver; `nvidia-smi` says what is wrong with it")),
    (("nvidia", "unknown device"), Trouble("this GPU is not there any more; `nvidia-smi -L` lists those that are")),
)
"""The first whose phrases are all in the message counts."""


def trouble(message: str) -> Trouble | None:
    """None: it has nothing to do with GPUs."""
    lowered = message.lower()
    for phrases, found in _KNOWN:
        if all(phrase in lowered for phrase in phrases):
            return found
    if "hook" in lowered and any(helper in lowered for helper in _HELPERS):
        return Trouble("NVIDIA's toolkit failed; `nvidia-smi` and `nvidia-container-cli info` show the machine's side")
    return None
