"""Which GPUs the machine has, through NVML. A machine without one is told apart from one whose driver fails."""

from __future__ import annotations

from dataclasses import dataclass

import pynvml


@dataclass(frozen=True, slots=True)
class Device:
    uuid: str
    name: str
    memory_bytes: int | None
    """None where the driver does not tell."""


@dataclass(frozen=True, slots=True)
class Inventory:
    devices: tuple[Device, ...]
    message: str
    """In words: what was found, or why nothing was."""
    ok: bool
    """False: there is a driver that fails. No GPU at all is fine."""


def look() -> Inventory:
    """Blocking, and may hang where a card has died: call it in a worker thread with a deadline."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return Inventory((), "no NVIDIA driver: everything but GPUs works", ok=True)
    except pynvml.NVMLError as error:
        return Inventory((), f"the NVIDIA driver does not answer: {error}; see `nvidia-smi`", ok=False)
    try:
        devices = tuple(_device(index) for index in range(pynvml.nvmlDeviceGetCount()))
        names = ", ".join(device.name for device in devices)
        return Inventory(devices, names or "the driver sees no GPU", ok=True)
    except pynvml.NVMLError as error:
        return Inventory((), f"the GPUs cannot be listed: {error}; see `nvidia-smi`", ok=False)
    finally:
        pynvml.nvmlShutdown()


def _device(index: int) -> Device:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError_NotSupported:
        memory = None
    return Device(pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle), memory)
