"""How a container is given the GPUs of its lease, and no other, by what the engine of this machine can do. Pure.

The engine's own driver (`nvidia`, through a hook of NVIDIA's toolkit) knows each card and each MIG instance by its
UUID. CDI knows names that stand in files which the toolkit wrote some time ago: it is taken only where every UUID of
the lease is such a name. A number as CDI's name (`nvidia.com/gpu=0`) is never taken: it is a card's place when the
file was written, and after a reboot or with a dead card another one has that place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from appliance.engine.gpu_failures import GENERATE, INSTALL
from appliance.engine.types import EngineInfo
from appliance.errors import EngineError

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
CUDA_VISIBLE = "CUDA_VISIBLE_DEVICES"
NOTHING = "void"
"""A value of VISIBLE: no GPU. An empty one, or none, is every GPU to images of some ages."""
CDI_KIND = "nvidia.com/gpu"
WANTED = ("compute", "utility")
"""Of the driver's capabilities: CUDA, and NVML with nvidia-smi."""
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z-]{1,80}(?:/[0-9]{1,3}){0,2}", re.ASCII)
"""Of a card or an instance, the latter also as drivers before R470 write it: MIG-GPU-UUID/GI/CI."""

Kind = Literal["cdi", "hook", "none"]


@dataclass(frozen=True, slots=True)
class Passing:
    kind: Kind
    """none: no GPU was asked for."""
    requests: tuple[Mapping[str, Any], ...] = ()
    """For HostConfig.DeviceRequests."""
    env: Mapping[str, str | None] = field(default_factory=dict)
    """Stronger than the user's and the image's; None takes the variable away."""


def passing(uuids: Sequence[str], info: EngineInfo | None) -> Passing:
    """`info`: what the engine said just now; None: nothing of CDI is known.

    Raises EngineError where one is no UUID: `all` or a number would be a valid and wrong answer to the engine.
    """
    if not uuids:
        return Passing("none", env={VISIBLE: NOTHING})
    devices = list(dict.fromkeys(uuids))
    for device in devices:
        if not _UUID.fullmatch(device):
            raise EngineError(
                f"`{device}` is not the UUID of a GPU",
                where="docker",
                hint="this is a mistake of the appliance; please report it",
            )
    names = [f"{CDI_KIND}={device}" for device in devices]
    if info and info.cdi_devices.issuperset(names):
        # what the hook would go by, were it NVIDIA's runtime that starts every container here: CDI has given all
        env: dict[str, str | None] = {VISIBLE: NOTHING, CUDA_VISIBLE: None}
        return Passing("cdi", ({"Driver": "cdi", "DeviceIDs": names},), env)
    request = {"Driver": "nvidia", "DeviceIDs": devices, "Capabilities": [["gpu", *WANTED]]}
    # numbers from an image or a user count the cards of another container: here the lease decides what CUDA sees
    return Passing("hook", (request,), {VISIBLE: ",".join(devices), CAPABILITIES: ",".join(WANTED), CUDA_VISIBLE: None})


def advice(uuids: Collection[str], info: EngineInfo) -> tuple[str, ...]:
    """What of the engine stands in the way of these GPUs and instances, each with its next step; for who looks ahead.

    What an engine says of a lease at the start of its container counts in any case: not every engine tells all.
    """
    if not uuids:
        return ()
    prefix = f"{CDI_KIND}="
    named = {name.removeprefix(prefix) for name in info.cdi_devices if name.startswith(prefix)}
    cards = {name for name in named if _UUID.fullmatch(name)}
    found = []
    if not info.gpu_runtime:
        found.append(f"the Docker engine has no way to give a container a GPU; {INSTALL}")
    if gone := sorted(cards.difference(uuids)):
        some = f"{gone[0]} and {len(gone) - 1} more" if len(gone) > 1 else gone[0]
        found.append(f"CDI names GPUs that are not there: {some}; write its list anew: {GENERATE}")
    if named and (missing := sorted(set(uuids) - cards)):
        some = f"{missing[0]} and {len(missing) - 1} more" if len(missing) > 1 else missing[0]
        found.append(
            f"CDI does not name {some} by UUID, so NVIDIA's hook is asked for it; write its list anew: {GENERATE}"
        )
    return tuple(found)
