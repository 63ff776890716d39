"""What the child process says: a line of JSON each. Pure; a line that makes no sense is a ValueError.

{"step": "driver"}                                  it asks now: where a look ends, if it ends there
{"step": "card", "index": 3, "uuid": "GPU-..."}     the uuid is empty while it is not known yet
{"step": "rest"}                                    until the next look
{"inventory": {...}, "unreadable": {"3": "words"}}  a look; cards that did not even tell who they are
{"down": "words", "code": 18, "present": true}      the driver as a whole, and the child ends
{"xid": 79, "index": 3, "uuid": "GPU-...", "gi": null}
{"event": 16384, "index": 3, "uuid": "GPU-...", "gi": null}
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import orjson

from appliance.gpu.types import Device, Inventory, Mig, Process

Said = dict[str, Any]
UNAVAILABLE = 0x4000
"""An event: the card cannot be used."""


def write(said: Said) -> bytes:
    return orjson.dumps(said) + b"\n"


def read(line: bytes) -> Said:
    said = orjson.loads(line)
    if not isinstance(said, dict):
        raise ValueError(f"no object: {line[:80]!r}")
    return said


def inventory(said: Any) -> Inventory:
    try:
        return Inventory(**{**_known(Inventory, said), "devices": tuple(map(_device, said.get("devices", ())))})
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"no inventory: {error}") from None


def _device(said: Said) -> Device:
    migs = tuple(Mig(**{**_known(Mig, one), "processes": _processes(one)}) for one in said.get("migs", ()))
    return Device(**{**_known(Device, said), "migs": migs, "processes": _processes(said)})


def _processes(said: Said) -> tuple[Process, ...] | None:
    found = said.get("processes")
    return None if found is None else tuple(Process(**_known(Process, one)) for one in found)


def _known(kind: type, said: Said) -> Said:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in said.items() if name in names}
