"""The child process that asks NVML, over and over, and tells on stdout (`lines`).

A process of its own: a call into a dead card may never return, not even to be cancelled, a library may end whoever
has it loaded, and after an upgrade of the driver only a new process gets the new library. It ends with its parent.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance.gpu import events, lines, nvml
from appliance.gpu.reading import Reader
from appliance.gpu.types import Device, Inventory

SELDOM_S = 10.0
"""Between two looks at what changes seldom."""
REST = 0.1
"""Of the time between two looks, at least, however long a look takes."""
PR_SET_PDEATHSIG = 1
PCI = Path("/sys/bus/pci/devices")
NVIDIA = "0x10de"
SKIPPED = "skipped"
"""In `Device.lost`: it was not asked, as the parent wished."""


class Said:
    """Stdout, kept for lines of ours alone: whatever else is printed goes to stderr."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def __call__(self, said: lines.Said) -> None:
        """Ends the process where nobody listens."""
        text = lines.write(said)
        try:
            with self._lock:
                while text:
                    text = text[os.write(self._descriptor, text) :]
        except OSError:
            os._exit(0)


class Probe:
    def __init__(self, say: Said, *, skip: Sequence[str], skip_index: Sequence[int]) -> None:
        self._say = say
        self._skip = frozenset(skip)
        self._skip_index = frozenset(skip_index)
        self._readers: dict[int, Reader | Device] = {}
        self._unreadable: dict[str, str] = {}
        self.hurry = threading.Event()
        """Something has happened: what changes seldom is looked at in the next round."""

    def begin(self) -> None:
        """Raises Down."""
        self._say({"step": "driver"})
        nvml.begin()
        self._library = nvml.Library()
        cuda = nvml.tell("nvmlSystemGetCudaDriverVersion_v2") or nvml.tell("nvmlSystemGetCudaDriverVersion")
        self._driver = nvml.text(nvml.tell("nvmlSystemGetDriverVersion"))
        self._cuda = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
        for index in range(nvml.tell("nvmlDeviceGetCount") or 0):
            self._open(index)
        listener = events.Listener(self._say, self.hurry)
        for index, reader in self._readers.items():
            if isinstance(reader, Reader):
                self._say({"step": "card", "index": index, "uuid": reader.fixed.uuid})
                listener.add(reader.handle, index, reader.fixed.uuid)
        listener.start()

    def _open(self, index: int) -> None:
        self._say({"step": "card", "index": index, "uuid": ""})
        if index in self._skip_index:
            self._unreadable[str(index)] = SKIPPED
            return
        try:
            handle = nvml.call("nvmlDeviceGetHandleByIndex", index)
            uuid = nvml.text(nvml.call("nvmlDeviceGetUUID", handle)) or ""
        except nvml.Lost as lost:
            self._unreadable[str(index)] = str(lost)
            return
        except nvml.Refused as error:
            self._unreadable[str(index)] = f"does not say who it is ({error})"
            return
        self._say({"step": "card", "index": index, "uuid": uuid})
        if uuid in self._skip:
            self._readers[index] = Device(uuid, index, lost=SKIPPED)
            return
        try:
            self._readers[index] = Reader.of(index, uuid, handle)
        except nvml.Lost as lost:
            self._readers[index] = Device(uuid, index, lost=str(lost))

    def look(self, *, seldom: bool) -> None:
        """Tell all that is to be told now. Raises Down."""
        devices = []
        for index, reader in self._readers.items():
            if isinstance(reader, Device):
                devices.append(reader)
                continue
            self._say({"step": "card", "index": index, "uuid": reader.fixed.uuid})
            try:
                devices.append(reader.read(seldom=seldom))
            except nvml.Lost as lost:
                devices.append(Device(reader.fixed.uuid, index, lost=str(lost)))
        found = Inventory(time.time(), tuple(devices), self._driver, self._cuda, present=True)
        self._say({"inventory": found, "unreadable": self._unreadable})
        self._say({"step": "rest"})

    def replaced(self) -> bool:
        return self._library.replaced()


def run(probe: Probe, say: Said, *, sample_s: float, pci: Path) -> None:
    """Until the driver fails as a whole, or was replaced; then another process is to go on."""
    try:
        probe.begin()
        due, looked = time.monotonic(), float("-inf")
        while not probe.replaced():
            now = time.monotonic()
            seldom = now - looked >= SELDOM_S or probe.hurry.is_set()
            if seldom:
                probe.hurry.clear()
                looked = now
            probe.look(seldom=seldom)
            due = max(due + sample_s, time.monotonic() + REST * sample_s)  # what was missed is not made up for
            time.sleep(max(0.0, due - time.monotonic()))
    except nvml.Down as down:
        say(down_line(down, cards=count_cards(pci)))


def down_line(down: nvml.Down, *, cards: int | None) -> lines.Said:
    """A library without a card is what images and distributions leave behind: no driver, for all that matters."""
    if down.code == nvml.ABSENT:
        return {"down": str(down), "code": down.code, "present": False}
    if down.code == nvml.NOT_LOADED and cards == 0:
        words = "no NVIDIA card, though NVIDIA's library is here: everything but GPUs works"
        return {"down": words, "code": nvml.ABSENT, "present": False}
    return {"down": str(down), "code": down.code, "present": True}


def count_cards(pci: Path) -> int | None:
    """Cards of NVIDIA on the bus, whatever the driver says; None: the bus cannot be read."""
    try:
        found = list(pci.iterdir())
    except OSError:
        return None
    return sum(_first(one / "vendor") == NVIDIA and _first(one / "class").startswith("0x03") for one in found)


def _first(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def end_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the daemon that asked for this is gone")


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--sample", type=float, default=1.0)
    parser.add_argument("--skip", action="append", default=[])
    parser.add_argument("--skip-index", action="append", type=int, default=[])
    parser.add_argument("--pci", type=Path, default=PCI)
    arguments: Any = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: the daemon ends us
    end_with_parent(arguments.parent)
    say = Said()
    probe = Probe(say, skip=arguments.skip, skip_index=arguments.skip_index)
    run(probe, say, sample_s=arguments.sample, pci=arguments.pci)
    sys.stderr.flush()
    os._exit(0)  # a listener that hangs keeps nobody


if __name__ == "__main__":
    main(sys.argv[1:])
