"""What the driver reports by itself: Xids and the like, awaited on a thread of their own in the child process."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any

import pynvml

from appliance.gpu import lines, nvml

XID = 0x8
RECOVERY = 0x8000
WANTED = XID | lines.UNAVAILABLE | RECOVERY
WAIT_MS = 1000
RETRY_S = 1.0
NO_INSTANCE = 0xFFFFFFFF


class Listener:
    """`add` each card, then `start`. Where the driver reports nothing by itself, it says nothing."""

    def __init__(self, say: Callable[[lines.Said], None], happened: threading.Event) -> None:
        self._say = say
        self._happened = happened
        self._set = nvml.tell("nvmlEventSetCreate")
        self._cards: dict[int, tuple[int, str]] = {}

    def add(self, handle: nvml.Handle, index: int, uuid: str) -> None:
        """A dead card cannot be asked who it is when it reports: its handle is remembered."""
        if self._set is None:
            return
        try:
            supported = handle.ask("nvmlDeviceGetSupportedEventTypes") or 0
            if supported & WANTED:
                nvml.call("nvmlDeviceRegisterEvents", handle.handle, supported & WANTED, self._set)
                self._cards[_number(handle.handle)] = (index, uuid)
        except (nvml.Refused, nvml.Lost):
            return

    def start(self) -> None:
        if self._cards:
            threading.Thread(target=self._listen, name="events", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._set, WAIT_MS)
            except pynvml.NVMLError as error:
                if error.value != pynvml.NVML_ERROR_TIMEOUT:
                    time.sleep(RETRY_S)  # a lost card makes some drivers fail at once
                continue
            index, uuid = self._cards.get(_number(event.device), (-1, ""))
            gi = None if event.gpuInstanceId == NO_INSTANCE else int(event.gpuInstanceId)
            about: lines.Said = {"index": index, "uuid": uuid, "gi": gi}
            if event.eventType & XID:
                self._say({"xid": int(event.eventData), **about})
            else:
                self._say({"event": int(event.eventType), **about})
            self._happened.set()


def _number(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
